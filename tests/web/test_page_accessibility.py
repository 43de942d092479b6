"""Every view under axe, at both widths and in both colour schemes, and by keyboard alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from pages import Person, ada_and_bob, call, content, invitation, make, set_role, share
from playwright.sync_api import Locator, Page, expect
from serverprocess import Server
from stockclients import HERE, install

SIZES = {"desktop": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 780}}
# Everything that axe knows of WCAG 2.0 to 2.2, A and AA; the size of targets it leaves out unless asked. The
# slash menu is walked by the arrow keys from the text (aria-activedescendant), scrolls by itself and takes no
# focus: axe knows that of a combobox, and not of a text of several lines.
RUN = """() => axe.run(document, {
  runOnly: { type: 'tag', values: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa'] },
  rules: { 'target-size': { enabled: true } },
  resultTypes: ['violations'],
}).then(({ violations }) => violations.flatMap((violation) =>
  violation.nodes
    .filter((node) => violation.id !== 'scrollable-region-focusable' || !/^<ul id="cm-ac-/.test(node.html))
    .map((node) => `${violation.id}: ${node.html.slice(0, 160)} ${node.failureSummary}`)))"""


@pytest.fixture
def server(closed_server: Server) -> Server:
    """One for all, on which nobody may do anything until they are let in."""
    return closed_server


class Inspector:
    """Looks at one view after the other, and says at the end what is wrong with each."""

    def __init__(self, axe: str) -> None:
        self.axe = axe
        self.found: list[str] = []
        self.views = 0

    def look(self, page: Page, view: str) -> None:
        if not page.evaluate("'axe' in window"):
            page.evaluate(self.axe)
        before = page.viewport_size
        self.views += 1
        for width, size in SIZES.items():
            page.set_viewport_size(size)  # type: ignore[arg-type]
            for scheme in ("light", "dark"):
                page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
                # Transitions that were under way are over, or were broken off.
                page.evaluate("Promise.allSettled(document.getAnimations().map((one) => one.finished))")
                for said in page.evaluate(RUN):
                    self.found.append(f"{view}, {width}, {scheme}: {said}")
        page.set_viewport_size(before)  # type: ignore[arg-type]


@pytest.fixture
def inspector() -> Iterator[Inspector]:
    install()
    inspector = Inspector((HERE / "node_modules" / "axe-core" / "axe.min.js").read_text())
    yield inspector
    assert inspector.views > 0
    assert inspector.found == [], "\n".join(inspector.found)


def test_the_doors_are_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    page = arrive("Kestrel").page
    page.goto(f"{server.url}/sign-in")
    page.get_by_label("E-mail address").fill("nobody@example.org")
    page.get_by_label("Password", exact=True).fill("something else")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert").filter(has_text=".")).to_be_visible()
    inspector.look(page, "sign in, refused")
    page.goto(invitation(server, "kestrel@example.org", "Kestrel"))
    expect(page.get_by_label("Choose a password")).to_be_visible()
    inspector.look(page, "join")
    make(server, "locked")
    page.goto(share(server, "locked", "viewer", password="open sesame")["url"])
    expect(page.get_by_label("Password")).to_be_visible()
    inspector.look(page, "link with a password")
    page.goto("about:blank")
    page.goto(f"{server.url}/s#link_none")
    expect(page.get_by_role("heading", name="does not open")).to_be_visible()
    inspector.look(page, "link that does not open")
    page.goto(f"{server.url}/d/somebody-elses")
    expect(page.get_by_role("heading", name="not shared with you")).to_be_visible()
    inspector.look(page, "document, not shared with a guest")
    page.goto(server.url)
    expect(page.get_by_text("Nothing here yet")).to_be_visible()
    inspector.look(page, "empty list")


def test_lists_and_documents_are_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    me = ada.join(server, "ada-views@example.org", "Ada Lovelace")
    make(server, "views", "Plan of the archive")
    set_role(server, "views", me, "owner")
    him = bob.join(server, "bob-views@example.org", "Bob Marsh")
    set_role(server, "views", him, "editor")
    page = ada.page
    page.goto(server.url)
    expect(page.get_by_role("link", name="Plan of the archive")).to_be_visible()
    inspector.look(page, "list")
    page.get_by_role("link", name="Plan of the archive").focus()
    inspector.look(page, "list, on a row")
    page.locator(".me").click()
    inspector.look(page, "person sheet")
    ada.open("views")
    ada.write(TEXT)
    ada.is_told("saved")
    bob.open("views")
    bob.write("\nHis.")
    expect(page.get_by_role("list", name="Also here").get_by_role("button")).to_be_visible()
    inspector.look(page, "document")
    set_role(server, "views", him, "viewer")
    bob.is_told("reading")
    inspector.look(bob.page, "document, read only")
    call(server, "DELETE", f"/api/documents/views/members/{him}")
    bob.is_told("stopped")
    inspector.look(bob.page, "document, not shared any more")
    bob.page.reload()
    expect(bob.page.get_by_role("heading", name="not shared with you")).to_be_visible()
    inspector.look(bob.page, "document, closed")
    ada.context.request.delete(f"{server.url}/api/session")
    ada.is_told("signedOut")
    inspector.look(page, "document, signed out")


def test_the_history_is_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada, bob, him = ada_and_bob(arrive, server, "past", TEXT)
    set_role(server, "past", him, "editor")
    bob.open("past")
    bob.write("\nHis.")
    bob.is_told("saved")
    page = ada.page
    panel = history(page)
    inspector.look(page, "history, changes")
    panel.get_by_role("radio", name="Text").check()
    expect(panel.locator(".past-text")).not_to_have_attribute("aria-busy", "true")
    inspector.look(page, "history, text")
    panel.get_by_role("radio", name="Any two").check()
    expect(panel.locator(".past-text")).not_to_have_attribute("aria-busy", "true")
    inspector.look(page, "history, any two")
    panel.get_by_role("button", name="Name this version").click()
    inspector.look(page, "history, naming")
    panel.get_by_role("button", name="Cancel").click()
    panel.get_by_role("radio", name="Changes").check()
    panel.get_by_label("Moment in the history").press("ArrowLeft")
    panel.get_by_role("button", name="Restore").click()
    expect(page.get_by_role("dialog")).to_be_visible()
    inspector.look(page, "history, restore")


def test_the_share_dialog_is_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada, bob, _ = ada_and_bob(arrive, server, "shared")
    page = ada.page
    page.get_by_role("button", name="Share", exact=True).click()
    dialog = page.get_by_role("dialog")
    for who, name in (("bob-shared@example.org", "Bob Marsh"), ("user:grace", "grace")):
        dialog.get_by_label("E-mail address").fill(who)
        dialog.get_by_role("button", name="Add").click()
        expect(dialog.get_by_label(f"What {name} may do")).to_be_visible()
    dialog.get_by_role("button", name="Remove grace").click()
    dialog.get_by_label("E-mail address").fill("nobody")
    dialog.get_by_role("button", name="Add").click()
    dialog.get_by_role("button", name="New link").click()
    dialog.get_by_role("button", name="Make the link").click()
    expect(dialog.get_by_text("only this once")).to_be_visible()
    dialog.get_by_role("button", name="New link").click()
    inspector.look(page, "share dialog")
    bob.open("shared")
    bob.page.get_by_role("button", name="Share", exact=True).click()
    expect(bob.page.get_by_role("dialog")).to_contain_text("You may write in this document.")
    inspector.look(bob.page, "share dialog, not an owner's")


def test_what_opens_over_a_document_is_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada = arrive("Ada")
    ada.join(server, "ada-over@example.org", "Ada Lovelace")
    ada.open("over")
    ada.write("Ours.")
    ada.is_told("saved")
    page = ada.page
    page.keyboard.press("Control+a")
    expect(page.get_by_role("button", name="Who wrote this?")).to_be_visible()
    inspector.look(page, "selection")
    page.get_by_role("button", name="Who wrote this?").click()
    sheet = page.get_by_role("dialog", name="Who wrote this")
    expect(sheet.get_by_role("listitem")).to_be_visible()
    inspector.look(page, "who wrote this")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    inspector.look(page, "shortcuts")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Download").click()
    expect(page.locator("#downloads")).to_be_visible()
    inspector.look(page, "downloads")


def test_what_helps_to_write_is_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada = arrive("Ada")
    ada.join(server, "ada-writes@example.org", "Ada Lovelace")
    ada.open("writes")
    page = ada.page
    page.locator(".cm-content[contenteditable=true]").focus()
    page.keyboard.insert_text(TEXT + TABLE)
    ada.is_told("saved")
    inspector.look(page, "live preview")
    for view in ("Markdown source", "Read"):
        page.get_by_role("button", name=view, exact=True).click()
        inspector.look(page, view)
    page.get_by_role("button", name="Write, with preview").click()
    page.get_by_role("button", name="Heading", exact=True).click()
    expect(page.get_by_role("menu")).to_be_visible()
    inspector.look(page, "menu of headings")
    page.keyboard.press("Escape")
    ada.write("/")
    expect(page.get_by_role("listbox")).to_be_visible()
    inspector.look(page, "slash menu")
    page.keyboard.press("Escape")
    page.keyboard.press("Backspace")
    page.keyboard.press("Control+f")
    page.keyboard.type("code")
    inspector.look(page, "find")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Alt+o")
    expect(page.get_by_role("navigation")).to_be_visible()
    inspector.look(page, "outline")


def test_what_tells_of_offline_work_is_open_to_everybody(
    arrive: Callable[..., Person], server: Server, inspector: Inspector
) -> None:
    ada, bob, him = ada_and_bob(arrive, server, "away", "We meet on Monday in the small room.")
    set_role(server, "away", him, "editor")
    bob.open("away")
    bob.is_told("saved")
    ada.can_reload_without_server()
    page = ada.page
    page.context.set_offline(True)
    page.evaluate("dispatchEvent(new Event('offline'))")
    ada.is_told("offline")
    ada.write(" Bring tea.")
    inspector.look(page, "document, offline")
    bob.write(" Or coffee.")
    bob.is_told("saved")
    page.goto(f"{server.url}/")
    expect(page.get_by_text("cannot be reached")).to_be_visible()
    inspector.look(page, "list, offline")
    page.goto(f"{server.url}/device")
    expect(page.get_by_role("link", name="away")).to_be_visible()
    inspector.look(page, "on this device")
    ada.open("away")
    page.context.set_offline(False)
    page.evaluate("dispatchEvent(new Event('online'))")
    ada.is_told("saved")
    note = page.get_by_role("region", name="While you were away")
    note.get_by_role("button", name="Show").first.click()
    inspector.look(page, "while you were away")


def test_on_paper_there_is_all_of_the_text_and_nothing_else(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada", color_scheme="dark")
    ada.join(server, "ada-paper@example.org", "Ada Lovelace")
    ada.open("paper")
    page = ada.page
    page.locator(".cm-content[contenteditable=true]").focus()
    page.keyboard.insert_text("\n".join(f"Line {n}." for n in range(400)))
    ada.is_told("saved")
    assert page.locator(".cm-line").count() < 400, "on the screen there are only those in sight"
    page.emulate_media(media="print", color_scheme="dark")
    expect(page.locator(".cm-line")).to_have_count(400)
    expect(page.locator("header, button, [role=status]").filter(visible=True)).to_have_count(0)
    expect(page.locator(".cm-line").first).to_have_css("color", "rgb(0, 0, 0)")
    expect(page.locator("html")).to_have_css("background-color", "rgb(255, 255, 255)")


def test_each_line_runs_the_way_of_its_script(arrive: Callable[..., Person], server: Server) -> None:
    ada = arrive("Ada")
    ada.join(server, "ada-lines@example.org", "Ada Lovelace")
    ada.open("lines")
    ada.write("From the left.\n\u05e9\u05dc\u05d5\u05dd")
    lines = ada.page.locator(".cm-line")
    for n, way in enumerate(("ltr", "rtl")):
        expect(lines.nth(n)).to_have_css("direction", way)
    # The caret begins at the right, and what is typed goes on to the left of what is there.
    column = """() => getSelection().getRangeAt(0).getBoundingClientRect().x"""
    ada.page.keyboard.press("Home")
    begin = ada.page.evaluate(column)
    ada.page.keyboard.press("ArrowLeft")
    assert ada.page.evaluate(column) < begin
    ada.page.keyboard.press("End")
    ada.page.keyboard.type("!")
    ada.sees("From the left.\n\u05e9\u05dc\u05d5\u05dd!")
    ada.page.locator(".title").fill("\u05e9\u05dc\u05d5\u05dd")
    expect(ada.page.locator(".title")).to_have_css("direction", "rtl")


def test_by_keyboard_alone_one_finds_writes_shares_and_looks_back_and_always_sees_where_one_is(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    me = ada.join(server, "ada-keys@example.org", "Ada Lovelace")
    make(server, "keys", "By keyboard")
    set_role(server, "keys", me, "owner")
    page = ada.page
    page.goto(server.url)
    expect(page.get_by_role("link", name="By keyboard")).to_be_visible()
    to(page, "By keyboard")
    page.keyboard.press("Enter")
    # Who comes to write is in the text at once.
    expect(page.locator(".cm-content")).to_be_focused()
    page.keyboard.type("Written.")
    ada.is_told("saved")
    page.keyboard.press("Control+a")
    page.keyboard.press("Alt+F10")
    to(page, "Bold", "ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator(".cm-content")).to_be_focused()
    ada.is_told("saved")
    assert content(server, "keys") == "**Written.**"

    to(page, "Share", "Shift+Tab")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("What Ada Lovelace may do")).to_be_visible()
    expect(dialog.get_by_label("E-mail address")).to_be_focused()
    to(page, "New link")
    page.keyboard.press("Enter")
    to(page, "Make the link")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Address of the link")).to_be_visible()
    to(page, "Close")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Share", exact=True)).to_be_focused()

    to(page, "History", "Shift+Tab")
    page.keyboard.press("Enter")
    panel = page.get_by_role("region", name="History")
    expect(panel.locator(".version[aria-current=true]")).to_be_focused()
    to(page, "Moment in the history", "Shift+Tab")
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="History", exact=True)).to_be_focused()

    page.keyboard.press("Control+/")
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    page.keyboard.press("Control+/")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("button", name="History", exact=True)).to_be_focused()
    to(page, "Title", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.locator(".cm-content")).to_be_focused()
    to(page, "All documents", "Shift+Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("link", name="By keyboard")).to_be_visible()


def test_who_goes_on_as_a_dialog_closes_is_not_called_back(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.join(server, "ada-goes-on@example.org", "Ada Lovelace")
    ada.open("goes-on")
    ada.is_told("saved")
    page = ada.page
    page.get_by_role("button", name="Keyboard shortcuts").click()
    expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_be_visible()
    # A busy page hears of the closing only after the next keys.
    page.evaluate("""async () => {
      const dialog = document.querySelector('dialog');
      const heard = new Promise((resolve) => dialog.addEventListener('close', resolve));
      dialog.close();
      document.querySelector('.cm-content').focus();
      await heard;
    }""")
    expect(page.locator("dialog")).to_have_count(0)
    page.keyboard.type("Goes on.")
    ada.sees("Goes on.")


STOPS = 40  # of the Tab key, at most
# What the keyboard is on, as it is called, and where.
STOP = """() => {
  const { activeElement: on } = document;
  const { x, y, width, height } = on.getBoundingClientRect();
  const called = on.ariaLabel || on.labels?.[0]?.textContent || on.querySelector('.name')?.textContent;
  return {
    name: (called || on.textContent).trim(),
    // The text has a caret, and after the last stop of a dialog come the browser's own.
    plain: on !== document.body && !on.classList.contains('cm-content'),
    shown: x < innerWidth && y < innerHeight && x + width > 0 && y + height > 0,
    clip: { x: Math.max(0, x - 6), y: Math.max(0, y - 6), width: width + 12, height: height + 12 },
  };
}"""


def to(page: Page, name: str, key: str = "Tab") -> None:
    """Go there, and see at every stop on the way that it is the one."""
    seen: list[str] = []
    for _ in range(STOPS):
        page.keyboard.press(key)
        stop = page.evaluate(STOP)
        seen.append(stop["name"])
        if stop["plain"]:
            assert stop["shown"], f"{stop['name']} is out of sight"
            # What is loaded meanwhile may move it between two looks.
            seen_on = any(is_marked(page) for _ in range(3))
            assert seen_on, f"one does not see that the keyboard is on {stop['name']!r}"
        if stop["name"] == name:
            return
    pytest.fail(f"{name!r} is not among {seen}")


def is_marked(page: Page) -> bool:
    """Whether what the keyboard is on looks otherwise than when it is not."""
    clip = page.evaluate(STOP)["clip"]
    on = page.screenshot(clip=clip, animations="disabled", caret="hide")
    page.evaluate("window.on = document.activeElement; window.on.blur()")
    off = page.screenshot(clip=clip, animations="disabled", caret="hide")
    page.evaluate("window.on.focus()")
    return on != off


def history(page: Page) -> Locator:
    page.get_by_role("button", name="History", exact=True).click()
    panel = page.get_by_role("region", name="History")
    # A history is read by a process of its own, which starts with the first question.
    expect(panel.locator(".version[aria-current=true]")).to_be_visible()
    expect(panel.locator(".past-text")).not_to_have_attribute("aria-busy", "true")
    return panel


TEXT = """# Heading

Some **bold**, *italic*, ~~struck~~ and `code`, a [link](https://example.org) and ![an image](x.png).

- [ ] a task
- a list

> A quote.

```
code
```
"""
TABLE = """
| A | B |
|---|---|
| 1 | 2 |

"""
