"""The page in a real browser: people who open it, write, and are told things."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from playwright.sync_api import BrowserContext, Page, TimeoutError, expect
from serverprocess import PATIENCE, Server

from collab.rights import Role
from web import auth, signin

DIST = Path(__file__).parents[1] / "web" / "editor" / "dist"
PATIENCE_MS = 1000 * PATIENCE
PASSWORD = "the reading room is closed"
SECRET = "a secret of the tests, of no use elsewhere"

# A server on which nobody may do anything until they are let in.
CLOSED = pytest.mark.parametrize("server", [{"secret": SECRET}], indirect=True, ids=["closed"])

# Keeps every status the page ever shows, and whether anything could ever be written.
WATCH = """
addEventListener('DOMContentLoaded', () => {
  window.shown = [];
  window.writable = false;
  const look = () => {
    const kind = document.querySelector('.status')?.dataset.kind;
    if (kind && kind !== window.shown.at(-1)) window.shown.push(kind);
    const title = document.querySelector('.title');
    window.writable ||= document.querySelector('.cm-content')?.isContentEditable || title?.readOnly === false;
  };
  new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
});
"""

TEXT = """() => [...document.querySelectorAll('.cm-line')].map((line) => {
  const copy = line.cloneNode(true);
  for (const other of copy.querySelectorAll('.caret, .cm-placeholder')) other.remove();
  return copy.textContent;
}).join('\\n')"""


def stretched(milliseconds: int, times: int) -> str:
    """A script by which the page waits ``times`` as long where it waits for so long: on a busy machine what
    it would wait for takes longer, and is not what the test is about."""
    return (
        "(() => { const later = setTimeout; window.setTimeout = (work, after, ...more) => "
        f"later(work, after === {milliseconds} ? {milliseconds * times} : after, ...more); }})();"
    )


class Person:
    """Someone with a browser profile of their own."""

    def __init__(self, context: BrowserContext, url: str, name: str, complaints: list[str]) -> None:
        me = json.dumps(json.dumps({"name": name, "color": "#1c7a6c"}))
        context.add_init_script(
            "if (location.protocol !== 'about:') localStorage.getItem('collab.person') "
            f"?? localStorage.setItem('collab.person', {me})"
        )
        context.add_init_script(WATCH)
        self.context, self.url, self.complaints = context, url, complaints
        self.page = self.new_page()

    def new_page(self) -> Page:
        page = self.context.new_page()
        page.set_default_timeout(PATIENCE_MS)
        page.on("pageerror", lambda error: self.complaints.append(f"uncaught: {error}"))
        page.on("console", self._hear)
        return page

    def _hear(self, message: Any) -> None:
        # A server that is away, or has no such document yet, is not the page's fault.
        expected = ("Failed to load resource", "WebSocket connection to")
        if message.type in ("error", "warning") and not any(words in message.text for words in expected):
            self.complaints.append(message.text)

    def open(self, document: str, page: Page | None = None) -> Page:
        page = page or self.page
        page.goto(f"{self.url}/d/{quote(document)}")
        page.locator(".cm-content").wait_for()
        return page

    def join(self, server: Server, email: str, name: str) -> str:
        """Make an account by invitation, and be signed in; returns the actor's id."""
        self.page.goto(invitation(server, email, name))
        self.page.get_by_label("Choose a password").fill(PASSWORD)
        self.page.get_by_role("button", name="Join").click()
        self.page.get_by_role("heading", name="Documents").wait_for()
        return self.actor()

    def actor(self) -> str:
        """Whom the server takes this browser for."""
        actor: str = self.asks("/api/me")["actor"]
        return actor

    def rename(self, name: str) -> None:
        """Tell the server another name, behind the page's back."""
        answer = self.context.request.patch(f"{self.url}/api/me", data={"name": name})
        assert answer.ok, answer.text()

    def takes_the_name(self, name: str) -> None:
        """Give oneself another name in the page, and be known by it."""
        self.page.get_by_role("button", name="You are").click()
        self.page.get_by_role("textbox", name="Your name").fill(name)
        with self.page.expect_response(lambda answer: answer.request.method == "PATCH") as answer:
            self.page.keyboard.press("Enter")
        assert answer.value.json()["name"] == name

    def asks(self, path: str, method: str = "GET") -> Any:
        """Ask the server as this browser, behind the page's back."""
        return json.loads(self.context.request.fetch(f"{self.url}{path}", method=method).text() or "null")

    def write(self, text: str, page: Page | None = None) -> None:
        page = page or self.page
        page.locator(".cm-content[contenteditable=true]").focus()
        page.keyboard.press("Control+End")
        page.keyboard.type(text)

    def is_told(self, kind: str, words: str | None = None, page: Page | None = None) -> None:
        chip = (page or self.page).locator(".status")
        expect(chip).to_have_attribute("data-kind", kind)
        if words is not None:
            expect(chip).to_have_text(words)

    def waits_for(self, condition: Callable[[], object]) -> None:
        """Let the page go on until it is so."""
        late = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < late, "it never was so"
            self.page.wait_for_timeout(20)

    def unplug(self) -> None:
        """No network any more; every page of theirs has noticed."""
        self.context.set_offline(True)
        for page in self.context.pages:
            page.evaluate("dispatchEvent(new Event('offline'))")
            self.is_told("offline", page=page)

    def plug_in(self) -> None:
        self.context.set_offline(False)

    def sees(self, text: str, page: Page | None = None) -> None:
        page = page or self.page
        try:
            page.wait_for_function(f"expected => ({TEXT})() === expected", arg=text, timeout=PATIENCE_MS)
        except TimeoutError:
            assert shown(page) == text

    def can_reload_without_server(self) -> None:
        """Returns when the service worker has taken this page over, with all that it needs."""
        self.page.evaluate(
            """async () => {
              await navigator.serviceWorker.ready;
              const { serviceWorker } = navigator;
              if (!serviceWorker.controller)
                await new Promise((taken) => serviceWorker.addEventListener('controllerchange', taken));
            }"""
        )


def ada_and_bob(
    arrive: Callable[..., Person], server: Server, document: str, text: str = "Ours.", bob: str = "Bob Marsh"
) -> tuple[Person, Person, str]:
    """Two with accounts, Ada at a document of hers that says ``text``; and Bob's id. Their addresses are
    ada-{document} and bob-{document}, at example.org."""
    her, him = arrive("Ada"), arrive("Bob")
    her.join(server, f"ada-{document}@example.org", "Ada")
    id = him.join(server, f"bob-{document}@example.org", bob)
    her.open(document)
    her.write(text)
    her.is_told("saved")
    return her, him, id


def call(server: Server, method: str, path: str, body: object = None) -> Any:
    """Ask the API, as an application that may do everything where guests may not."""
    headers = {"content-type": "application/json"}
    if server.settings.get("secret"):
        rights = {"*": Role.OWNER}
        token = auth.issue(SECRET, "application", audience="collab", seconds=600, documents=rights)
        headers["authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{server.url}{path}", data, headers, method=method)
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
        return answer.read().decode()


def at(document: str) -> str:
    return f"/api/documents/{quote(document, safe='')}"


def make(server: Server, document: str, title: str = "") -> None:
    call(server, "POST", "/api/documents", {"name": document, "title": title})


def share(server: Server, document: str, role: str, **more: object) -> dict[str, str]:
    """A share link: its id and url."""
    link: dict[str, str] = json.loads(call(server, "POST", f"{at(document)}/links", {"role": role, **more}))
    return link


def set_role(server: Server, document: str, person: str, role: str, *, history: bool | None = None) -> None:
    given = {"role": role, "history": history}
    call(server, "PUT", f"{at(document)}/members/{quote(person, safe='')}", given)


def invitation(server: Server, email: str, name: str | None = None) -> str:
    token = signin.invitation(auth.derived_key(SECRET, signin.INVITATION), email, name)
    return f"{server.url}/join#{token}"


def content(server: Server, document: str) -> str:
    text: str = call(server, "GET", f"{at(document)}/content")
    return text


def shown(page: Page) -> str:
    """The text on the screen, without the names on others' carets."""
    text: str = page.evaluate(TEXT)
    return text


def delete_database(page: Page) -> None:
    """All that the browser keeps of Collab goes, at the hands of this page."""
    page.evaluate(
        """() => new Promise((done, failed) => {
             const request = indexedDB.deleteDatabase('collab');
             request.onsuccess = done;
             request.onerror = request.onblocked = failed;
           })"""
    )
