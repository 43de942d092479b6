"""Several people, or tabs, in one document: who is here, who is idle, who left, and following somebody."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import pytest
from pages import Person, content, stretched
from playwright.sync_api import Error, Locator, expect
from serverprocess import Server

HEARD = """
addEventListener('DOMContentLoaded', () => {
  window.heard = [];
  new MutationObserver(() => {
    const said = document.querySelector('.hidden[aria-live]')?.textContent;
    if (said && said !== window.heard.at(-1)) window.heard.push(said);
  }).observe(document, { subtree: true, childList: true, characterData: true });
});
"""


LEFT_MS = 5_000  # who is back within that has not left


def faces(person: Person) -> Locator:
    return person.page.get_by_role("list", name="Also here").get_by_role("button")


def crash(person: Person) -> None:
    """End the process of the tab, as the system does when there is no memory left."""
    with suppress(Error):
        person.page.goto("chrome://crash", timeout=1000)


def to_the_top(person: Person) -> None:
    """Turn the wheel until there is nothing above: one turn may end short of it, since the editor learns how
    tall lines are as they come into view."""
    person.page.mouse.move(640, 400)
    for _ in range(100):
        person.page.mouse.wheel(0, -100_000)
        person.page.wait_for_timeout(50)
        if person.page.evaluate("scrollY") == 0:
            return
    pytest.fail("the top is out of reach")


def test_one_goes_where_somebody_goes_until_one_moves_oneself(arrive: Callable[..., Person]) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    grace.context.add_init_script(stretched(2 * LEFT_MS, 2))
    ada.open("long")
    ada.page.locator(".cm-content[contenteditable=true]").focus()
    ada.page.keyboard.insert_text("".join(f"Paragraph {n}.\n\n" for n in range(120)))
    ada.is_told("saved")
    grace.open("long")
    expect(faces(grace)).to_have_count(1)
    last = grace.page.get_by_text("Paragraph 119.")

    def follow() -> Locator:
        faces(grace).press("Enter")
        banner = grace.page.locator(".following")
        expect(banner).to_have_text("Following AdaStop")
        expect(faces(grace)).to_have_attribute("aria-pressed", "true")
        return banner

    # To their caret, which is at the end.
    banner = follow()
    expect(last).to_be_in_viewport()
    # To where they scroll to, without moving their caret.
    to_the_top(ada)
    expect(grace.page.get_by_text("Paragraph 0.")).to_be_in_viewport()
    ada.page.keyboard.press("Control+End")
    ada.page.keyboard.type("here")
    expect(grace.page.locator(".cm-line", has_text="here")).to_be_in_viewport()
    # A cut of their line does not end it, nor does a reload.
    ada.page.reload()
    ada.page.locator(".cm-content").wait_for()
    ada.is_told("saved")
    ada.write(" again")
    expect(banner).to_have_text("Following AdaStop")
    expect(grace.page.locator(".cm-line", has_text="here again")).to_be_in_viewport()
    # An own scroll does.
    to_the_top(grace)
    expect(banner).to_have_count(0)
    ada.write("!")
    expect(grace.page.get_by_text("Paragraph 0.")).to_be_in_viewport()
    # So do Escape, an own edit, and their leaving.
    follow()
    grace.page.keyboard.press("Escape")
    expect(banner).to_have_count(0)
    follow()
    grace.page.locator(".cm-content").focus()
    grace.page.keyboard.type("x")
    expect(banner).to_have_count(0)
    follow()
    ada.page.close()
    expect(banner).to_have_text("Waiting for AdaStop")
    expect(banner).to_have_count(0)


def test_who_turns_away_is_shown_as_idle_and_as_here_again_when_back(arrive: Callable[..., Person]) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.page.clock.install()
    ada.open("idle")
    grace.open("idle")
    face = faces(grace)
    expect(face).to_have_attribute("data-idle", "false")
    ada.page.clock.fast_forward(61_000)
    expect(face).to_have_attribute("data-idle", "true")
    expect(face).to_have_accessible_name("Follow Ada, who is not active now")
    ada.page.mouse.move(10, 10)
    expect(face).to_have_attribute("data-idle", "false")
    # A hidden tab is so at once.
    ada.page.evaluate(
        """() => {
          Object.defineProperty(document, 'visibilityState', { value: 'hidden', configurable: true });
          document.dispatchEvent(new Event('visibilitychange'));
        }"""
    )
    expect(face).to_have_attribute("data-idle", "true")


def test_more_people_than_there_is_room_for_are_in_a_list(arrive: Callable[..., Person]) -> None:
    ada = arrive("Ada")
    ada.open("crowd")
    names = ["Grace", "Ines", "Mary", "Tomas", "Niklaus", "Barbara"]
    for name in names:
        arrive(name).open("crowd")
    expect(faces(ada)).to_have_count(5)
    more = ada.page.get_by_role("button", name="All 6 who are here")
    expect(more).to_have_text("+2")
    more.press("Enter")
    everybody = ada.page.locator(".everybody")
    expect(everybody.get_by_role("button")).to_have_count(6)
    everybody.get_by_role("button", name="Follow Barbara").press("Enter")
    expect(everybody).to_be_hidden()
    expect(ada.page.locator(".following")).to_contain_text("Following Barbara")


def test_nobody_is_shown_15_seconds_after_their_tab_has_crashed(arrive: Callable[..., Person]) -> None:
    """14 of docs/editor.md."""
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("ghost")
    grace.open("ghost")
    grace.write("x")
    grace.is_told("saved")
    expect(faces(ada)).to_have_count(1)
    expect(ada.page.locator(".caret")).to_have_count(1)
    crash(grace)
    expect(faces(ada)).to_have_count(0, timeout=15_000)
    expect(ada.page.locator(".caret")).to_have_count(0)


def test_comings_and_goings_are_said_once_and_not_for_a_short_cut(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.context.add_init_script(HEARD)
    ada.context.add_init_script(stretched(LEFT_MS, 3))
    ada.open("said")
    ada.is_told("saved")
    grace.open("said")
    expect(faces(ada)).to_have_count(1)
    for _ in range(2):
        grace.page.reload()
        grace.is_told("saved")
        expect(faces(ada)).to_have_count(1)
    # Our own line is cut, and everybody seems to be gone.
    server.stop()
    ada.is_told("offline")
    expect(faces(ada)).to_have_count(0)
    server.start()
    ada.is_told("saved")
    expect(faces(ada)).to_have_count(1)
    ada.page.wait_for_timeout(3 * LEFT_MS + 500)
    grace.page.close()
    ada.page.wait_for_function("() => window.heard.includes('Grace left.')")
    heard = [said for said in ada.page.evaluate("window.heard") if "Grace" in said]
    assert heard == ["Grace is here.", "Grace left."]


def test_two_tabs_of_one_person_write_undo_and_count_each_for_itself_and_together(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("twice")
    ada.is_told("saved")
    second = ada.open("twice", ada.new_page())
    grace.open("twice")
    expect(faces(grace)).to_have_count(2)
    ada.write("one ")
    ada.sees("one ", second)
    ada.write("two ", second)
    ada.sees("one two ")
    for page in (ada.page, second):
        ada.is_told("saved", "Saved", page)
    server.stop()
    for page in (ada.page, second):
        ada.is_told("offline", page=page)
    ada.write("three ")
    second.wait_for_timeout(1000)  # what follows sooner on "two " is one step of undo with it
    ada.write("four ", second)
    for page in (ada.page, second):
        ada.is_told("offline", "Offline, 11 edits on this device", page)
    # Undo takes back what was written in the same tab, and is an edit that the other counts too.
    second.keyboard.press("Control+z")
    for page in (ada.page, second):
        ada.sees("one two three ", page)
    server.start()
    for page in (ada.page, second):
        ada.is_told("saved", "Saved", page)
    assert content(server, "twice") == "one two three "
    grace.sees("one two three ")
    second.close()
    expect(faces(grace)).to_have_count(1)
    ada.page.reload()
    ada.is_told("saved", "Saved")
    ada.sees("one two three ")
