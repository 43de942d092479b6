"""Pictures of every view of a running server, for looking at and for the README.

    python docs/screenshots.py http://127.0.0.1:8000 shots/

writes one PNG for each view, width and colour scheme, and `editor.png`, two people in one document.
The documents it makes are deleted again at the end.
"""

from __future__ import annotations

import json
import secrets
import shutil
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
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
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{url}{path}", data, {"content-type": "application/json"}, method=method
    )
    with urllib.request.urlopen(request) as answer:
        return json.loads(answer.read() or b"null")


@contextmanager
def documents(url: str) -> Iterator[str]:
    """A document to write in, and some around it."""
    run = secrets.token_hex(3)  # a deleted name stays taken
    every = [*OTHERS, ("archive", "Moving the archive")]
    made = [call(url, "POST", "/api/documents", {"name": f"{run}/{n}", "title": t})["name"] for n, t in every]
    try:
        yield made[-1]
    finally:
        for each in made:
            call(url, "DELETE", f"/api/documents/{quote(each, safe='')}")


def person(browser: Browser, name: str, color: str, width: str, scheme: str) -> Page:
    w, h = WIDTHS[width]
    context = browser.new_context(
        viewport={"width": w, "height": h},
        color_scheme=scheme,  # type: ignore[arg-type]
        has_touch=width == "phone",
        device_scale_factor=1 if width == "desktop" else 2,
    )
    me = json.dumps({"name": name, "color": color})
    context.add_init_script(f"localStorage.setItem('collab.person', {json.dumps(me)})")
    page = context.new_page()
    page.on("console", lambda message: print(f"{name}: {message.text} {message.location}", file=sys.stderr))
    page.on("pageerror", lambda error: print(f"{name}: {error}", file=sys.stderr))
    return page


def status(page: Page, kind: str) -> None:
    page.locator(f".status[data-kind={kind}]").wait_for()


def write(page: Page, text: str) -> None:
    page.locator(".cm-content").focus()
    page.keyboard.insert_text(text)


def shoot(url: str, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, documents(url) as name:
        chromium = shutil.which("chromium") or shutil.which("google-chrome")
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        address = f"{url}/d/{name}"
        other = person(browser, "Ines Duarte", "#b5303d", "desktop", "light")
        other.goto(address)
        status(other, "saved")
        write(other, TEXT)
        status(other, "saved")
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                page = person(browser, "Tomas Lind", "#1c7a6c", width, scheme)
                tag = f"{width}-{scheme}"
                page.goto(url)
                page.locator(".row").first.hover()
                page.screenshot(path=out / f"list-{tag}.png")
                page.goto(address)
                status(page, "saved")
                page.get_by_role("list", name="Also here").get_by_role("button").first.wait_for()
                select(other, "the museum")
                page.wait_for_timeout(400)
                page.screenshot(path=out / f"document-{tag}.png")
                if tag == "desktop-light":
                    page.locator(".cm-content").focus()
                    page.keyboard.press("Control+End")
                    page.keyboard.type("Thursday at six, then. I bring the lamp", delay=20)
                    select(other, "everyone else")
                    status(page, "saved")
                    page.bring_to_front()
                    page.screenshot(path=out / "editor.png", caret="initial")
                page.locator(".me").click()
                page.screenshot(path=out / f"person-{tag}.png")
                page.keyboard.press("Escape")
                page.context.close()
        page = person(browser, "Tomas Lind", "#1c7a6c", "desktop", "light")
        gone = f"unwritten-{secrets.token_hex(3)}"
        page.goto(f"{url}/d/{gone}")
        status(page, "saved")
        page.screenshot(path=out / "empty-desktop-light.png")
        page.locator(".cm-content").focus()
        page.keyboard.type("Kept")
        status(page, "saved")
        call(url, "DELETE", f"/api/documents/{gone}")
        status(page, "stopped")
        page.screenshot(path=out / "deleted-desktop-light.png")
        page.goto(url)
        page.get_by_role("button", name="Delete Letters to the council").click()
        page.locator(".toast").wait_for()
        page.screenshot(path=out / "undo-desktop-light.png")
        page.get_by_role("button", name="Undo").click()
        page.get_by_text("is back").wait_for()
        browser.close()


def select(page: Page, text: str) -> None:
    """Select by double-clicking; the others see it."""
    page.bring_to_front()
    found = page.get_by_text(text).first
    found.scroll_into_view_if_needed()
    page.locator(".cm-content").focus()
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
