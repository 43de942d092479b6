"""The page in a real browser against a real server: what people see, and that none of it is a lie."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable
from urllib.parse import quote

import pytest
from pages import (
    CLOSED,
    PASSWORD,
    Person,
    at,
    call,
    content,
    delete_database,
    invitation,
    make,
    set_role,
    share,
    shown,
    stretched,
)
from playwright.sync_api import APIResponse, Browser, Locator, Route, WebSocketRoute, expect
from serverprocess import Server

FIRST_ANSWER_MS = 2_500  # after which the page calls the server away


def test_two_people_write_at_once_and_see_text_carets_and_names(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("both")
    grace.open("both")
    ada.write("left ")
    grace.sees("left ")
    grace.write("right ")
    for stroke in range(20):
        ada.page.keyboard.type(f"a{stroke}")
        grace.page.keyboard.type(f"g{stroke}")
    for person, other in ((ada, "Grace"), (grace, "Ada")):
        person.is_told("saved", "Saved")
        expect(person.page.locator(".caret-name")).to_have_text(other)
        faces = person.page.get_by_role("list", name="Also here")
        expect(faces.get_by_role("button", name=other)).to_be_visible()
    text = content(server, "both")
    assert all(f"a{stroke}" in text and f"g{stroke}" in text for stroke in range(20))
    for person in (ada, grace):
        person.sees(text)


def test_people_see_each_other_again_at_once_when_the_server_comes_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    for person in (ada, grace):
        person.open("again")
        person.is_told("saved")

    def face(person: Person, other: str) -> Locator:
        return person.page.get_by_role("list", name="Also here").get_by_role("button", name=other)

    expect(face(ada, "Grace")).to_be_visible()
    server.stop()
    expect(face(ada, "Grace")).to_have_count(0)
    server.start()
    for person in (ada, grace):
        person.is_told("saved")
    # Presence renews every 15 s; nobody should have to wait for that.
    expect(face(ada, "Grace")).to_be_visible(timeout=12_000)
    expect(face(grace, "Ada")).to_be_visible(timeout=12_000)
    # One who was cut off alone sees those who stayed.
    ada.page.context.set_offline(True)
    expect(face(ada, "Grace")).to_have_count(0, timeout=15_000)
    ada.page.context.set_offline(False)
    ada.is_told("saved")
    expect(face(ada, "Grace")).to_be_visible(timeout=12_000)
    expect(face(grace, "Ada")).to_be_visible(timeout=12_000)


def test_offline_edits_survive_a_reload_without_server_and_merge_once(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("trip")
    ada.write("We leave at nine.")
    ada.is_told("saved")
    grace.open("trip")
    grace.is_told("saved")
    ada.can_reload_without_server()

    server.stop()
    ada.is_told("offline", "Offline, everything saved")
    ada.write(" At ten.")
    ada.is_told("offline", "Offline, 8 edits on this device")
    grace.write(" Bring tea.")

    ada.page.reload()
    ada.sees("We leave at nine. At ten.")
    ada.is_told("offline", "Offline, 8 edits on this device")
    ada.write("!")
    ada.is_told("offline", "Offline, 9 edits on this device")

    server.start()
    ada.is_told("saved", "Saved")
    grace.is_told("saved", "Saved")
    text = content(server, "trip")
    assert sorted(text) == sorted("We leave at nine. At ten.! Bring tea.")
    assert " At ten.!" in text
    assert " Bring tea." in text
    for person in (ada, grace):
        person.page.reload()
        person.sees(text)
        person.is_told("saved", "Saved")


def test_saved_is_not_shown_while_the_server_is_frozen(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    ada.open("frozen")
    ada.write("before")
    ada.is_told("saved")
    server.freeze()
    try:
        ada.page.evaluate("window.shown.length = 0")
        ada.write("?")
        # Long enough for a line that is only quiet to be told from one that is dead.
        ada.is_told("offline", "Offline, 1 edit on this device")
        ada.write("!")
        ada.is_told("offline", "Offline, 2 edits on this device")
        assert "saved" not in ada.page.evaluate("window.shown")
    finally:
        server.thaw()
    ada.is_told("saved", "Saved")
    assert content(server, "frozen") == "before?!"


def test_an_edit_that_was_called_saved_outlives_kill_9_of_server_and_browser(
    arrive: Callable[..., Person], browser: Browser, server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("killed")
    ada.write("on disk")
    ada.is_told("saved")
    server.kill()
    ada.context.close()
    server.start()
    assert content(server, "killed") == "on disk"


def test_undo_takes_back_only_what_its_person_wrote(arrive: Callable[..., Person]) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("undo")
    ada.write("loaded")
    ada.is_told("saved")
    grace.open("undo")
    grace.sees("loaded")
    grace.write(" mine")
    ada.sees("loaded mine")
    ada.write(" hers")
    grace.is_told("saved")
    grace.sees("loaded mine hers")
    for _ in range(10):
        grace.page.keyboard.press("Control+z")
    ada.sees("loaded hers")
    for _ in range(10):
        grace.page.keyboard.press("Control+Shift+Z")
    ada.sees("loaded mine hers")
    ada.page.reload()
    ada.sees("loaded mine hers")
    ada.page.locator(".cm-content").focus()
    for _ in range(10):
        ada.page.keyboard.press("Control+z")
    assert shown(ada.page) == "loaded mine hers"


def test_closing_the_tab_50_ms_after_the_last_key_loses_nothing(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("closed")
    ada.write("kept")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    ada.page.keyboard.type(" also")
    time.sleep(0.05)
    ada.page.close(run_before_unload=False)
    again = ada.open("closed", ada.new_page())
    ada.sees("kept also", again)
    ada.is_told("offline", "Offline, 5 edits on this device", again)
    server.start()
    ada.is_told("saved", "Saved", again)
    assert content(server, "closed") == "kept also"


def test_two_tabs_share_offline_edits_and_either_brings_them_home(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("tabs")
    ada.write("one")
    ada.is_told("saved")
    second = ada.open("tabs", ada.new_page())
    ada.sees("one", second)
    ada.is_told("saved", page=second)
    server.stop()
    ada.is_told("offline")
    ada.write(" two")
    ada.sees("one two", second)
    ada.is_told("offline", "Offline, 4 edits on this device", second)
    ada.page.close()
    server.start()
    ada.is_told("saved", "Saved", second)
    assert content(server, "tabs") == "one two"
    second.reload()
    ada.sees("one two", second)
    ada.is_told("saved", "Saved", second)


def test_without_a_store_of_its_own_the_page_says_that_nothing_is_kept(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.context.add_init_script("Object.defineProperty(window, 'indexedDB', { value: undefined })")
    ada.open("memory")
    ada.write("seen")
    ada.is_told("saved")
    server.stop()
    ada.is_told("offline", "Offline, everything saved")
    ada.write("!!")
    ada.is_told("unstored", "Not stored anywhere: 2 edits")
    asked: list[str] = []
    ada.page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.dismiss()))
    ada.page.close(run_before_unload=True)
    expect(ada.page.locator(".notice")).to_be_visible()
    assert asked == ["beforeunload"]
    server.start()
    ada.is_told("saved", "Saved")
    assert content(server, "memory") == "seen!!"


def test_deleting_the_local_database_while_writing_costs_nothing(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("evicted")
    ada.write("first")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    ada.write(" second")
    ada.is_told("offline", "Offline, 7 edits on this device")
    delete_database(ada.page)
    ada.is_told("unstored", "Not stored anywhere: 7 edits")
    ada.write(" third")
    ada.is_told("offline", "Offline, 13 edits on this device")  # kept again, all of it
    ada.page.reload()
    ada.sees("first second third")
    ada.is_told("offline", "Offline, 13 edits on this device")
    server.start()
    ada.is_told("saved")
    assert content(server, "evicted") == "first second third"


def test_a_deleted_document_is_said_to_be_deleted_and_not_made_again(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("gone")
    ada.write("the text")
    ada.is_told("saved")
    grace.open("gone")
    grace.sees("the text")
    call(server, "DELETE", "/api/documents/gone")
    for person in (ada, grace):
        person.is_told("stopped", "Read only: deleted")
        expect(person.page.locator(".notice")).to_contain_text("This document was deleted.")
        person.sees("the text")
    ada.page.locator(".cm-content").focus()
    ada.page.keyboard.type("more")
    ada.sees("the text")
    ada.page.reload()
    ada.is_told("stopped")
    ada.sees("the text")
    with pytest.raises(urllib.error.HTTPError, match="410"):
        content(server, "gone")
    ada.page.get_by_role("button", name="Bring it back").click()
    ada.is_told("saved", "Saved")
    ada.write(", again")
    ada.is_told("saved", "Saved")
    assert content(server, "gone") == "the text, again"
    grace.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")  # she looks back
    grace.is_told("saved", "Saved")
    grace.sees("the text, again")


def test_edits_made_offline_on_a_deleted_document_are_kept_and_counted(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("lost")
    ada.write("start")
    ada.is_told("saved")
    ada.unplug()
    ada.write("ed")
    call(server, "DELETE", "/api/documents/lost")
    ada.plug_in()
    ada.is_told("stopped", "Read only: deleted")
    expect(ada.page.locator(".notice")).to_contain_text("2 edits of yours did not reach the server")
    ada.sees("started")


def test_markup_in_titles_names_and_text_is_only_text(arrive: Callable[..., Person], server: Server) -> None:
    attack = "<img src=x onerror=\"window.ran='yes'\"><script>window.ran='yes'</script>"
    name = "<b onclick=alert(1)>&amp;"
    call(server, "POST", "/api/documents", {"name": name, "title": attack})
    ada, mallory = arrive("Ada"), arrive("Mallory")
    mallory.page.goto(server.url)
    mallory.page.get_by_role("button", name="You are Mallory").click()
    mallory.page.get_by_role("textbox", name="Your name").fill(attack[:40])
    mallory.open(name)
    mallory.write(attack)
    ada.open(name)
    expect(ada.page.get_by_label("Title")).to_have_value(attack)
    expect(ada.page.locator(".caret-name")).to_have_text(attack[:40])
    expect(ada.page.get_by_role("list", name="Also here").get_by_role("button")).to_have_attribute(
        "title", attack[:40]
    )
    ada.page.goto(server.url)
    expect(ada.page.get_by_role("link", name=attack)).to_be_visible()
    ada.page.get_by_role("button", name=f"Delete {attack}").click()
    expect(ada.page.get_by_text(f"Deleted “{attack}”")).to_be_visible()
    for person in (ada, mallory):
        assert person.page.evaluate("window.ran") is None
        assert person.page.locator("main img, main script, header script").count() == 0


def test_a_hostile_presence_neither_styles_nor_stops_the_page(
    arrive: Callable[..., Person], server: Server
) -> None:
    from pycrdt import Awareness, Doc, YMessageType, create_awareness_message
    from websockets.sync.client import connect

    ada = arrive("Ada")
    ada.open("presence")
    ada.write("text")
    ada.is_told("saved")
    awareness = Awareness(Doc())
    paint = "red;position:fixed;inset:0;background:url(http://192.0.2.1/x)"
    awareness.set_local_state(
        {
            "user": {"name": "Eve\u202e\n" + "x" * 500, "color": paint, "colorLight": paint},
            "cursor": {"anchor": {"item": "nonsense"}, "head": [1, 2, 3]},
        }
    )
    message = create_awareness_message(awareness.encode_awareness_update([awareness.client_id]))
    assert message[0] == YMessageType.AWARENESS
    with connect(f"{server.ws_url}/ws/presence") as socket:
        socket.send(message)
        face = ada.page.get_by_role("list", name="Also here").get_by_role("button")
        expect(face).to_be_visible()
        title = face.get_attribute("title")
        assert title is not None
        assert title.startswith("Eve")
        assert len(title) == 40
        assert "\u202e" not in title
        assert "url(" not in ada.page.locator("body").inner_html()
        ada.write(" goes on")
        ada.sees("text goes on")
        ada.is_told("saved", "Saved")


def test_line_ends_are_lf_whatever_is_pasted(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    ada.open("ends")
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.evaluate(
        """() => {
          const data = new DataTransfer();
          data.setData('text/plain', 'one\\r\\ntwo\\rthree\\n');
          document.activeElement.dispatchEvent(
            new ClipboardEvent('paste', { clipboardData: data, bubbles: true, cancelable: true }));
        }"""
    )
    ada.write("four")
    ada.is_told("saved")
    assert content(server, "ends") == "one\ntwo\nthree\nfour"
    ada.sees("one\ntwo\nthree\nfour")


def test_opening_a_document_writes_nothing(arrive: Callable[..., Person], server: Server) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("still")
    ada.write("x")
    ada.is_told("saved")
    head = json.loads(call(server, "GET", "/api/documents/still"))["head"]
    grace.open("still")
    grace.is_told("saved")
    grace.page.reload()
    grace.is_told("saved")
    assert json.loads(call(server, "GET", "/api/documents/still"))["head"] == head


def test_a_name_and_ink_last_and_reach_the_others(arrive: Callable[..., Person]) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("people")
    grace.open("people")
    face = grace.page.get_by_role("list", name="Also here").get_by_role("button")
    expect(face).to_have_attribute("title", "Ada")
    ada.page.get_by_role("button", name="You are Ada").click()
    ada.page.get_by_role("textbox", name="Your name").fill("Augusta Ada")
    ada.page.get_by_label("Plum").check()
    expect(face).to_have_attribute("title", "Augusta Ada")
    expect(face.locator(".avatar")).to_have_css("background-color", "rgb(140, 63, 150)")
    ada.page.reload()
    expect(ada.page.get_by_role("button", name="You are Augusta Ada")).to_be_visible()
    ada.page.close()
    expect(face).to_have_count(0)


def test_the_list_makes_names_deletes_and_takes_back(arrive: Callable[..., Person], server: Server) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.page.goto(server.url)
    ada.page.get_by_role("button", name="New document").click()
    ada.page.locator(".cm-content").wait_for()
    ada.is_told("saved")
    grace.page.goto(ada.page.url)
    ada.page.get_by_label("Title").fill("Soup")
    ada.page.get_by_label("Title").press("Enter")
    expect(ada.page).to_have_title("Soup · Collab")
    expect(grace.page.get_by_label("Title")).to_have_value("Soup")
    ada.page.get_by_role("link", name="All documents").click()
    row = ada.page.get_by_role("listitem").filter(has_text="Soup")
    row.hover()
    row.get_by_role("button", name="Rename Soup").click()
    ada.page.get_by_label("New title").fill("Broth")
    ada.page.get_by_label("New title").press("Enter")
    row = ada.page.get_by_role("listitem").filter(has_text="Broth")
    row.hover()
    row.get_by_role("button", name="Delete Broth").click()
    expect(row).to_have_count(0)
    ada.page.get_by_role("button", name="Undo").click()
    expect(row).to_have_count(1)
    ada.page.get_by_label("Search titles").fill("nothing like it")
    expect(ada.page.get_by_role("status").filter(has_text="Nothing here has")).to_be_visible()
    expect(row).to_have_count(0)


def test_a_title_that_the_first_letters_overtake_is_kept(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("overtaken")
    ada.is_told("saved")
    held: list[Route] = []
    ada.page.route("**/api/documents", lambda route: held.append(route), times=1)
    ada.page.get_by_label("Title").fill("Soup")
    with ada.page.expect_request(lambda request: request.method == "POST"):
        ada.page.get_by_label("Title").press("Enter")
    ada.page.keyboard.type("Leek")
    ada.waits_for(lambda: [one["head"] for one in ada.asks("/api/documents")["documents"]] == [4])
    held[0].continue_()
    expect(ada.page).to_have_title("Soup · Collab")
    assert json.loads(call(server, "GET", at("overtaken")))["title"] == "Soup"
    expect(ada.page.get_by_label("Title")).to_have_value("Soup")


# --- rights ------------------------------------------------------------------------------------------


@CLOSED
def test_a_reader_reads_on_and_is_never_offered_to_write(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    make(server, "read", "Minutes")
    ada.page.goto(share(server, "read", "editor")["url"])
    ada.write("first")
    grace.page.goto(share(server, "read", "viewer")["url"])
    grace.is_told("reading", "Read only: you may read this document")
    grace.sees("first")
    ada.write(" second")
    grace.sees("first second")
    expect(grace.page.get_by_label("Title")).to_have_value("Minutes")
    for place in (grace.page.get_by_label("Title"), grace.page.locator(".cm-content")):
        place.focus()
        grace.page.keyboard.type("never")
    grace.page.locator(".cm-content").press("Control+b")
    grace.page.mouse.click(640, 700)
    grace.page.keyboard.type("never")
    ada.write(" third")
    grace.sees("first second third")
    assert content(server, "read") == "first second third"
    assert json.loads(call(server, "GET", at("read")))["title"] == "Minutes"
    expect(grace.page.locator(".cm-content")).to_have_attribute("aria-readonly", "true")
    grace.page.reload()
    grace.is_told("reading")
    assert not grace.page.evaluate("window.writable")
    # Whoever reads is seen to be there.
    expect(ada.page.get_by_role("list", name="Also here").get_by_role("button", name="Grace")).to_be_visible()


@CLOSED
def test_who_is_made_a_reader_and_an_editor_again_goes_on_without_a_reload(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.context.add_init_script(stretched(FIRST_ANSWER_MS, 20))
    make(server, "turns")
    ada.page.goto(share(server, "turns", "viewer")["url"])
    ada.is_told("reading")
    ada.page.evaluate("window.here = true")
    person = ada.actor()
    ada.page.locator(".cm-content").focus()
    set_role(server, "turns", person, "editor")
    ada.is_told("saved", "Saved")
    ada.page.keyboard.type("typed where the focus was")
    ada.is_told("saved", "Saved")
    ada.page.evaluate("window.shown.length = 0")
    set_role(server, "turns", person, "commenter")
    ada.is_told("reading", "Read only: you may read this document")
    ada.page.keyboard.type("never")
    ada.page.keyboard.press("Control+z")
    ada.page.keyboard.press("Control+Shift+z")
    ada.sees("typed where the focus was")
    set_role(server, "turns", person, "owner")
    ada.is_told("saved", "Saved")
    ada.write(", and on")
    ada.is_told("saved", "Saved")
    assert content(server, "turns") == "typed where the focus was, and on"
    assert ada.page.evaluate("window.here")
    assert "offline" not in ada.page.evaluate("window.shown")


@CLOSED
def test_edits_of_a_demoted_editor_stay_on_the_device_until_they_may_write_again(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.context.grant_permissions(["clipboard-read", "clipboard-write"])
    make(server, "demoted")
    ada.page.goto(share(server, "demoted", "viewer")["url"])
    ada.is_told("reading")
    set_role(server, "demoted", ada.actor(), "editor")
    ada.write("shared")
    ada.is_told("saved")
    ada.unplug()
    ada.write(", mine")
    ada.is_told("offline", "Offline, 6 edits on this device")
    set_role(server, "demoted", ada.actor(), "viewer")
    ada.plug_in()
    notice = ada.page.locator(".notice")
    for _ in range(2):
        ada.is_told("reading", "Read only: you may read this document")
        expect(notice).to_contain_text(
            "You may read this document, not change it. 6 edits of yours did not reach the server"
        )
        ada.sees("shared, mine")
        ada.page.reload()
    notice.get_by_role("button", name="Copy the text").click()
    expect(notice.get_by_role("button", name="Copied")).to_be_visible()
    assert ada.page.evaluate("navigator.clipboard.readText()") == "shared, mine"
    assert content(server, "demoted") == "shared"
    set_role(server, "demoted", ada.actor(), "editor")
    ada.is_told("saved", "Saved")
    expect(notice).to_be_hidden()
    assert content(server, "demoted") == "shared, mine"


@CLOSED
def test_a_right_that_is_taken_away_leaves_the_text_until_the_page_is_left(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "lent")
    link = share(server, "lent", "editor")
    ada.page.goto(link["url"])
    ada.write("lent")
    ada.is_told("saved")
    call(server, "DELETE", f"{at('lent')}/links/{link['id']}")
    ada.is_told("stopped", "Read only: not shared with you any more")
    notice = ada.page.locator(".notice")
    expect(notice).to_contain_text("This document is not shared with you any more.")
    expect(notice.get_by_role("button", name="Copy the text")).to_be_visible()
    ada.page.locator(".cm-content").focus()
    ada.page.keyboard.type("never")
    ada.sees("lent")
    ada.page.reload()
    expect(ada.page.get_by_role("heading", name="This document is not shared with you")).to_be_visible()
    expect(ada.page.locator(".cm-content")).to_be_hidden()
    ada.page.evaluate("window.here = true")
    set_role(server, "lent", ada.actor(), "editor")
    ada.page.get_by_role("button", name="Try again").click()
    ada.is_told("saved", "Saved")
    ada.sees("lent")
    ada.write(" again")
    ada.is_told("saved")
    assert content(server, "lent") == "lent again"
    assert ada.page.evaluate("window.here")


@CLOSED
def test_a_document_of_others_says_what_to_do(arrive: Callable[..., Person], server: Server) -> None:
    make(server, "theirs", "Secret plans")
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.page.goto(f"{server.url}/d/theirs")
    expect(ada.page.get_by_role("heading", name="This document is not shared with you")).to_be_focused()
    expect(ada.page.get_by_text("ask whoever sent you the address for a link")).to_be_visible()
    expect(ada.page.get_by_role("link", name="Sign in")).to_have_attribute(
        "href", "/sign-in?next=%2Fd%2Ftheirs"
    )
    grace.join(server, "grace@example.org", "Grace")
    grace.page.goto(f"{server.url}/d/theirs")
    expect(grace.page.get_by_text("You are signed in as grace@example.org.")).to_be_visible()
    for person in (ada, grace):
        assert "Secret" not in person.page.content()
        assert not person.page.evaluate("window.writable")


@CLOSED
def test_what_is_written_signed_out_is_sent_after_signing_in(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Guest")
    make(server, "waits")
    set_role(server, "waits", ada.join(server, "ada@example.org", "Ada"), "editor")
    ada.open("waits")
    ada.write("before")
    ada.is_told("saved")
    ada.asks("/api/session", "DELETE")
    ada.is_told("signedOut", "Signed out, everything saved")
    ada.write(", after")
    ada.is_told("signedOut", "Signed out, 7 edits on this device")
    ada.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    notice = ada.page.locator(".notice")
    expect(notice).to_contain_text("You are signed out.")
    notice.get_by_role("link", name="Sign in").click()
    ada.page.get_by_label("E-mail address").fill("ada@example.org")
    ada.page.get_by_label("Password", exact=True).fill(PASSWORD)
    ada.page.keyboard.press("Enter")
    ada.is_told("saved", "Saved")
    assert ada.page.url == f"{server.url}/d/waits"
    assert content(server, "waits") == "before, after"


@CLOSED
def test_signing_in_in_another_tab_is_enough(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Guest")
    make(server, "tabs")
    set_role(server, "tabs", ada.join(server, "ada@example.org", "Ada"), "editor")
    ada.open("tabs")
    ada.is_told("saved")
    ada.asks("/api/session", "DELETE")
    ada.is_told("signedOut")
    ada.write("waited")
    other = ada.new_page()
    other.goto(f"{server.url}/sign-in")
    other.get_by_label("E-mail address").fill("ada@example.org")
    other.get_by_label("Password", exact=True).fill(PASSWORD)
    other.keyboard.press("Enter")
    other.get_by_role("heading", name="Documents").wait_for()
    ada.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
    ada.is_told("saved", "Saved")
    assert content(server, "tabs") == "waited"


@CLOSED
def test_a_document_opens_without_network_as_the_role_it_last_had(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    make(server, "away", "Minutes")
    for person, role, kind in ((ada, "editor", "saved"), (grace, "viewer", "reading")):
        person.page.goto(share(server, "away", role)["url"])
        person.is_told(kind)
        person.can_reload_without_server()
    ada.write("text")
    ada.is_told("saved")
    grace.sees("text")
    server.stop()
    for person in (ada, grace):
        person.page.reload()
        person.sees("text")
        expect(person.page.get_by_label("Title")).to_have_value("Minutes")
    ada.is_told("offline", "Offline, everything saved")
    grace.is_told("offline", "Offline, read only")
    assert not grace.page.evaluate("window.writable")
    ada.write("!")
    ada.is_told("offline", "Offline, 1 edit on this device")
    server.start()
    ada.is_told("saved")
    grace.sees("text!")
    grace.is_told("reading")
    assert not grace.page.evaluate("window.writable")


@CLOSED
def test_the_list_offers_what_one_may_do(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Guest")
    person = ada.join(server, "ada@example.org", "Ada")
    for role in ("viewer", "editor", "owner"):
        make(server, role, f"As {role}")
        set_role(server, role, person, role)
    ada.page.reload()
    offered = {
        "viewer": ["Duplicate"],
        "editor": ["Rename", "Duplicate"],
        "owner": ["Rename", "Duplicate", "Delete"],
    }
    for role, tools in offered.items():
        row = ada.page.get_by_role("listitem").filter(has_text=f"As {role}")
        expect(row.get_by_role("button")).to_have_text(tools)
    expect(ada.page.get_by_role("button", name="Rename As editor")).to_have_count(1)
    expect(ada.page.get_by_role("button", name="Delete As owner")).to_have_count(1)


# --- the door ----------------------------------------------------------------------------------------


@CLOSED
def test_one_joins_signs_out_and_signs_in_by_keyboard(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Wren")
    keyboard = ada.page.keyboard
    ada.page.goto(invitation(server, "ada@example.org", "Ada"))
    expect(ada.page.get_by_label("E-mail address")).to_have_value("ada@example.org")
    expect(ada.page.get_by_label("Your name")).to_have_value("Ada")
    expect(ada.page.get_by_label("Choose a password")).to_be_focused()
    keyboard.type("short")
    keyboard.press("Enter")
    expect(ada.page.get_by_role("alert")).to_contain_text("A password needs 10 characters or more")
    expect(ada.page.get_by_label("Choose a password")).to_be_focused()
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(ada.page.get_by_role("button", name="You are Ada")).to_be_visible()
    ada.page.get_by_role("button", name="You are Ada").press("Enter")
    expect(ada.page.get_by_text("Signed in as ada@example.org")).to_be_visible()
    ada.page.get_by_role("button", name="Sign out").press("Enter")
    expect(ada.page.get_by_label("E-mail address")).to_be_focused()
    assert ada.asks("/api/me")["signed_in"] is False
    keyboard.type("ada@example.org")
    keyboard.press("Tab")
    keyboard.type("not this one")
    keyboard.press("Enter")
    expect(ada.page.get_by_role("alert")).to_have_text(
        "This e-mail address and this password do not belong together here."
    )
    expect(ada.page.get_by_label("Password", exact=True)).to_be_focused()
    keyboard.type(PASSWORD)
    keyboard.press("Enter")
    expect(ada.page.get_by_role("button", name="You are Ada")).to_be_visible()


@CLOSED
@pytest.mark.parametrize(
    "next",
    [
        "https://example.org/",
        "//example.org/",
        "/\\example.org",
        "/\texample.org",
        "/\t/example.org",
        "\\\\example.org",
        "javascript:alert(1)",
        "example.org",
        "",
    ],
)
def test_signing_in_leads_only_to_pages_of_ours(
    arrive: Callable[..., Person], server: Server, next: str
) -> None:
    ada = arrive("Guest")
    ada.join(server, "ada@example.org", "Ada")
    ada.page.goto(f"{server.url}/sign-in?next={quote(next, safe='')}")
    expect(ada.page.get_by_text("At present you are signed in as ada@example.org.")).to_be_visible()
    ada.page.get_by_label("E-mail address").fill("ada@example.org")
    ada.page.get_by_label("Password", exact=True).fill(PASSWORD)
    ada.page.keyboard.press("Enter")
    ada.page.get_by_role("heading", name="Documents").wait_for()
    assert ada.page.url == f"{server.url}/"


@CLOSED
def test_a_link_asks_for_its_password_and_opens_the_document(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "a folder/with a name", "Behind a password")
    link = share(server, "a folder/with a name", "editor", password="open sesame")
    ada.page.goto(link["url"])
    expect(ada.page.get_by_label("Password", exact=True)).to_be_focused()
    ada.page.keyboard.type("open barley")
    ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("alert")).to_have_text("That is not the password of this link.")
    ada.page.get_by_role("button", name="Show").click()
    expect(ada.page.get_by_label("Password", exact=True)).to_have_attribute("type", "text")
    ada.page.get_by_label("Password", exact=True).fill("open sesame")
    ada.page.keyboard.press("Enter")
    ada.is_told("saved")
    assert ada.page.url == f"{server.url}/d/a%20folder/with%20a%20name"
    expect(ada.page).to_have_title("Behind a password · Collab")
    # The secret is not left behind in the history.
    ada.page.go_back()
    assert "#" not in ada.page.url


@CLOSED
def test_a_link_that_does_not_open_says_why(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    ada.page.goto(f"{server.url}/s")
    expect(ada.page.get_by_text("The address is not complete")).to_be_visible()
    ada.page.goto(f"{server.url}/s#link_of-nothing")
    expect(ada.page.get_by_role("alert")).to_contain_text("This link was revoked or has expired")
    make(server, "found")
    ada.page.goto(share(server, "found", "viewer")["url"])  # another link in the same tab
    ada.is_told("reading")
    ada.page.goto(f"{server.url}/join#not.an.invitation")
    ada.page.get_by_label("Your name").fill("Ada")
    ada.page.get_by_label("Choose a password").fill(PASSWORD)
    ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("alert")).to_contain_text("This is no invitation of this server")
    ada.page.goto(f"{server.url}/join")
    expect(ada.page.get_by_text("Accounts are made by invitation here")).to_be_visible()


@pytest.mark.parametrize("server", [{"signup": "open"}], indirect=True)
def test_where_all_may_join_one_makes_an_account(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Guest")
    ada.page.goto(f"{server.url}/sign-in")
    ada.page.get_by_role("link", name="Make one").click()
    expect(ada.page.get_by_label("E-mail address")).to_be_focused()
    ada.page.keyboard.type("ada@example.org")
    ada.page.get_by_label("Your name").fill("Ada")
    ada.page.get_by_label("Choose a password").fill(PASSWORD)
    ada.page.get_by_role("button", name="Make the account").click()
    expect(ada.page.get_by_role("button", name="You are Ada")).to_be_visible()


# --- who one is --------------------------------------------------------------------------------------


def test_the_log_has_a_guest_s_name_as_others_see_it(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    ada.open("signed")
    ada.write("x")
    ada.is_told("saved")

    def author() -> str:
        (member,) = json.loads(call(server, "GET", f"{at('signed')}/members"))["members"]
        assert member["person"] == ada.actor()
        name: str = member["name"]
        return name

    assert author() == "Ada"
    ada.takes_the_name("Augusta")
    ada.is_told("saved")
    ada.write("y")
    ada.is_told("saved")
    assert author() == "Augusta"


def test_the_log_has_a_guest_s_name_though_the_line_was_opened_before_the_server_knew_it(
    arrive: Callable[..., Person], server: Server
) -> None:
    """The page does not wait for long, and by then the line is being opened."""
    ada = arrive("Ada")
    held: list[Callable[[], None]] = []
    holding = True

    def later(step: Callable[[], None]) -> None:
        if holding:
            held.append(step)
        else:
            step()

    def pass_on(page: WebSocketRoute) -> None:
        line = page.connect_to_server()
        line.on_message(lambda message: later(lambda: page.send(message)))

    ada.page.route_web_socket("**/ws/**", pass_on)
    introductions: list[Route] = []
    ada.page.route("**/api/me", lambda route: _hold(route, introductions))
    ada.open("unnamed")
    ada.waits_for(lambda: held)
    with ada.page.expect_response(lambda answer: answer.request.method == "PATCH"):
        introductions[0].continue_()
    ada.page.wait_for_timeout(300)  # in which another is dialled, on which it is known
    holding = False
    for step in held:
        step()
    ada.is_told("saved")
    ada.write("x")
    ada.is_told("saved")
    (member,) = json.loads(call(server, "GET", f"{at('unnamed')}/members"))["members"]
    assert (member["person"], member["name"]) == (ada.actor(), "Ada")


def _hold(route: Route, held: list[Route]) -> None:
    """Let questions pass, and hold what one tells of oneself."""
    if route.request.method == "PATCH":
        held.append(route)
    else:
        route.continue_()


@CLOSED
@pytest.mark.parametrize("answered", ["before", "after"])
def test_a_name_typed_before_the_server_has_said_who_one_is_becomes_one_s_name(
    arrive: Callable[..., Person], server: Server, answered: str
) -> None:
    ada = arrive("Wren")
    make(server, "early")
    set_role(server, "early", ada.join(server, "ada@example.org", "Ada"), "editor")
    answers: list[tuple[Route, APIResponse]] = []
    ada.page.route("**/api/me", lambda route: answers.append((route, route.fetch())), times=1)
    ada.open("early")
    ada.page.get_by_role("button", name="You are Ada").click()
    ada.page.get_by_role("textbox", name="Your name").fill("Countess")
    ada.waits_for(lambda: answers)
    (question, answer) = answers[0]
    with ada.page.expect_response(lambda answer: answer.request.method == "PATCH"):
        if answered == "after":
            ada.page.keyboard.press("Enter")
            ada.page.wait_for_timeout(500)  # in which nothing is asked that the answer could undo
        question.fulfill(response=answer)
        # Shown, so read.
        expect(ada.page.get_by_text("Signed in as ada@example.org")).to_have_count(1)
        if answered == "before":
            ada.page.keyboard.press("Enter")
    expect(ada.page.get_by_role("button", name="You are Countess")).to_be_visible()
    assert ada.asks("/api/me")["name"] == "Countess"


@CLOSED
def test_the_name_of_an_account_is_the_server_s_and_goes_when_one_signs_out(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Wren")
    make(server, "named")
    set_role(server, "named", ada.join(server, "ada@example.org", "Ada"), "editor")
    ada.open("named")
    ada.takes_the_name("Countess")
    elsewhere = arrive("Robin")
    elsewhere.page.goto(f"{server.url}/sign-in?next=/d/named")
    elsewhere.page.get_by_label("E-mail address").fill("ada@example.org")
    elsewhere.page.get_by_label("Password", exact=True).fill(PASSWORD)
    elsewhere.page.keyboard.press("Enter")
    expect(elsewhere.page.get_by_role("button", name="You are Countess")).to_be_visible()
    face = elsewhere.page.get_by_role("list", name="Also here").get_by_role("button")
    expect(face).to_have_attribute("title", "Countess")
    elsewhere.page.get_by_role("button", name="You are Countess").click()
    elsewhere.page.get_by_role("button", name="Sign out").click()
    expect(elsewhere.page.get_by_label("E-mail address")).to_be_visible()
    elsewhere.page.goto(server.url)
    expect(elsewhere.page.get_by_role("button", name="You are")).to_be_visible()
    assert "Countess" not in str(elsewhere.page.get_by_role("button", name="You are").get_attribute("title"))


@CLOSED
def test_signing_out_leaves_nothing_on_the_device_but_what_the_server_lacks(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Guest")
    make(server, "left")
    set_role(server, "left", ada.join(server, "ada@example.org", "Ada"), "editor")
    ada.open("left")
    ada.write("text")
    ada.is_told("saved")
    ada.unplug()
    ada.write("!")
    ada.is_told("offline", "Offline, 1 edit on this device")
    ada.page.get_by_role("button", name="You are Ada").click()
    ada.page.get_by_role("button", name="Sign out").click()
    expect(ada.page.get_by_text("1 edit did not reach the server yet.")).to_be_visible()
    ada.page.keyboard.press("Escape")
    ada.plug_in()
    ada.is_told("saved")
    ada.page.get_by_role("button", name="You are Ada").click()
    ada.page.get_by_role("button", name="Sign out").click()
    expect(ada.page.get_by_label("E-mail address")).to_be_visible()
    kept = """async () => (await indexedDB.databases()).map((database) => database.name)"""
    assert ada.page.evaluate(kept) == []


# --- the reference -----------------------------------------------------------------------------------


def test_the_reference_of_the_api_comes_from_here_and_works(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    asked: list[str] = []
    ada.page.on("request", lambda request: asked.append(request.url))
    make(server, "listed")
    ada.page.goto(f"{server.url}/api/docs")
    ada.page.locator(".opblock-get", has_text="List Documents").locator(".opblock-summary-control").click()
    ada.page.get_by_role("button", name="Try it out").click()
    ada.page.get_by_role("button", name="Execute").click()
    expect(
        ada.page.locator(".live-responses-table td.response-col_description .microlight").first
    ).to_contain_text("listed")
    assert all(url.startswith((server.url, "data:")) for url in asked)


def test_the_page_does_not_load_or_keep_the_reference(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    asked: list[str] = []
    ada.context.on("request", lambda request: asked.append(request.url))
    ada.open("small")
    ada.is_told("saved")
    ada.can_reload_without_server()
    ada.page.goto(f"{server.url}/api/docs")
    ada.page.get_by_text("List Documents").wait_for()
    kept = ada.page.evaluate(
        """async () => {
          const caches_ = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
          const requests = (await Promise.all(caches_.map((cache) => cache.keys()))).flat();
          return requests.map((request) => request.url);
        }"""
    )
    assert any("/assets/document-" in url for url in kept)
    assert not [url for url in kept if "swagger" in url or "reference" in url]
    before = asked[: asked.index(f"{server.url}/api/docs")]
    assert not [url for url in before if "swagger" in url or "reference" in url]
