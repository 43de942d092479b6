"""The page in a real browser against a real server: what people see, and that none of it is a lie."""

from __future__ import annotations

import json
import time
import urllib.error
from collections.abc import Callable

import pytest
from pages import Person, call, content, shown
from playwright.sync_api import Browser, Locator, expect
from serverprocess import Server


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
    expect(face(ada, "Grace")).to_be_visible(timeout=5000)
    expect(face(grace, "Ada")).to_be_visible(timeout=5000)
    # One who was cut off alone sees those who stayed.
    ada.page.context.set_offline(True)
    expect(face(ada, "Grace")).to_have_count(0, timeout=15000)
    ada.page.context.set_offline(False)
    ada.is_told("saved")
    expect(face(ada, "Grace")).to_be_visible(timeout=5000)
    expect(face(grace, "Ada")).to_be_visible(timeout=5000)


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
    ada.page.evaluate(
        """() => new Promise((done, failed) => {
             const request = indexedDB.deleteDatabase('collab');
             request.onsuccess = done;
             request.onerror = request.onblocked = failed;
           })"""
    )
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


def test_edits_made_offline_on_a_deleted_document_are_kept_and_counted(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("lost")
    ada.write("start")
    ada.is_told("saved")
    ada.context.set_offline(True)
    ada.page.evaluate("dispatchEvent(new Event('offline'))")
    ada.is_told("offline")
    ada.write("ed")
    call(server, "DELETE", "/api/documents/lost")
    ada.context.set_offline(False)
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
    expect(ada.page.get_by_role("status").filter(has_text="No title holds")).to_be_visible()
    expect(row).to_have_count(0)
