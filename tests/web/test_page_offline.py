"""A page whose server is away, slow or another one: what was written is kept, told truly, and comes home.

The numbers are those of the failures that docs/editor.md lists: what burnt people elsewhere.
"""

from __future__ import annotations

import base64
import json
import random
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from urllib.parse import quote

import pytest
from cable import Cable
from pages import CLOSED, SECRET, Person, at, call, content, delete_database, make, set_role, share
from pictures import PNG
from playwright.sync_api import Page, WebSocketRoute, expect
from serverprocess import Server

ACKNOWLEDGE = 102  # docs/protocol.md


@pytest.fixture
def cable(server: Server) -> Iterator[Cable]:
    cable = Cable(server.port)
    yield cable
    cable.close()


# A page hears of the commits of its database once ``held`` has settled; of which stores, ``commits`` says.
HOLD_COMMITS = """
window.held = Promise.resolve();
window.commits = [];
const done = Object.getOwnPropertyDescriptor(IDBTransaction.prototype, 'oncomplete');
Object.defineProperty(IDBTransaction.prototype, 'oncomplete', {
  ...done,
  set(go) {
    done.set.call(this, (event) => {
      window.commits.push([...this.objectStoreNames]);
      window.held.then(() => go.call(this, event));
    });
  },
});
"""


def offline_beside_another_tab(person: Person, server: Server, document: str) -> Page:
    """They wrote "first", and the server has stopped. The page of another tab of theirs."""
    person.open(document)
    person.write("first")
    person.is_told("saved")
    person.can_reload_without_server()
    other = person.new_page()
    other.goto(server.url)
    server.stop()
    person.is_told("offline")
    return other


def paste_image(person: Person, data: bytes) -> None:
    person.page.locator(".cm-content[contenteditable=true]").focus()
    person.page.keyboard.press("Control+End")
    person.page.evaluate(
        """(base64) => {
          const bytes = Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
          const clipboardData = new DataTransfer();
          clipboardData.items.add(new File([bytes], 'image.png', { type: 'image/png' }));
          document.activeElement.dispatchEvent(
            new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }));
        }""",
        base64.b64encode(data).decode(),
    )


def as_source(person: Person) -> None:
    """Every sign of the Markdown is on the screen."""
    person.context.add_init_script(
        "if (location.protocol !== 'about:') localStorage.setItem('collab.mode', 'source')"
    )


def freeze(page: Page, state: str) -> None:
    """As a browser does with a tab in the background."""
    page.context.new_cdp_session(page).send("Page.setWebLifecycleState", {"state": state})


def later(page: Page, hours: float) -> None:
    """Let the page's clock say that so much time has passed; its timers run as before."""
    page.clock.set_system_time(time.time() + hours * 3600)


def test_a_new_document_opened_by_many_without_a_server_holds_what_each_typed_once(
    arrive: Callable[..., Person], server: Server
) -> None:
    """1: what a page shows in an empty document is a hint, and no text that each of them inserts."""
    people = [arrive(name) for name in ("Ada", "Grace", "Ines")]
    for person in people:
        person.open("warm")
        person.is_told("saved")
        person.can_reload_without_server()
    server.stop()
    for n, person in enumerate(people):
        person.open("fresh")
        person.is_told("offline")
        expect(person.page.locator(".cm-placeholder")).to_be_visible()
        if n > 0:
            person.write(f"line {n}\n")
            person.page.reload()
            person.sees(f"line {n}\n")
    server.start()
    for person in reversed(people):
        person.page.reload()
        person.is_told("saved", "Saved")
    assert sorted(content(server, "fresh").splitlines()) == ["line 1", "line 2"]


def test_a_server_that_lost_everything_is_given_it_back_once(
    arrive: Callable[..., Person], server: Server
) -> None:
    """2: two full copies meet a server that has nothing, and the text is there once, not twice."""
    ada, grace = arrive("Ada"), arrive("Grace")
    for person in (ada, grace):
        person.open("wiped")
        person.write(f"{person.page.url[-1]}one of us. ")
        person.is_told("saved")
    text = content(server, "wiped")
    ada.sees(text)
    server.stop()
    for path in server.data.iterdir():
        if path != server.log:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    ada.write("Offline.")
    server.start()
    for person in (ada, grace):
        person.is_told("saved", "Saved")
        person.sees(f"{text}Offline.")
        person.page.reload()
        person.is_told("saved", "Saved")
        person.sees(f"{text}Offline.")
    assert content(server, "wiped") == f"{text}Offline."


def test_without_its_caches_the_server_serves_the_same_text_once(
    arrive: Callable[..., Person], server: Server
) -> None:
    """2: what a server works out again, from its log, is the same letters to a copy that comes back."""
    ada = arrive("Ada")
    ada.open("caches")
    ada.write("letters")
    ada.is_told("saved")
    server.stop()
    with closing(sqlite3.connect(server.data / "collab.db")) as database, database:
        database.execute("DELETE FROM snapshots")
        database.execute("DELETE FROM histories")
    server.start()
    ada.is_told("saved", "Saved")
    ada.page.reload()
    ada.is_told("saved", "Saved")
    ada.sees("letters")
    assert content(server, "caches") == "letters"


@pytest.mark.parametrize("how", ["reset", "begun anew"])
def test_a_copy_is_not_merged_into_another_document_of_its_name(
    arrive: Callable[..., Person], server: Server, how: str
) -> None:
    """2, 3: the copy, with what was written since, stays beside; what the name means now stays as it is."""
    ada = arrive("Ada")
    ada.open("plan")
    ada.write("The old plan.")
    ada.is_told("saved")
    ada.can_reload_without_server()
    ada.page.reload()
    ada.is_told("saved")
    server.stop()
    ada.is_told("offline")
    ada.write(" Mine.")
    with closing(sqlite3.connect(server.data / "collab.db")) as database, database:
        if how == "reset":
            database.execute("UPDATE documents SET epoch = epoch + 1")
        for table in ("updates", "snapshots"):
            database.execute(f"DELETE FROM {table}")
    if how == "begun anew":
        ada.page.goto("about:blank")  # nobody is there to give it back
    server.start()
    grace = arrive("Grace")
    grace.open("plan")
    grace.is_told("saved")
    grace.write("The new plan.")
    grace.is_told("saved")
    if how == "begun anew":
        ada.open("plan")
    notice = ada.page.locator(".notice")
    for _ in range(2):
        ada.is_told("stopped", "Read only")
        expect(notice).to_contain_text("This name means another document now")
        expect(notice).to_contain_text("6 edits of yours did not reach the server")
        ada.sees("The old plan. Mine.")
        ada.page.reload()
    assert content(server, "plan") == "The new plan."
    grace.sees("The new plan.")
    notice.get_by_role("button", name="Save as a new document").click()
    ada.is_told("saved", "Saved")
    expect(ada.page.get_by_label("Title")).to_have_value("Untitled (copy)")
    ada.sees("The old plan. Mine.")
    ada.open("plan")
    ada.is_told("saved", "Saved")
    ada.sees("The new plan.")


def test_a_copy_that_was_read_late_is_not_merged_into_another_document_either(
    arrive: Callable[..., Person], server: Server
) -> None:
    """3: the server had said what it has before the copy was read, and then no more."""
    ada = arrive("Ada")
    ada.open("late")
    ada.write("The old plan.")
    ada.is_told("saved")
    ada.page.reload()
    ada.is_told("saved")
    ada.page.add_init_script(
        HOLD_COMMITS
        + """const ask = window.fetch;
        let looks = 0;
        window.held = new Promise((go) => {
          window.fetch = async (asked, ...more) => {
            if (!String(asked).includes('/api/documents/late')) return ask(asked, ...more);
            if (++looks > 1) throw new TypeError('the network is down');
            return ask(asked, ...more).finally(() => setTimeout(go, 200));
          };
        });"""
    )
    ada.page.reload()
    ada.is_told("saved")
    server.stop()
    ada.is_told("offline")
    with closing(sqlite3.connect(server.data / "collab.db")) as database, database:
        database.execute("UPDATE documents SET epoch = epoch + 1")
        for table in ("updates", "snapshots"):
            database.execute(f"DELETE FROM {table}")
    server.start()
    ada.is_told("stopped", "Read only")
    ada.sees("The old plan.")
    assert content(server, "late") == ""


def test_what_is_typed_into_a_dead_line_arrives(
    arrive: Callable[..., Person], server: Server, cable: Cable
) -> None:
    """4: a black hole is seen within ten seconds, though it says nothing; every character comes through."""
    ada = arrive("Ada")
    ada.url = cable.ws_url.replace("ws:", "http:")
    ada.open("hole")
    ada.write("before ")
    ada.is_told("saved")
    cable.dark = True
    began = time.monotonic()
    typed = ""
    seen = None
    while time.monotonic() < began + 12:
        ada.page.keyboard.type("k")
        typed += "k"
        kind = ada.page.locator(".status").get_attribute("data-kind")
        assert kind in ("saving", "offline", "saved") if not typed else kind in ("saving", "offline")
        if kind == "offline" and seen is None:
            seen = time.monotonic() - began
        ada.page.wait_for_timeout(250)
    assert seen is not None
    assert seen < 10
    cable.dark = False
    ada.is_told("saved", "Saved")
    assert content(server, "hole") == f"before {typed}"


def test_each_edit_is_counted_as_on_this_device_only_when_it_is(
    arrive: Callable[..., Person], server: Server
) -> None:
    """6: the local store tells of each write; what it has not taken is not counted as kept."""
    ada = arrive("Ada")
    ada.context.add_init_script(
        """const add = IDBObjectStore.prototype.add;
           IDBObjectStore.prototype.add = function (...row) {
             const request = add.apply(this, row);
             if (window.broken) this.transaction.abort();
             return request;
           };"""
    )
    ada.open("counted")
    ada.write("x")
    ada.is_told("saved")
    server.stop()
    ada.is_told("offline", "Offline, everything saved")
    ada.write("ab")
    ada.is_told("offline", "Offline, 2 edits on this device")
    ada.page.evaluate("window.broken = true")
    ada.write("c")
    ada.is_told("unstored")
    ada.page.evaluate("window.broken = false")
    ada.is_told("offline", "Offline, 3 edits on this device")
    server.start()
    ada.is_told("saved")
    assert content(server, "counted") == "xabc"


def test_when_the_device_is_full_writing_goes_on_and_the_page_says_that_it_is_not_kept(
    arrive: Callable[..., Person], server: Server
) -> None:
    """7: the quota is used up."""
    ada = arrive("Ada")
    ada.open("full")
    ada.write("first")
    ada.is_told("saved")
    # Chromium cannot be given a small quota for long: fail as it does.
    ada.page.evaluate(
        """() => {
          window.add = IDBObjectStore.prototype.add;
          IDBObjectStore.prototype.add = () => { throw new DOMException('full', 'QuotaExceededError'); };
        }"""
    )
    ada.write(" second")
    ada.is_told("saved", "Saved")  # on the server, which is the better place
    server.stop()
    ada.write(" third")
    ada.is_told("unstored", "Not stored anywhere: 6 edits")
    ada.sees("first second third")
    ada.page.evaluate("void (IDBObjectStore.prototype.add = window.add)")
    ada.is_told("offline", "Offline, 6 edits on this device")
    server.start()
    ada.is_told("saved")
    assert content(server, "full") == "first second third"


def test_the_database_is_deleted_from_another_tab_and_nothing_stops(
    arrive: Callable[..., Person], server: Server
) -> None:
    """7: mid-typing, by somebody else; editing goes on, and soon all of it is kept again."""
    ada = arrive("Ada")
    other = offline_beside_another_tab(ada, server, "cleared")
    ada.write(" second")
    delete_database(other)
    ada.is_told("unstored", "Not stored anywhere: 7 edits")
    ada.write(" third")
    ada.is_told("offline", "Offline, 13 edits on this device")
    ada.page.reload()
    ada.sees("first second third")
    server.start()
    ada.is_told("saved")
    assert content(server, "cleared") == "first second third"


def test_what_was_written_as_the_database_went_is_kept_again(
    arrive: Callable[..., Person], server: Server
) -> None:
    """7: the page hears that it was written only after it has heard that the database is gone."""
    ada = arrive("Ada")
    ada.page.add_init_script(HOLD_COMMITS)
    other = offline_beside_another_tab(ada, server, "going")
    ada.page.evaluate("window.held = new Promise((go) => (window.go = go)), null")
    ada.write(" second")
    delete_database(other)
    ada.is_told("unstored", "Not stored anywhere: 7 edits")
    ada.page.evaluate("window.go()")
    ada.is_told("offline", "Offline, 7 edits on this device")
    ada.page.reload()
    ada.sees("first second")
    ada.is_told("offline", "Offline, 7 edits on this device")


def test_a_tab_that_loads_while_another_types_takes_nothing_away(
    arrive: Callable[..., Person], server: Server
) -> None:
    """8: both write at once, offline and online, and the union survives."""
    ada = arrive("Ada")
    ada.open("union")
    ada.write("0")
    ada.is_told("saved")
    ada.can_reload_without_server()
    for offline in (True, False):
        if offline:
            server.stop()
            ada.is_told("offline")
        second = ada.new_page()
        second.goto(f"{server.url}/d/union", wait_until="commit")
        ada.write("first")
        expect(second.locator(".cm-line").first).to_contain_text("0")
        second.locator(".cm-content[contenteditable=true]").focus()
        second.keyboard.press("Control+Home")
        second.keyboard.type("second")
        ada.write("third")
        text = "second0firstthird" if offline else "secondsecond0firstthirdfirstthird"
        for page in (ada.page, second):
            ada.sees(text, page)
            if offline:
                ada.is_told("offline", "Offline, 16 edits on this device", page)
        if offline:
            server.start()
        for page in (ada.page, second):
            ada.is_told("saved", "Saved", page)
        assert content(server, "union") == text
        second.close()


def test_edits_of_another_tab_are_counted_that_come_before_the_copy_on_the_device_is_read(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("counted")
    ada.write("0")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    ada.write("first")
    ada.is_told("offline", "Offline, 5 edits on this device")
    second = ada.new_page()
    second.add_init_script(
        HOLD_COMMITS
        + """window.told = 0;
        window.held = new Promise((go) => (window.readOn = go));
        const hear = Object.getOwnPropertyDescriptor(BroadcastChannel.prototype, 'onmessage');
        Object.defineProperty(BroadcastChannel.prototype, 'onmessage', {
          ...hear,
          set(take) { hear.set.call(this, (event) => (take.call(this, event), (window.told += 1))); },
        });"""
    )
    second.goto(f"{server.url}/d/counted", wait_until="commit")
    second.wait_for_function("() => window.commits.some((stores) => stores.includes('edits'))")
    ada.write("second")
    second.wait_for_function("() => window.told === 6")
    second.evaluate("window.readOn()")
    for page in (ada.page, second):
        ada.sees("0firstsecond", page)
        ada.is_told("offline", "Offline, 11 edits on this device", page)
    server.start()
    for page in (ada.page, second):
        ada.is_told("saved", "Saved", page)
    assert content(server, "counted") == "0firstsecond"


def test_the_text_on_the_screen_is_the_text_in_the_document_whatever_happens(
    arrive: Callable[..., Person], server: Server
) -> None:
    """12: after each round of edits, with the line down and up, every screen shows what the server has."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    people = [arrive("Ada"), arrive("Grace")]
    for person in people:
        as_source(person)
        person.open("drift")
        person.write("one two 😀 three\n")
        person.is_told("saved")
    keys = [
        "Control+Home",
        "Control+End",
        "ArrowLeft",
        "ArrowUp",
        "Backspace",
        "Delete",
        "Enter",
        "Control+z",
        "Control+Shift+z",
        "x",
    ]
    for _ in range(3):
        away = chance.choice(people)
        away.unplug()
        for _ in range(12):
            person = chance.choice(people)
            for _ in range(chance.randrange(1, 6)):
                person.page.keyboard.press(chance.choice(keys))
            person.page.keyboard.insert_text(
                chance.choice(["é", "# ", "**bold** ", "😀", "- [ ] ", "e\u0301"])
            )
        away.plug_in()
        for person in people:
            person.is_told("saved", "Saved")
        text = content(server, "drift")
        for person in people:
            person.sees(text)


def test_undo_a_hundred_times_leaves_exactly_what_was_loaded(
    arrive: Callable[..., Person], server: Server
) -> None:
    """13: also with no server, where what is loaded comes from this device."""
    ada = arrive("Ada")
    as_source(ada)
    ada.open("loaded")
    ada.write("# Loaded\n\ntext")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.page.reload()
    ada.is_told("offline")
    ada.write(" and more")
    ada.page.keyboard.press("Control+Home")
    ada.page.keyboard.type("first ")
    for _ in range(100):
        ada.page.keyboard.press("Control+z")
    ada.sees("# Loaded\n\ntext")
    server.start()
    ada.is_told("saved")
    assert content(server, "loaded") == "# Loaded\n\ntext"


def test_a_tab_that_was_frozen_says_nothing_false_when_it_thaws(
    arrive: Callable[..., Person], server: Server
) -> None:
    """15: what was missed comes first; what is typed then is saved, and only then called so."""
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("slept")
    ada.write("before")
    ada.is_told("saved")
    grace.open("slept")
    grace.sees("before")
    freeze(ada.page, "frozen")
    server.stop()
    server.start()
    grace.is_told("saved")
    grace.write(" meanwhile")
    grace.is_told("saved", "Saved")
    freeze(ada.page, "active")
    ada.page.evaluate("window.shown.length = 0")
    ada.write(" after")
    ada.is_told("saved", "Saved")
    text = content(server, "slept")
    assert all(words in text for words in ("before", " meanwhile", " after"))
    ada.sees(text)


def test_markdown_that_the_page_does_not_know_stays_as_it_was(
    arrive: Callable[..., Person], server: Server
) -> None:
    """20: the text is the truth; what an editor does not understand it leaves alone."""
    strange = (
        "\ufeff:::warning {#id .c}\n\t* a  \n+ b\\\n<details open>\n\n| a |b\n|:-\n"
        "~~~ {.x}\n[^1]: note\n{++add++}\n\n\n%%x%%"
    )
    ada = arrive("Ada")
    ada.open("strange")
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.keyboard.insert_text(strange)
    ada.is_told("saved")
    stored = content(server, "strange")
    assert stored == strange
    ada.page.reload()
    ada.is_told("saved")
    ada.write("!")
    ada.is_told("saved", "Saved")
    assert content(server, "strange") == f"{strange}!"


def test_nobody_can_write_before_the_text_is_there(arrive: Callable[..., Person], server: Server) -> None:
    """21: a page that has loaded nothing yet shows that, and cannot save its emptiness."""
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("slow")
    ada.write("a long text")
    ada.is_told("saved")
    grace.page.goto(server.url)
    grace.can_reload_without_server()
    server.freeze()
    try:
        grace.open("slow")
        grace.page.locator(".cm-content[contenteditable=true]").focus()
        for key in ("Control+a", "Delete", "Enter", "Control+z"):
            grace.page.keyboard.press(key)
        grace.is_told("offline")
    finally:
        server.thaw()
    grace.is_told("saved", "Saved")
    grace.sees("a long text")
    assert content(server, "slow") == "a long text"


def test_the_history_has_every_edit_that_was_called_saved(
    arrive: Callable[..., Person], server: Server
) -> None:
    """22: no timer has to fire for it: the server is killed at once."""
    ada = arrive("Ada")
    ada.open("killed")
    ada.write("first, ")
    ada.is_told("saved", "Saved")
    ada.write("last")
    ada.is_told("saved", "Saved")
    server.kill()
    server.start()
    head = json.loads(call(server, "GET", f"{at('killed')}/versions"))["head"]
    assert call(server, "GET", f"{at('killed')}/content?at={head}") == "first, last"
    assert content(server, "killed") == "first, last"
    ada.is_told("saved", "Saved")


# --- while you were away -----------------------------------------------------------------------------


def select(page: Page, words: str) -> None:
    """Select these words in the text, as somebody does with the mouse."""
    found = page.evaluate(
        """(words) => {
          const walker = document.createTreeWalker(document.querySelector('.cm-content'), 4);
          for (let node; (node = walker.nextNode()); ) {
            const at = node.data.indexOf(words);
            if (at < 0) continue;
            document.querySelector('.cm-content').focus();
            getSelection().setBaseAndExtent(node, at, node, at + words.length);
            return true;
          }
          return false;
        }""",
        words,
    )
    assert found, words
    # The editor hears of it in a task of its own.
    page.evaluate("new Promise((done) => setTimeout(done, 50))")


def replace(person: Person, words: str, by: str) -> None:
    select(person.page, words)
    person.page.keyboard.type(by)


def test_on_return_one_is_told_what_others_changed_and_what_one_added_oneself(
    arrive: Callable[..., Person], server: Server
) -> None:
    """16, 17: quietly, with a look at each place, and sentences that both edited pointed out."""
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("trip")
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.keyboard.insert_text("We leave on Monday. Bring tea.\n\nThe hut has no light.\n")
    ada.is_told("saved")
    grace.open("trip")
    grace.is_told("saved")
    ada.unplug()
    replace(ada, "Monday", "Friday")
    ada.write("I have a lamp.")
    replace(grace, "leave", "go")
    replace(grace, "no light", "two windows")
    grace.sees("We go on Monday. Bring tea.\n\nThe hut has two windows.\n")
    grace.is_told("saved")
    ada.plug_in()
    note = ada.page.get_by_role("region", name="While you were away")
    expect(note).to_contain_text("While you were away, Grace changed 2 places. You added 5 words.")
    expect(note).to_contain_text("1 sentence was edited by both")
    expect(ada.page.locator(".away-both")).to_contain_text("Friday")
    assert "Bring tea" not in "".join(ada.page.locator(".away-both").all_inner_texts())
    # It asks for nothing: one writes on.
    ada.page.keyboard.type(" Really.")
    ada.is_told("saved")
    note.get_by_role("button", name="Show them").press("Enter")
    expect(note).to_contain_text("1 of 3")
    expect(ada.page.locator("ins.away-came", has_text="two windows")).to_have_attribute(
        "title", "Grace, while you were away"
    )
    expect(ada.page.locator("del.away-gone", has_text="no light")).to_be_visible()
    note.get_by_role("button", name="Next of these changes").press("Enter")
    expect(note).to_contain_text("2 of 3")
    expect(ada.page.locator(".hidden[aria-live]")).to_contain_text(
        "Grace wrote “two windows”. Grace deleted “no light”."
    )
    note.get_by_role("button", name="Take theirs back").press("Enter")
    expect(note).to_have_count(0)
    expect(ada.page.locator(".away-both, .away-came, .away-gone")).to_have_count(0)
    mine = "We leave on Friday. Bring tea.\n\nThe hut has no light.\nI have a lamp. Really."
    grace.sees(mine)
    ada.is_told("saved")
    assert content(server, "trip") == mine
    ada.page.locator(".toast").get_by_role("button", name="Undo").click()
    grace.sees("We go on Friday. Bring tea.\n\nThe hut has two windows.\nI have a lamp. Really.")


def test_on_return_one_is_told_also_when_the_line_breaks_again_at_once(
    arrive: Callable[..., Person], server: Server
) -> None:
    """16: what came over a line that was lost before it was up is part of what changed."""
    ada, grace = arrive("Ada"), arrive("Grace")
    breaks = 0
    broken = 0

    def pass_on(line: WebSocketRoute) -> None:
        other_end = line.connect_to_server()

        def hand(message: str | bytes) -> None:
            nonlocal broken
            # What the server had was in the frames before its acknowledgement.
            if broken < breaks and message[0] == ACKNOWLEDGE:
                broken += 1
                line.close(code=1001)
            else:
                line.send(message)

        other_end.on_message(hand)

    ada.page.route_web_socket("**/ws/**", pass_on)
    ada.open("again")
    ada.write("We leave on Monday.")
    ada.is_told("saved")
    grace.open("again")
    grace.is_told("saved")
    ada.unplug()
    ada.write(" Bring tea.")
    grace.write(" Or coffee.")
    grace.is_told("saved")
    breaks = 2
    ada.plug_in()
    ada.is_told("saved")
    note = ada.page.get_by_role("region", name="While you were away")
    expect(note).to_contain_text("Grace changed 1 place. You added 2 words.")
    assert broken == breaks


def test_what_one_did_offline_is_taken_back_also_after_a_reload(
    arrive: Callable[..., Person], server: Server
) -> None:
    """16: what was written before a reload, and what was deleted, is known to be one's own."""
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("back")
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.keyboard.insert_text("First point.\nSecond point.\nThird point.\n")
    ada.is_told("saved")
    grace.open("back")
    grace.is_told("saved")
    ada.can_reload_without_server()
    ada.unplug()
    replace(ada, "Second", "Another")
    ada.page.reload()
    ada.is_told("offline")
    ada.write("Fourth point.")
    replace(grace, "First", "Primary")
    grace.is_told("saved")
    ada.plug_in()
    note = ada.page.get_by_role("region", name="While you were away")
    expect(note).to_contain_text("Grace changed 1 place. You added 3 words.")
    assert "edited by both" not in note.inner_text()
    note.get_by_role("button", name="Show the changes").click()
    note.get_by_role("button", name="Take mine back").click()
    ada.sees("Primary point.\nSecond point.\nThird point.\n")
    ada.is_told("saved")
    assert content(server, "back") == "Primary point.\nSecond point.\nThird point.\n"


@CLOSED
def test_who_comes_back_to_a_document_is_told_what_changed_since(
    arrive: Callable[..., Person], server: Server
) -> None:
    """16: without the right to its history, from what is here; of a moment's absence no word."""
    ada, grace = arrive("Ada"), arrive("Grace")
    make(server, "since", "Since")
    ada.page.goto(share(server, "since", "viewer")["url"])
    ada.is_told("reading")
    grace.page.goto(share(server, "since", "editor")["url"])
    grace.write("One.\n")
    ada.sees("One.\n")
    ada.page.goto("about:blank")
    grace.write("Two.\n")
    ada.open("since")
    ada.sees("One.\nTwo.\n")
    ada.is_told("reading")
    expect(ada.page.get_by_role("list", name="Also here").get_by_role("button")).to_have_count(1)
    note = ada.page.get_by_role("region", name="While you were away")
    expect(note).to_have_count(0)
    ada.page.goto("about:blank")
    grace.write("Three.\n")
    grace.is_told("saved")
    grace.page.close()
    ada.page.clock.set_system_time(time.time() + 3600)
    ada.open("since")
    expect(note).to_contain_text("While you were away, others changed 1 place.")
    expect(note.get_by_role("button", name="Take")).to_have_count(0)
    note.get_by_role("button", name="Show the changes").click()
    expect(ada.page.locator("ins.away-came")).to_contain_text("Three.")
    ada.page.keyboard.press("Escape")
    expect(note).to_have_count(0)
    expect(ada.page.locator("ins.away-came")).to_have_count(0)


# --- what the server will not take -------------------------------------------------------------------


@CLOSED
@pytest.mark.parametrize("how", ["demoted", "deleted", "unshared"])
def test_edits_that_the_server_will_not_take_become_a_document_of_their_own(
    arrive: Callable[..., Person], server: Server, how: str
) -> None:
    """3, 18: refused as a whole, kept, and offered as a copy and as a file; then they are let go."""
    ada = arrive("Guest")
    person = ada.join(server, "ada@example.org", "Ada")
    make(server, "plan", "Plan")
    set_role(server, "plan", person, "editor")
    ada.open("plan")
    ada.write("shared")
    ada.is_told("saved")
    ada.unplug()
    ada.write(", mine")
    if how == "demoted":
        set_role(server, "plan", person, "viewer")
    elif how == "deleted":
        call(server, "DELETE", at("plan"))
    else:
        call(server, "DELETE", f"{at('plan')}/members/{quote(person, safe='')}")
    ada.plug_in()
    notice = ada.page.locator(".notice")
    expect(notice).to_contain_text("6 edits of yours did not reach the server and stay on this device")
    ada.sees("shared, mine")
    with ada.page.expect_download() as downloading:
        notice.get_by_role("button", name="Download").click()
    assert downloading.value.suggested_filename == "Plan.md"
    assert downloading.value.path().read_text() == "shared, mine"
    notice.get_by_role("button", name="Save as a new document").click()
    expect(ada.page.get_by_label("Title")).to_have_value("Plan (copy)")
    ada.is_told("saved", "Saved")
    ada.sees("shared, mine")
    assert "/d/plan" not in ada.page.url
    ada.page.goto(f"{server.url}/device")
    expect(ada.page.get_by_role("link", name="Plan (copy)")).to_be_visible()
    expect(ada.page.locator(".unsent")).to_have_count(0)
    if how == "demoted":
        ada.open("plan")
        ada.is_told("reading")
        ada.sees("shared")
        expect(notice).to_be_hidden()
        assert content(server, "plan") == "shared"


# --- on this device ----------------------------------------------------------------------------------


def test_a_copy_takes_its_images_along(arrive: Callable[..., Person], server: Server) -> None:
    """3: those that the server has, and one that waits on this device for a document that is gone."""
    ada = arrive("Ada")
    ada.open("pictures")
    paste_image(ada, PNG)
    expect(ada.page.locator(".cm-content img[src*='/images/']")).to_have_count(1)
    ada.is_told("saved")
    ada.can_reload_without_server()
    ada.unplug()
    paste_image(ada, PNG + b"another")
    expect(ada.page.locator(".cm-content img[src*='/images/']")).to_have_count(2)
    paste_image(ada, b"no picture, whatever it is called")
    ada.page.wait_for_function("() => document.querySelector('.cm-content').textContent.includes('/images/')")
    server.stop()
    with closing(sqlite3.connect(server.data / "collab.db")) as database, database:
        database.execute("UPDATE documents SET epoch = epoch + 1")
    server.start()
    ada.plug_in()
    ada.is_told("stopped")
    ada.page.locator(".notice").get_by_role("button", name="Save as a new document").click()
    ada.page.wait_for_url(lambda url: "pictures" not in url)
    ada.is_told("saved", "Saved")
    name = ada.page.url.rsplit("/", 1)[1]
    assert len(ada.asks(f"{at(name)}/images")["images"]) == 2
    ada.page.wait_for_function(
        "() => [...document.images].filter((image) => image.naturalWidth > 0).length === 2"
    )


@pytest.mark.parametrize("server", [{}, {"secret": SECRET}], indirect=True, ids=["open", "closed"])
def test_a_document_begun_without_a_server_is_made_when_it_is_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Guest")
    if server.settings:
        ada.join(server, "ada@example.org", "Ada")
    ada.page.goto(server.url)
    ada.can_reload_without_server()
    server.stop()
    ada.page.get_by_role("button", name="New document").click()
    ada.is_told("offline")
    ada.write("begun on a train")
    ada.is_told("offline", "Offline, 16 edits on this device")
    ada.page.goto(server.url)
    ada.page.get_by_role("link", name="Untitled").click()
    ada.sees("begun on a train")
    server.start()
    ada.is_told("saved", "Saved")
    ada.write(".")
    ada.is_told("saved", "Saved")
    assert content(server, ada.page.url.rsplit("/", 1)[1]) == "begun on a train."


def test_a_document_that_is_removed_from_the_device_while_it_is_open_is_kept_again(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "open", "Open")
    ada.open("open")
    ada.write("first ")
    ada.is_told("saved")
    ada.can_reload_without_server()
    other = ada.new_page()
    other.goto(f"{server.url}/device")
    other.get_by_role("button", name="Remove Open from this device").click()
    expect(other.get_by_text("Nothing is kept on this device.")).to_be_visible()
    server.stop()
    ada.is_told("offline")
    ada.write("second")
    ada.is_told("offline", "Offline, 6 edits on this device")
    ada.page.reload()
    ada.sees("first second")


def test_what_was_typed_while_the_device_took_nothing_is_told_to_other_tabs_when_it_does(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("told")
    ada.write("0")
    ada.is_told("saved")
    ada.can_reload_without_server()
    second = ada.open("told", ada.new_page())
    ada.is_told("saved", page=second)
    server.stop()
    for page in (ada.page, second):
        ada.is_told("offline", page=page)
    ada.page.evaluate(
        """() => {
          const { add } = IDBObjectStore.prototype;
          IDBObjectStore.prototype.add = () => {
            IDBObjectStore.prototype.add = add;
            throw new DOMException('full', 'QuotaExceededError');
          };
        }"""
    )
    ada.write("abc")
    ada.is_told("unstored", "Not stored anywhere: 3 edits")
    for page in (ada.page, second):
        ada.is_told("offline", "Offline, 3 edits on this device", page)
        ada.sees("0abc", page)


def test_the_device_says_what_it_keeps_and_lets_go_of_it(
    arrive: Callable[..., Person], server: Server
) -> None:
    """6, 7: what is not sent yet, what it takes, whether the browser has promised to keep it."""
    ada = arrive("Ada")
    make(server, "soup", "Soup")
    make(server, "bread", "Bread")
    for name in ("bread", "soup"):
        ada.open(name)
        ada.write("text")
        ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    ada.write("!!")
    ada.is_told("offline", "Offline, 2 edits on this device")

    ada.page.goto(f"{server.url}/")  # from a fresh load, with no server
    rows = ada.page.get_by_role("listitem")
    expect(rows.filter(has_text="Soup")).to_contain_text("2 edits not sent yet")
    expect(rows.filter(has_text="Bread")).not_to_contain_text("not sent")
    rows.filter(has_text="Bread").get_by_role("link").click()
    ada.sees("text")
    ada.page.goto(f"{server.url}/")
    ada.page.get_by_role("link", name="On this device").click()
    expect(ada.page.get_by_role("heading", name="On this device")).to_be_visible()
    expect(ada.page.get_by_text("that this browser allows")).to_be_visible()
    # It was asked with the first edit that was nowhere else, and may be asked again.
    said = ada.page.locator(".lasting p")
    expect(said).to_contain_text(re.compile("agreed to keep it|may throw it away"))
    if "throw" in said.inner_text():
        ada.page.get_by_role("button", name="Ask it to keep this").click()
        expect(said).to_contain_text(re.compile("agreed to keep it|does not agree now"))

    ada.page.get_by_role("button", name="Remove Bread from this device").click()
    expect(rows).to_have_count(1)
    ada.page.get_by_role("button", name="Remove Soup from this device").click()
    dialog = ada.page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 edits in “Soup” have not reached the server, and are nowhere else.")
    dialog.get_by_role("button", name="Cancel").click()
    expect(rows).to_have_count(1)
    server.start()
    ada.open("soup")
    ada.is_told("saved", "Saved")
    ada.page.goto(f"{server.url}/device")
    ada.page.get_by_role("button", name="Remove all of it").click()
    expect(ada.page.get_by_text("Nothing is kept on this device.")).to_be_visible()
    assert content(server, "soup") == "text!!"
