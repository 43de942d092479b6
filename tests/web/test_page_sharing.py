"""The share dialog, as the people on both sides of it see it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from pages import Person, ada_and_bob, call, content, shown
from playwright.sync_api import Locator, Route, expect
from serverprocess import Server


@pytest.fixture
def server(
    closed_server: Server, make_server: Callable[..., Server], request: pytest.FixtureRequest
) -> Server:
    return make_server(**request.param) if hasattr(request, "param") else closed_server


def sharing(person: Person) -> Locator:
    """Open the dialog, and wait until it knows who there is."""
    person.page.get_by_role("button", name="Share", exact=True).click()
    dialog = person.page.get_by_role("dialog")
    expect(dialog.get_by_role("listitem").first).to_be_visible()
    return dialog


def add(dialog: Locator, who: str, role: str | None = None) -> None:
    dialog.get_by_label("E-mail address").fill(who)
    if role is not None:
        dialog.get_by_label("Role", exact=True).select_option(label=role)
    dialog.get_by_role("button", name="Add").click()


def felt(person: Person, kind: str) -> None:
    expect(person.page.locator(".status")).to_have_attribute("data-kind", kind)


def test_who_is_let_in_reads_then_writes_then_is_shut_out_at_once_and_let_back_in(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, bob, _ = ada_and_bob(arrive, server, "plan")
    dialog = sharing(ada)
    add(dialog, "bob-plan@example.org", "may read")
    expect(dialog.get_by_text("Bob Marsh: may read.")).to_be_visible()

    bob.open("plan")
    bob.is_told("reading")
    bob.sees("Ours.")
    # He may know his own part and the address, and nothing of who else is there.
    bob.page.get_by_role("button", name="Share", exact=True).click()
    his = bob.page.get_by_role("dialog")
    expect(his).to_contain_text("You may read this document.")
    expect(his.get_by_label("Address", exact=True).get_by_role("textbox")).to_have_value(
        f"{server.url}/d/plan"
    )
    expect(his.get_by_role("button")).to_have_count(2)

    role = dialog.get_by_label("What Bob Marsh may do")
    role.focus()
    role.select_option(label="may write")
    felt(bob, "saved")
    expect(his).to_contain_text("You may write in this document.")
    bob.page.keyboard.press("Escape")
    bob.write(" His too.")
    ada.sees("Ours. His too.")
    expect(role).to_be_focused()

    # The history is a right of its own.
    expect(bob.page.get_by_role("button", name="History")).to_be_visible()
    dialog.get_by_label("Bob Marsh reads the history").uncheck()
    expect(dialog.get_by_label("Bob Marsh reads the history")).not_to_be_checked()
    bob.page.reload()
    bob.is_told("saved")
    expect(bob.page.get_by_role("button", name="History")).to_be_hidden()

    dialog.get_by_role("button", name="Remove Bob Marsh").click()
    felt(bob, "stopped")
    assert shown(bob.page) == "Ours. His too."
    expect(bob.page.get_by_role("button", name="Share", exact=True)).to_be_hidden()
    dialog.get_by_role("button", name="Undo").press("Enter")
    expect(dialog.get_by_label("What Bob Marsh may do")).to_be_focused()
    bob.open("plan")
    bob.is_told("saved")
    # And still without the history.
    expect(dialog.get_by_label("Bob Marsh reads the history")).not_to_be_checked()


def test_two_changes_of_one_person_s_rights_do_not_undo_each_other(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, _, id = ada_and_bob(arrive, server, "both")
    dialog = sharing(ada)
    add(dialog, "bob-both@example.org", "may write")
    expect(dialog.get_by_text("Bob Marsh: may write.")).to_be_visible()
    held: list[Route] = []
    ada.page.route("**/members", lambda route: held.append(route), times=1)
    with ada.page.expect_request("**/members"):
        dialog.get_by_label("What Bob Marsh may do").select_option(label="may read")
    dialog.get_by_label("Bob Marsh reads the history").uncheck()
    ada.page.wait_for_timeout(500)  # in which the second would be asked for with the role before the first
    with ada.page.expect_response(lambda answer: answer.request.method == "PUT"):
        held[0].continue_()
    expect(dialog.get_by_label("What Bob Marsh may do")).to_have_value("viewer")
    expect(dialog.get_by_label("Bob Marsh reads the history")).not_to_be_checked()
    members = json.loads(call(server, "GET", "/api/documents/both/members"))["members"]
    assert [one["role"] for one in members if one["person"] == id] == ["viewer"]


def test_a_link_is_copied_once_lets_in_with_its_password_and_is_revoked_for_all(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, guest = arrive("Ada"), arrive("Guest")
    ada.join(server, "ada-printers@example.org", "Ada")
    ada.context.grant_permissions(["clipboard-read", "clipboard-write"])
    ada.open("printers")
    ada.write("Ours.")
    ada.is_told("saved")
    dialog = sharing(ada)
    dialog.get_by_role("button", name="New link").click()
    dialog.get_by_label("What it gives").select_option(label="may write")
    dialog.get_by_label("Ends").select_option(label="in a week")
    dialog.get_by_label("Password").fill("open sesame")
    dialog.get_by_label("For whom").fill("the printers")
    dialog.get_by_role("button", name="Make the link").click()
    link = dialog.get_by_role("listitem").filter(has_text="the printers")
    expect(link).to_contain_text(re.compile("may write · until .+ · with a password · Nobody has come"))
    copy = link.get_by_role("button", name="Copy")
    expect(copy).to_be_focused()
    copy.press("Enter")
    expect(link.get_by_role("button", name="Copied")).to_be_visible()
    url = ada.page.evaluate("navigator.clipboard.readText()")
    assert url.startswith(f"{server.url}/s#link_")

    guest.page.goto(url)
    guest.page.get_by_label("Password").fill("open sesame")
    guest.page.get_by_role("button", name="Open the document").click()
    guest.is_told("saved")
    guest.write(" A guest's.")
    ada.sees("Ours. A guest's.")

    ada.page.keyboard.press("Escape")
    expect(ada.page.get_by_role("button", name="Share", exact=True)).to_be_focused()
    dialog = sharing(ada)
    link = dialog.get_by_role("listitem").filter(has_text="the printers")
    expect(link).to_contain_text("1 person came through it: Guest")
    expect(link.get_by_role("textbox")).to_have_count(0)
    link.get_by_role("button", name="Revoke").click()
    expect(link).to_contain_text("Everybody who came through it loses what it gave")
    felt(guest, "saved")
    link.get_by_role("button", name="Revoke", exact=True).last.click()
    felt(guest, "stopped")
    expect(dialog).to_contain_text("The link is revoked.")
    guest.page.goto("about:blank")
    guest.page.goto(url)
    expect(guest.page.get_by_role("heading", name="This link does not open")).to_be_visible()


def test_nobody_is_locked_out_by_accident(arrive: Callable[..., Person], server: Server) -> None:
    ada, _, _ = ada_and_bob(arrive, server, "owners", bob="Bob")
    dialog = sharing(ada)
    mine = dialog.get_by_label("What Ada may do")
    expect(mine).to_be_disabled()
    expect(dialog).to_contain_text("The only owner.")
    expect(dialog.get_by_role("button", name="Remove")).to_have_count(0)
    add(dialog, "bob-owners@example.org", "owner")
    expect(mine).to_be_enabled()
    mine.select_option(label="may write")
    expect(dialog).to_contain_text("You will not be able to share this document any more.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(mine).to_have_value("owner")
    mine.select_option(label="may write")
    dialog.get_by_role("button", name="Go on").click()
    expect(dialog).to_contain_text("You may write in this document.")
    expect(dialog.get_by_label("E-mail address")).to_have_count(0)
    ada.is_told("saved")


def test_what_cannot_be_done_is_said_where_it_was_asked(
    arrive: Callable[..., Person], server: Server
) -> None:
    # As on a page without HTTPS.
    ada = arrive("Ada")
    ada.context.add_init_script("delete Navigator.prototype.clipboard")
    ada.join(server, "ada-refusals@example.org", "Ada")
    ada.open("refusals")
    ada.is_told("saved")
    # Nothing was written yet: what is shared is made first.
    dialog = sharing(ada)
    add(dialog, "ada")
    expect(dialog).to_contain_text("That is no e-mail address.")
    add(dialog, "eve@example.org")
    expect(dialog).to_contain_text("Nobody has an account with 'eve@example.org'")
    dialog.get_by_role("button", name="Make a link for them").click()
    expect(dialog.get_by_label("For whom")).to_have_value("eve@example.org")
    dialog.get_by_label("Ends").select_option(label="on a day of your choice…")
    dialog.get_by_role("button", name="Make the link").click()
    expect(dialog).to_contain_text("Choose a day that is still to come.")
    expect(dialog.get_by_label("Last day")).to_be_focused()
    # Escape ends the form, and not the dialog with it.
    dialog.get_by_label("For whom").press("Escape")
    expect(dialog.get_by_role("button", name="New link")).to_be_focused()
    address = dialog.get_by_label("Address", exact=True)
    address.get_by_role("button", name="Copy").click()
    expect(address.get_by_role("button", name="Copied")).to_be_visible()

    server.stop()
    dialog.get_by_role("button", name="New link").click()
    dialog.get_by_role("button", name="Make the link").click()
    expect(dialog).to_contain_text("The server cannot be reached.")
    server.start()
    dialog.get_by_role("button", name="Make the link").click()
    expect(dialog).to_contain_text("The link is made.")
    dialog.get_by_role("button", name="Close").click()
    ada.page.locator(".cm-content").focus()
    ada.page.keyboard.press("Control+v")
    ada.is_told("saved")
    assert content(server, "refusals").strip("<>") == f"{server.url}/d/refusals"


@pytest.mark.parametrize("server", [{}], indirect=True, ids=["open"])
def test_where_everybody_may_do_everything_the_dialog_says_so(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("open")
    ada.write("For all.")
    ada.is_told("saved")
    dialog = sharing(ada)
    expect(dialog).to_contain_text("Everybody who reaches this server may do everything.")
    add(dialog, "user:grace", "may read")
    expect(dialog.get_by_label("What grace may do")).to_have_value("viewer")
    assert '"user:grace"' in call(server, "GET", "/api/documents/open/members")
