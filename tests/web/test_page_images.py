"""Images in the page: pasted and dropped, while others write, while the server says no or is away."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from collections.abc import Callable

from pages import CLOSED, PATIENCE_MS, Person, at, call, content, make, set_role, share
from pictures import PNG
from playwright.sync_api import Page, expect
from serverprocess import PATIENCE, Server

HASH = hashlib.sha256(PNG).hexdigest()

GIVE = """([event, files]) => {
  const data = new DataTransfer();
  for (const [name, type, bytes] of files)
    data.items.add(new File([Uint8Array.from(atob(bytes), (c) => c.charCodeAt(0))], name, { type }));
  const text = document.querySelector('.cm-content');
  const { left, bottom } = text.lastElementChild.getBoundingClientRect();
  const where = { clientX: left + 2, clientY: bottom - 4, bubbles: true, cancelable: true };
  const made = event === 'paste'
    ? new ClipboardEvent('paste', { ...where, clipboardData: data })
    : new DragEvent('drop', { ...where, dataTransfer: data });
  if (event === 'drop') text.dispatchEvent(new DragEvent('dragover', { ...where, dataTransfer: data }));
  text.dispatchEvent(made);
}"""


def give(page: Page, event: str, *files: tuple[str, str, bytes]) -> None:
    """Paste or drop files as a browser does, once one can write."""
    page.locator(".cm-content[contenteditable=true]").wait_for()
    listed = [[name, type, base64.b64encode(data).decode()] for name, type, data in files]
    page.evaluate(GIVE, [event, listed])


def link(document: str, name: str, hash: str = HASH) -> str:
    return f"![{name}]({at(document)}/images/{hash})"


def images(server: Server, document: str) -> list[str]:
    """Of those the server has, the hashes."""
    listed = json.loads(call(server, "GET", f"{at(document)}/images"))["images"]
    return [image["hash"] for image in listed]


def until_none_waits(page: Page, but: int = 0) -> None:
    """Returns when no image waits on the device to be sent, ``but`` so many."""
    page.evaluate(
        """async ([patience, but]) => {
          const waiting = await caches.open('collab-images');
          const late = Date.now() + patience;
          while ((await waiting.keys()).length > but) {
            if (Date.now() > late) throw new Error('an image still waits');
            await new Promise((go) => setTimeout(go, 20));
          }
        }""",
        [PATIENCE_MS, but],
    )


def is_drawn(page: Page) -> None:
    """The image itself is on the screen."""
    image = page.locator("img.md-image")
    expect(image).to_be_visible()
    page.wait_for_function("() => document.querySelector('img.md-image').naturalWidth === 1")


def test_an_image_that_is_pasted_stands_where_it_was_pasted_whatever_others_write(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("pictures (of us)")
    ada.write("Look: ")
    ada.is_told("saved")
    grace.open("pictures (of us)")
    grace.sees("Look: ")
    held = []
    ada.page.route("**/images", lambda route: held.append(route))
    give(ada.page, "paste", ("Our [house] 1.png", "image/png", PNG))
    expect(ada.page.locator(".uploading")).to_have_text("Uploading Our [house] 1.png…")
    grace.page.locator(".cm-content").press("Control+Home")
    grace.page.keyboard.type("Dear all. ")
    ada.page.wait_for_function(
        "() => document.querySelector('.cm-content').textContent.includes('Dear all.')"
    )
    assert "![" not in content(server, "pictures (of us)")
    held[0].continue_()
    expect(ada.page.locator(".uploading")).to_have_count(0)
    ada.is_told("saved")
    expected = f"Dear all. Look: {link('pictures (of us)', 'Our house 1')}"
    ada.write("!")  # behind it
    ada.is_told("saved")
    assert content(server, "pictures (of us)") == f"{expected}!"
    for person in (ada, grace):
        is_drawn(person.page)


def test_several_are_dropped_at_once_and_one_that_is_refused_is_said_and_leaves_no_trace(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("drop")
    ada.write("Here ")
    ada.is_told("saved")
    other = PNG + b"other"
    give(
        ada.page,
        "drop",
        ("a.png", "image/png", PNG),
        ("b.png", "image/png", b"<svg onload='alert(1)'>"),
        ("c.png", "image/png", other),
    )
    expect(ada.page.locator(".toast")).to_have_text(
        "“b.png” was not taken: This is no image that is taken here: PNG, JPEG, GIF, WebP or AVIF."
    )
    expect(ada.page.locator(".uploading")).to_have_count(0)
    ada.is_told("saved")
    text = content(server, "drop")
    assert text.index(link("drop", "a")) < text.index(link("drop", "c", hashlib.sha256(other).hexdigest()))
    assert text.count("![") == 2


def test_an_image_that_is_put_in_without_a_server_is_shown_kept_and_sent_later(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("away")
    ada.write("Before ")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    give(ada.page, "paste", ("", "image/png", PNG))
    is_drawn(ada.page)
    ada.page.reload()
    is_drawn(ada.page)
    server.start()
    ada.is_told("saved")
    until_none_waits(ada.page)
    assert images(server, "away") == [HASH]
    assert content(server, "away") == f"Before {link('away', 'Image')}"


def test_an_image_that_the_server_has_no_time_for_is_sent_later_and_counted_until_then(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("busy")
    ada.write("Here ")
    ada.is_told("saved")
    ada.page.route("**/images", lambda route: route.fulfill(status=503), times=1)
    give(ada.page, "paste", ("", "image/png", PNG))
    is_drawn(ada.page)
    ada.is_told("saved")
    device = ada.new_page()
    device.goto(f"{server.url}/device")
    expect(device.locator(".unsent")).to_have_text("1 edit not sent yet")
    until_none_waits(ada.page)
    assert images(server, "busy") == [HASH]


def test_an_image_for_which_there_is_no_room_keeps_no_other_waiting(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("full")
    ada.write("Here ")
    ada.is_told("saved")
    ada.can_reload_without_server()
    server.stop()
    ada.is_told("offline")
    large, small = PNG + b"large", PNG + b"small"
    give(ada.page, "paste", ("", "image/png", large), ("", "image/png", small))
    expect(ada.page.locator("img.md-image")).to_have_count(2)

    no_room = {"code": "images-full", "detail": "there is no room"}
    ada.page.route("**/images", lambda route: route.fulfill(status=413, json=no_room), times=1)
    server.start()
    expect(ada.page.locator(".toast")).to_contain_text("There is no room.")
    ada.is_told("saved")
    deadline = time.monotonic() + PATIENCE
    while (there := images(server, "full")) == [] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert there == [hashlib.sha256(small).hexdigest()]
    until_none_waits(ada.page, but=1)
    server.stop()
    ada.is_told("offline")
    server.start()
    until_none_waits(ada.page)
    assert len(images(server, "full")) == 2


@CLOSED
def test_an_image_waits_on_the_device_of_who_may_not_write_any_more_until_they_may(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    make(server, "demoted")
    ada.page.goto(share(server, "demoted", "viewer")["url"])
    ada.is_told("reading")
    set_role(server, "demoted", ada.actor(), "editor")
    ada.write("Here ")
    ada.is_told("saved")
    ada.can_reload_without_server()
    ada.unplug()
    give(ada.page, "paste", ("", "image/png", PNG))
    is_drawn(ada.page)
    set_role(server, "demoted", ada.actor(), "viewer")
    ada.plug_in()
    ada.is_told("reading")
    is_drawn(ada.page)
    assert images(server, "demoted") == []
    set_role(server, "demoted", ada.actor(), "editor")
    ada.is_told("saved")
    until_none_waits(ada.page)
    assert images(server, "demoted") == [HASH]
    assert content(server, "demoted") == f"Here {link('demoted', 'Image')}"


def test_an_archive_that_came_in_under_another_name_shows_its_images(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.open("first")
    ada.is_told("saved")
    give(ada.page, "paste", ("a.png", "image/png", PNG))
    is_drawn(ada.page)
    ada.is_told("saved")
    archive = call(server, "GET", f"{at('first')}/export").encode()
    ada.context.request.post(f"{server.url}/api/import?document=second", data=archive)
    for image in json.loads(call(server, "GET", f"{at('first')}/images"))["images"]:
        ada.context.request.delete(f"{server.url}{image['url']}")
    grace = arrive("Grace")
    grace.open("second")
    is_drawn(grace.page)


def test_who_reads_along_sees_an_image_that_its_author_sends_later(
    arrive: Callable[..., Person], server: Server
) -> None:
    grace = arrive("Grace")
    call(server, "POST", "/api/documents", {"name": "late", "text": link("late", "a map")})
    grace.open("late")
    expect(grace.page.locator(".md-elsewhere")).to_have_text("a map")
    grace.context.request.post(f"{server.url}{at('late')}/images", data=PNG)
    is_drawn(grace.page)
