"""Pictures of every view of a running server, for looking at and for the README.

    export COLLAB_SECRET=$(openssl rand -hex 32)
    collab serve --port 8100 --data /tmp/pictures &
    python docs/screenshots.py http://127.0.0.1:8100 shots/

writes one PNG for each view, width and colour scheme, and `editor.png`, two people in one document. With the
secret it invites people and makes documents; the documents are deleted again at the end.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from web import auth, signin

SECRET = os.environ["COLLAB_SECRET"]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
PASSWORD = "the reading room is closed"
WIDTHS = {"desktop": (1280, 800), "phone": (390, 780)}

TEXT = """# Moving the archive

We meet on **Thursday** to decide where the reading room's index cards go. \
Whoever cannot come writes here before then.

## What we know

- 41 drawers, about 1,200 cards each
- The cards of 1962 to 1971 are *not* in the catalogue
- [ ] Ask the museum whether the damp has reached the north wall

> Nobody has thrown a card away since 1948, and nobody will on my watch.

## How we scan

One of us photographs, one types, and everyone else catches up in the evening. A card is done when \
`catalogue check` says so:

```
catalogue check drawer-17 --against photographs/
```

"""

OTHERS = [
    ("minutes/2026-11-23", "Minutes of Monday"),
    ("menu", "What we cook for the opening"),
    ("letters", "Letters to the council"),
    ("signs", "Signs for the reading room: wording, sizes, who paints them"),
]


def call(url: str, method: str, path: str, body: object = None) -> Any:
    """As somebody who may do everything."""
    token = auth.issue(SECRET, "pictures", audience="collab", seconds=60, documents={"*": auth.Role.OWNER})
    data = None if body is None else json.dumps(body).encode()
    headers = {"content-type": "application/json", "authorization": f"Bearer {token}"}
    request = urllib.request.Request(f"{url}/api{path}", data, headers, method=method)
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


def at(name: str) -> str:
    return f"/documents/{quote(name, safe='')}"


@contextmanager
def documents(url: str) -> Iterator[list[str]]:
    """Documents to look at; the last is to write in."""
    run = secrets.token_hex(3)  # a deleted name stays taken
    every = [*OTHERS, ("archive", "Moving the archive")]
    made = [call(url, "POST", "/documents", {"name": f"{run}/{n}", "title": t})["name"] for n, t in every]
    try:
        yield made
    finally:
        for each in made:
            call(url, "DELETE", at(each))


def link(url: str, name: str, role: str) -> str:
    found: str = call(url, "POST", f"{at(name)}/links", {"role": role})["url"]
    return found


def invitation(url: str, email: str, name: str) -> str:
    key = auth.derived_key(SECRET, signin.INVITATION)
    return f"{url}/join#{signin.invitation(key, email, name)}"


class Camera:
    """A browser that shows everybody's view in one width and one colour scheme."""

    def __init__(self, browser: Browser, out: Path, width: str, scheme: str) -> None:
        self.browser, self.out = browser, out
        self.width, self.scheme = width, scheme

    def person(self, name: str, color: str, state: Any = None) -> Page:
        w, h = WIDTHS[self.width]
        context: BrowserContext = self.browser.new_context(
            viewport={"width": w, "height": h},
            color_scheme=self.scheme,  # type: ignore[arg-type]
            has_touch=self.width == "phone",
            device_scale_factor=1 if self.width == "desktop" else 2,
            storage_state=state,
        )
        me = json.dumps(json.dumps({"name": name, "color": color}))
        context.add_init_script(
            f"localStorage.getItem('collab.person') ?? localStorage.setItem('collab.person', {me})"
        )
        page = context.new_page()
        page.on("console", lambda said: print(f"{name}: {said.text} {said.location}", file=sys.stderr))
        page.on("pageerror", lambda error: print(f"{name}: {error}", file=sys.stderr))
        return page

    def shoot(self, page: Page, view: str, **options: Any) -> None:
        page.mouse.move(0, 0)
        page.wait_for_timeout(350)
        page.screenshot(path=self.out / f"{view}-{self.width}-{self.scheme}.png", **options)


def status(page: Page, kind: str) -> None:
    page.locator(f".status[data-kind={kind}]").wait_for()


def write(page: Page, text: str) -> None:
    page.locator(".cm-content[contenteditable=true]").focus()
    page.keyboard.insert_text(text)


def shoot(url: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, documents(url) as names:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        name = names[-1]
        ines = Camera(browser, out, "desktop", "light").person("Ines Duarte", "#b5303d")
        ines.goto(link(url, name, "editor"))
        write(ines, TEXT)
        status(ines, "saved")
        first = Camera(browser, out, "desktop", "light")
        tomas = first.person("Tomas Lind", "#1c7a6c")
        email = f"tomas-{secrets.token_hex(3)}@example.org"
        tomas.goto(invitation(url, email, "Tomas Lind"))
        tomas.get_by_label("Choose a password").fill(PASSWORD)
        tomas.get_by_role("button", name="Join").click()
        tomas.get_by_role("heading", name="Documents").wait_for()
        actor = tomas.evaluate("fetch('/api/me').then((answer) => answer.json())")["actor"]
        for each, role in zip(names, ("owner", "editor", "viewer", "viewer", "owner"), strict=True):
            call(url, "PUT", f"{at(each)}/members/{quote(actor, safe='')}", {"role": role})
        state = tomas.context.storage_state()
        tomas.context.close()
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                camera = Camera(browser, out, width, scheme)
                doors(camera, url, name, email)
                rooms(camera, url, names, state, ines)
                limits(camera, url, name, email)
        browser.close()


def doors(camera: Camera, url: str, name: str, email: str) -> None:
    """What comes before the documents."""
    page = camera.person("Kestrel", "#3f66c4")
    page.goto(f"{url}/sign-in")
    page.get_by_label("E-mail address").fill(email)
    camera.shoot(page, "sign-in")
    page.get_by_label("Password", exact=True).fill("something else")
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("alert").filter(has_text=".").wait_for()
    camera.shoot(page, "sign-in-refused")
    page.route("**/api/sign-in", lambda route: route.fulfill(json={"signup": True, "oidc": "/auth/oidc"}))
    page.goto(f"{url}/sign-in?next=/d/x")
    page.get_by_text("with your organisation").wait_for()
    camera.shoot(page, "sign-in-provider")
    page.goto("about:blank")
    page.goto(invitation(url, "ada@example.org", "Ada"))
    camera.shoot(page, "join")
    locked = call(url, "POST", f"{at(name)}/links", {"password": "open sesame"})
    page.goto(locked["url"])
    page.get_by_label("Password").fill("guess")
    page.get_by_role("button", name="Open the document").click()
    page.get_by_role("alert").filter(has_text=".").wait_for()
    camera.shoot(page, "link-password")
    call(url, "DELETE", f"{at(name)}/links/{locked['id']}")
    page.goto("about:blank")
    page.goto(f"{url}/s#link_revoked")
    page.get_by_role("heading", name="does not open").wait_for()
    camera.shoot(page, "link-broken")
    page.goto(f"{url}/")
    page.get_by_text("Nothing here yet").wait_for()
    camera.shoot(page, "list-guest")
    page.locator(".me").click()
    camera.shoot(page, "person-guest")
    page.goto(f"{url}/d/somebody-elses")
    page.get_by_role("heading", name="not shared").wait_for()
    camera.shoot(page, "closed-guest")
    page.context.close()


def rooms(camera: Camera, url: str, names: list[str], state: Any, ines: Page) -> None:
    """What somebody sees who has signed in."""
    page = camera.person("", "#1c7a6c", state)
    page.goto(url)
    page.locator(".row").first.hover()
    page.screenshot(path=camera.out / f"list-{camera.width}-{camera.scheme}.png")
    page.goto(f"{url}/d/{names[-1]}")
    status(page, "saved")
    page.get_by_role("list", name="Also here").get_by_role("button").first.wait_for()
    select(ines, "the museum")
    page.bring_to_front()
    camera.shoot(page, "document")
    if camera.width == "desktop" and camera.scheme == "light":
        page.locator(".cm-content").focus()
        page.keyboard.press("Control+End")
        page.keyboard.type("Thursday at six, then. I bring the lamp", delay=20)
        select(ines, "everyone else")
        status(page, "saved")
        page.bring_to_front()
        page.set_viewport_size({"width": 1280, "height": 900})
        page.evaluate("scrollTo(0, 0)")
        page.wait_for_timeout(300)
        page.screenshot(path=camera.out / "editor.png", caret="initial")
        page.set_viewport_size({"width": 1280, "height": 800})
    page.locator(".me").click()
    camera.shoot(page, "person")
    page.keyboard.press("Escape")
    ways(camera, page)
    past(camera, page)
    over(camera, url, page, names[-1])
    page.goto(f"{url}/d/{names[2]}")
    status(page, "reading")
    camera.shoot(page, "reading-empty")
    page.goto(f"{url}/d/somebody-elses")
    status(page, "saved")
    camera.shoot(page, "new")
    page.context.close()


def ways(camera: Camera, page: Page) -> None:
    """The document on the page, looked at in other ways, and what helps to write in it."""
    for view, name in (("Markdown source", "source"), ("Read", "read"), ("Write, with preview", "")):
        page.get_by_role("button", name=view, exact=True).click()
        if name:
            camera.shoot(page, name)
    page.keyboard.press("Control+f")
    page.locator(".find input").first.wait_for()
    page.keyboard.type("card")
    camera.shoot(page, "find")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+Alt+o")
    page.get_by_role("navigation", name="Outline").wait_for()
    camera.shoot(page, "outline")
    page.keyboard.press("Control+Alt+o")
    page.get_by_role("button", name="Download").click()
    page.locator("#downloads").wait_for()
    camera.shoot(page, "downloads")
    page.keyboard.press("Escape")
    page.locator(".cm-content").focus()
    page.keyboard.press("Control+End")
    page.keyboard.type(" /")
    page.get_by_role("listbox").wait_for()
    camera.shoot(page, "slash")
    page.keyboard.press("Escape")
    for _ in " /":
        page.keyboard.press("Backspace")
    page.evaluate("scrollTo(0, 0)")


def past(camera: Camera, page: Page) -> None:
    """The history of the document on the page."""
    page.get_by_role("button", name="History", exact=True).click()
    panel = page.get_by_role("region", name="History")
    panel.locator(".version[aria-current=true]").wait_for()
    camera.shoot(page, "history-list")
    panel.locator(".version").first.click()
    panel.get_by_role("button", name="Next change").click()
    camera.shoot(page, "history")
    page.keyboard.press("Escape")


def over(camera: Camera, url: str, page: Page, name: str) -> None:
    """What opens over the document on the page, which is theirs; and the text on paper."""
    select(page, "41 drawers")
    page.get_by_role("button", name="Who wrote this?").wait_for()
    camera.shoot(page, "selection")
    page.get_by_role("button", name="Who wrote this?").click()
    page.get_by_role("dialog", name="Who wrote this").get_by_role("listitem").first.wait_for()
    camera.shoot(page, "who-wrote-this")
    page.keyboard.press("Escape")
    page.keyboard.press("Control+/")
    page.get_by_role("dialog", name="Keyboard shortcuts").wait_for()
    camera.shoot(page, "shortcuts")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Share", exact=True).click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("What Tomas Lind may do").wait_for()
    camera.shoot(page, "share")
    dialog.get_by_role("button", name="New link").click()
    dialog.get_by_label("For whom").fill("the printers")
    camera.shoot(page, "share-new-link")
    dialog.get_by_role("button", name="Make the link").click()
    dialog.get_by_label("Address of the link").wait_for()
    camera.shoot(page, "share-link")
    dialog.get_by_label("E-mail address").fill("nobody@example.org")
    dialog.get_by_role("button", name="Add").click()
    dialog.get_by_text("Make a link for them").wait_for()
    camera.shoot(page, "share-refused")
    page.keyboard.press("Escape")
    for link in call(url, "GET", f"{at(name)}/links")["links"]:
        if link["label"] == "the printers":
            call(url, "DELETE", f"{at(name)}/links/{link['id']}")
    page.emulate_media(media="print", color_scheme=camera.scheme)  # type: ignore[arg-type]
    camera.shoot(page, "print")
    page.emulate_media(media="screen", color_scheme=camera.scheme)  # type: ignore[arg-type]
    page.goto(f"{url}/device")
    page.get_by_role("heading", name="On this device").wait_for()
    camera.shoot(page, "device")


def limits(camera: Camera, url: str, name: str, email: str) -> None:
    """What one may not do, or not any more."""
    page = camera.person("Kestrel", "#8c3f96")
    given = call(url, "POST", f"{at(name)}/links", {"role": "viewer"})
    page.goto(given["url"])
    status(page, "reading")
    camera.shoot(page, "reading")
    page.get_by_role("button", name="Share", exact=True).click()
    camera.shoot(page, "share-reading")
    page.keyboard.press("Escape")
    person = page.evaluate("fetch('/api/me').then((answer) => answer.json())")["actor"]
    membership = f"{at(name)}/members/{quote(person, safe='')}"
    call(url, "PUT", membership, {"role": "editor"})
    status(page, "saved")
    page.context.set_offline(True)
    page.evaluate("dispatchEvent(new Event('offline'))")
    status(page, "offline")
    write(page, "Nobody will see this.")
    call(url, "PUT", membership, {"role": "viewer"})
    page.context.set_offline(False)
    page.locator(".notice").wait_for()
    camera.shoot(page, "reading-kept")
    call(url, "DELETE", membership)
    call(url, "DELETE", f"{at(name)}/links/{given['id']}")
    status(page, "stopped")
    camera.shoot(page, "unshared")
    page.context.close()

    page = camera.person("Kestrel", "#8c3f96")
    page.context.request.post(f"{url}/api/session", data={"email": email, "password": PASSWORD})
    page.goto(f"{url}/d/{name}")
    status(page, "saved")
    page.context.request.delete(f"{url}/api/session")
    status(page, "signedOut")
    page.locator(".cm-content").focus()
    page.keyboard.press("Control+End")
    page.keyboard.type("...")
    page.wait_for_timeout(300)
    camera.shoot(page, "signed-out")
    page.goto(f"{url}/api/docs")
    page.get_by_text("List Documents").click()
    page.get_by_role("button", name="Try it out").wait_for()
    camera.shoot(page, "reference")
    page.context.close()


def select(page: Page, text: str) -> None:
    """Select by double-clicking; the others see it."""
    page.bring_to_front()
    found = page.get_by_text(text).first
    found.scroll_into_view_if_needed()
    page.locator(".cm-content").focus()
    page.wait_for_timeout(200)  # the editor puts its own selection back first
    page.evaluate(
        """text => {
          for (const line of document.querySelectorAll('.cm-line')) {
            const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
            for (let node; (node = walker.nextNode()); ) {
              const at = node.data.indexOf(text);
              if (at < 0) continue;
              getSelection().setBaseAndExtent(node, at, node, at + text.length);
              return;
            }
          }
        }""",
        text,
    )


if __name__ == "__main__":
    shoot(sys.argv[1].rstrip("/"), Path(sys.argv[2]))
