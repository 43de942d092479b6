"""The history in the page: who wrote what, stepping through it, naming it, and going back beside others."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from pages import CLOSED, Person, at, call, content, make, set_role, share
from playwright.sync_api import Locator, Page, Route, expect
from pycrdt import Doc, Text
from replay import paper, typed
from serverprocess import Server

from collab.log import Actor, Batch, Entry, Origin
from storage.database import Database
from storage.log import UpdateLog

INES, TOMAS = Actor("user:ines", "user", "Ines Duarte"), Actor("user:tomas", "user", "Tomas Weber")
SILENCE_US = 600_000_000  # ends a version
GREEN = "rgb(28, 122, 108)"  # the ink that Person brings


# A server of its own, to be stopped and started.
OWN = pytest.mark.parametrize("server", [{}], indirect=True, ids=["own"])


@pytest.fixture
def server(
    shared_server: Server, make_server: Callable[..., Server], request: pytest.FixtureRequest
) -> Server:
    """One for all, with a reader of histories that has started, unless a test wants its own."""
    return make_server(**request.param) if hasattr(request, "param") else shared_server


def history(page: Page) -> Locator:
    """Open it, and wait until it shows something."""
    page.get_by_role("button", name="History", exact=True).click()
    panel = page.get_by_role("region", name="History")
    # A history is read by a process of its own, which starts with the first question.
    expect(panel.locator(".version[aria-current=true]")).to_be_visible()
    settle(panel)
    return panel


def settle(panel: Locator) -> None:
    expect(panel.locator(".past-text")).not_to_have_attribute("aria-busy", "true")


def place(panel: Locator) -> Locator:
    return panel.locator(".place")


def write_at_start(person: Person, text: str) -> None:
    person.page.locator(".cm-content[contenteditable=true]").focus()
    person.page.keyboard.press("Control+Home")
    person.page.keyboard.type(text)


def name_version(person: Person, document: str, name: str) -> int:
    """Name what is there now, which ends a version; returns its seq."""
    person.is_told("saved", "Saved")
    answer = person.context.request.post(f"{person.url}{at(document)}/versions", data={"name": name})
    assert answer.ok, answer.text()
    seq: int = answer.json()["seq_to"]
    return seq


@pytest.fixture
def versions_of_a_paper(server: Server) -> int:
    """The document "paper": sittings by Ines and Tomas in turn, ten minutes apart. Returns how many."""
    doc: Doc[Any] = Doc(client_id=7)
    text = doc.get("content", type=Text)
    count, size = 60, 10
    first = time.time_ns() // 1000 - count * SILENCE_US
    entries: list[Entry] = []
    subscription = doc.observe(lambda event: updates.append(event.update))
    for number, (position, deleted, inserted) in enumerate(paper(0, count * size)):
        updates: list[bytes] = []
        with doc.transaction():
            del text[position : position + deleted]
            text.insert(position, inserted)
        sitting = number // size
        received = first + sitting * SILENCE_US + number % size * 1_000_000
        author = (INES, TOMAS)[sitting % 2]
        entries += [Entry(len(entries) + 1, author, 7, received, Origin.EDIT, data) for data in updates]
    doc.unobserve(subscription)

    async def append() -> None:
        database = await Database.open(f"sqlite:///{server.data}/collab.db")
        await UpdateLog(database).append([Batch("paper", 1, entries)])
        await database.close()

    server.stop()
    with ThreadPoolExecutor(1) as beside:  # in this thread runs the loop of Playwright
        beside.submit(asyncio.run, append()).result()
    server.start()
    return count


def test_the_list_says_who_wrote_and_every_change_is_stepped_through_in_their_inks(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    for person in (ada, grace):
        person.open("notes")
    ada.write("One bird. <img src=x onerror=alert(1)> The end.")
    name_version(ada, "notes", "First")
    grace.sees("One bird. <img src=x onerror=alert(1)> The end.")
    write_at_start(grace, "Listen: ")
    grace.write(" Or not.")
    for _ in range(4):
        grace.page.keyboard.press("Backspace")
    ada.sees("Listen: One bird. <img src=x onerror=alert(1)> The end. Or ")
    grace.is_told("saved", "Saved")

    panel = history(ada.page)
    newest, first = panel.locator(".version").all()
    expect(newest.locator(".author")).to_have_text("Grace")
    expect(first.locator(".author")).to_have_text("Ada")
    expect(first.locator("strong")).to_have_text("First")
    expect(panel.get_by_role("heading", name="Today", exact=True)).to_be_visible()
    # What came and went in the same sitting is in its count, and not in its text.
    expect(newest.locator(".stats")).to_have_text("+16 −4")
    expect(place(panel)).to_have_text("1 of 2")
    expect(panel.locator("ins")).to_have_text(["Listen: ", " Or "])
    panel.get_by_role("button", name="Next change").click()
    expect(place(panel)).to_have_text("2 of 2")
    expect(panel.locator(".pointed")).to_have_text(" Or ")
    panel.get_by_role("button", name="Next change").click()
    expect(place(panel)).to_have_text("1 of 2")
    ada.page.keyboard.press("Alt+ArrowUp")
    expect(place(panel)).to_have_text("2 of 2")
    expect(ada.page.locator(".hidden[aria-live]")).to_contain_text("2 of 2 Grace wrote “Or”.")

    first.click()
    expect(panel.locator("ins")).to_have_text(["One bird. <img src=x onerror=alert(1)> The end."])
    assert panel.locator("img").count() == 0
    assert (
        first.locator(".author").evaluate("chip => getComputedStyle(chip, '::before').backgroundColor")
        == GREEN
    )
    panel.get_by_role("radio", name="Against now").check()
    expect(panel.locator("ins")).to_have_text(["Listen: ", " Or "])
    panel.get_by_role("radio", name="Text").check()
    expect(panel.locator(".cm-line")).to_have_text("One bird. <img src=x onerror=alert(1)> The end.")
    expect(panel.locator("ins, del")).to_have_count(0)


def test_a_version_is_named_renamed_and_unnamed_and_the_name_comes_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("named")
    ada.write("Something to keep.")
    ada.is_told("saved", "Saved")
    panel = history(ada.page)
    names = panel.locator(".version strong")
    panel.get_by_role("button", name="Name this version").click()
    ada.page.keyboard.type("<b>Draft</b>")
    ada.page.keyboard.press("Enter")
    expect(names).to_have_text("<b>Draft</b>")
    expect(panel.get_by_role("heading", name="<b>Draft</b>")).to_be_visible()
    panel.get_by_role("button", name="Rename").click()
    ada.page.keyboard.type("Sent")
    ada.page.keyboard.press("Escape")  # leaves the field, not the history
    expect(names).to_have_text("<b>Draft</b>")
    panel.get_by_role("button", name="Rename").click()
    ada.page.keyboard.type("Sent")
    ada.page.keyboard.press("Enter")
    expect(names).to_have_text("Sent")
    panel.get_by_role("button", name="Remove the name").click()
    expect(names).to_have_count(0)
    panel.get_by_role("checkbox", name="Named only").check()
    expect(panel.get_by_text("No version has a name yet.")).to_be_visible()
    ada.page.locator(".toasts").get_by_role("button", name="Undo").click()
    expect(names).to_have_text("Sent")
    (version,) = ada.asks(f"{at('named')}/versions?kind=named")["versions"]
    assert version["label"]["name"] == "Sent"


def test_restoring_beside_someone_who_writes_on_keeps_their_place_and_undo_keeps_what_they_wrote_since(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    for person in (ada, grace):
        person.open("both")
    ada.write("The plan. ")
    name_version(ada, "both", "Plan")
    ada.write("Ruined. ")
    grace.sees("The plan. Ruined. ")
    grace.write("Grace: ")
    ada.sees("The plan. Ruined. Grace: ")
    ada.is_told("saved", "Saved")
    panel = history(ada.page)
    panel.locator(".version").nth(1).click()
    settle(panel)
    panel.get_by_role("button", name="Restore this version").click()
    dialog = ada.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Go back to Plan?")
    expect(dialog).to_contain_text("15 characters go.")
    # It is not what was agreed to any more, and says so.
    grace.page.keyboard.type("hello")
    grace.is_told("saved", "Saved")
    dialog.get_by_role("button", name="Restore", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("Grace")
    expect(dialog).to_contain_text("20 characters go.")
    dialog.get_by_role("button", name="Restore all the same").click()
    expect(panel).to_have_count(0)
    expect(ada.page.locator(".page > .cm-editor .cm-content")).to_be_focused()
    for person in (ada, grace):
        person.sees("The plan. ")
    assert grace.page.evaluate("document.activeElement.classList.contains('cm-content')")
    grace.page.keyboard.type("Still here.")
    ada.sees("The plan. Still here.")
    grace.is_told("saved", "Saved")
    ada.page.locator(".toasts").get_by_role("button", name="Undo").click()
    expect(ada.page.get_by_text("as it was before you restored")).to_be_visible()
    # Grace's caret stood where the text had been; her words are kept, on one side of it or the other.
    grace.page.wait_for_function(
        "() => document.querySelector('.cm-content').textContent.includes('Ruined. ')"
    )
    text = content(server, "both")
    assert text.replace("Still here.", "") == "The plan. Ruined. Grace: hello"
    assert text.count("Still here.") == 1
    for person in (ada, grace):
        person.sees(text)


@OWN
def test_a_long_history_comes_as_one_scrolls_and_the_slider_goes_to_any_moment(
    arrive: Callable[..., Person], server: Server, versions_of_a_paper: int
) -> None:
    ada = arrive("Ada")
    ada.open("paper")
    ada.is_told("saved")
    panel = history(ada.page)
    rows = panel.locator(".version")
    expect(rows).to_have_count(50)
    expect(rows.nth(0).locator(".author")).to_have_text("Tomas Weber")
    expect(rows.nth(1).locator(".author")).to_have_text("Ines Duarte")
    inks = rows.locator(".author").evaluate_all(
        "chips => [...new Set(chips.map((chip) => chip.style.cssText))]"
    )
    assert len(inks) == 2
    rows.nth(49).scroll_into_view_if_needed()
    expect(rows).to_have_count(versions_of_a_paper)

    slider = panel.get_by_role("slider", name="Moment in the history")
    slider.focus()
    ada.page.keyboard.press("Home")
    expect(rows.last).to_have_attribute("aria-current", "true")
    for _ in range(2):
        ada.page.keyboard.press("Shift+ArrowRight")
    settle(panel)
    expect(panel.locator("ins")).to_have_text(typed(paper(0, 3)))
    assert "Ines Duarte" in (slider.get_attribute("aria-valuetext") or "")
    box = slider.bounding_box()
    assert box
    ada.page.mouse.move(box["x"] + 10, box["y"] + 10)
    ada.page.mouse.down()
    ada.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 10, steps=15)
    ada.page.mouse.up()
    settle(panel)
    current = panel.locator(".version[aria-current=true]")
    # A sitting may lie in two bars.
    assert abs(int(current.get_attribute("data-to") or 0) - versions_of_a_paper * 5) < 60
    ada.page.keyboard.press("End")
    expect(rows.first).to_have_attribute("aria-current", "true")

    # The arrows of the list choose too, and any two may be compared.
    rows.nth(30).focus()
    ada.page.keyboard.press("ArrowDown")
    expect(rows.nth(31)).to_have_attribute("aria-current", "true")
    expect(rows.nth(31)).to_be_focused()
    panel.get_by_role("radio", name="Any two").check()
    panel.get_by_role("radio", name="Compare with").nth(0).check()
    settle(panel)
    expect(panel.locator(".past-text")).to_contain_text(typed(paper(0, 40))[:20])
    shown = panel.locator(".past-text ins").all_text_contents()
    whole = content(server, "paper")
    assert sum(map(len, shown)) > len(whole) / 4
    ada.page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    expect(ada.page.get_by_role("button", name="History", exact=True)).to_have_attribute(
        "aria-expanded", "false"
    )


@CLOSED
def test_a_viewer_has_no_history_and_who_becomes_one_loses_it(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "rights")
    ada.page.goto(share(server, "rights", "viewer")["url"])
    ada.is_told("reading")
    set_role(server, "rights", ada.actor(), "editor")
    ada.write("Mine.")
    ada.is_told("saved", "Saved")
    panel = history(ada.page)
    panel.get_by_role("button", name="Restore this version").click()
    expect(ada.page.get_by_role("dialog")).to_contain_text("There is nothing to restore.")
    set_role(server, "rights", ada.actor(), "viewer")
    ada.is_told("reading")
    expect(panel).to_have_count(0)
    expect(ada.page.get_by_role("dialog")).to_have_count(0)
    expect(ada.page.get_by_role("button", name="History", exact=True)).to_have_count(0)
    grace = arrive("Grace")
    grace.page.goto(share(server, "rights", "viewer")["url"])
    grace.is_told("reading")
    grace.sees("Mine.")
    expect(grace.page.get_by_role("button", name="History", exact=True)).to_have_count(0)


def test_what_is_written_while_the_list_is_asked_for_again_comes_into_it_too(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("late")
    ada.write("One.")
    ada.is_told("saved", "Saved")
    grace.open("late")
    grace.is_told("saved")
    history(ada.page)
    held: list[Route] = []
    ada.page.route("**/versions?*", lambda route: held.append(route), times=1)
    with ada.page.expect_request("**/versions?*"):
        grace.write(" Two.")
    grace.write(" Three.")
    expect(ada.page.locator(".cm-content").first).to_contain_text("Three.")
    with ada.page.expect_request("**/versions?*"):
        held[0].continue_()


def test_on_a_phone_the_list_lies_over_the_text_and_makes_way_for_it(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada", viewport={"width": 390, "height": 780}, has_touch=True)
    ada.open("phone")
    ada.write("Written on the way.")
    ada.is_told("saved", "Saved")
    panel = history(ada.page)
    versions = panel.locator(".sittings")
    # Only what is on top can be reached.
    for covered in (panel.locator(".reading"), ada.page.locator(".bar"), ada.page.locator("main")):
        expect(covered).to_have_js_property("inert", True)
    versions.locator(".version").click()
    expect(versions).to_be_hidden()
    expect(panel.locator(".reading")).to_have_js_property("inert", False)
    expect(panel.locator("ins")).to_have_text("Written on the way.")
    slider = panel.get_by_role("slider").bounding_box()
    assert slider
    assert slider["height"] > 40
    assert ada.page.evaluate("document.documentElement.scrollWidth") == 390
    overflowing = panel.locator(".past-head").evaluate("head => head.scrollWidth > head.clientWidth")
    assert not overflowing
    panel.get_by_role("button", name="Versions").click()
    expect(versions).to_be_visible()
    ada.page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    for uncovered in (ada.page.locator(".bar"), ada.page.locator("main")):
        expect(uncovered).to_have_js_property("inert", False)


@OWN
def test_a_history_that_takes_long_is_waited_for_while_the_server_is_there(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("long")
    ada.write("Kept.")
    ada.is_told("saved", "Saved")
    panel = history(ada.page)
    ada.page.keyboard.press("Escape")
    expect(panel).to_have_count(0)
    server.freeze_children()
    ada.page.get_by_role("button", name="History", exact=True).click()
    expect(panel).to_be_visible()
    ada.page.wait_for_timeout(12_000)  # longer than other questions may take
    expect(panel.get_by_role("alert").filter(visible=True)).to_have_count(0)
    server.thaw_children()
    expect(panel.locator("ins")).to_have_text("Kept.")


@OWN
def test_without_a_server_the_history_says_so_and_comes_when_it_is_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("away")
    ada.write("Kept.")
    ada.is_told("saved", "Saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    ada.page.get_by_role("button", name="History", exact=True).click()
    panel = ada.page.get_by_role("region", name="History")
    expect(panel.get_by_role("alert")).to_have_text("The server cannot be reached.")
    server.start()
    panel.get_by_role("button", name="Try again").click()
    expect(panel.locator("ins")).to_have_text("Kept.")
    # What is written meanwhile comes into the list on its own.
    grace = arrive("Grace")
    grace.open("away")
    grace.is_told("saved")  # else some of it comes as what was written before the line was up
    grace.write(" And more.")
    expect(panel.locator(".version .author")).to_have_text(["Ada", "Grace"])
    assert json.loads(call(server, "GET", f"{at('away')}/versions"))["head"] == 15
