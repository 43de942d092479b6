"""Who wrote what is selected: asked beside the selection or by key, and answered from the log."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pages import CLOSED, Person, set_role
from playwright.sync_api import Locator, Page, expect
from serverprocess import Server

KEY = "Control+Alt+a"


def answer(page: Page) -> Locator:
    sheet = page.get_by_role("dialog", name="Who wrote this")
    # A history is read by a process of its own, which starts with the first question.
    expect(sheet.get_by_role("listitem").first).to_be_visible()
    return sheet


def pieces(sheet: Locator) -> list[str]:
    return sheet.locator(".excerpt span").all_inner_texts()


def test_who_wrote_a_selection_is_told_letter_by_letter_also_of_what_is_only_just_typed(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada, grace = arrive("Ada"), arrive("Grace")
    ada.open("us")
    ada.write("\U0001f44d Ada's. ")
    ada.is_told("saved")
    grace.open("us")
    grace.sees("\U0001f44d Ada's. ")
    grace.write("Grace's \U0001f469\u200d\U0001f469\u200d\U0001f467.")
    grace.is_told("saved")
    ada.sees("\U0001f44d Ada's. Grace's \U0001f469\u200d\U0001f469\u200d\U0001f467.")
    page = ada.page
    page.keyboard.press("Control+a")
    page.get_by_role("button", name="Who wrote this?").click()
    sheet = answer(page)
    assert pieces(sheet) == ["\U0001f44d Ada's. ", "Grace's \U0001f469\u200d\U0001f469\u200d\U0001f467."]
    expect(sheet.get_by_role("listitem").nth(0)).to_contain_text("Grace14 characters · Today")
    expect(sheet.get_by_role("listitem").nth(1)).to_contain_text("Ada9 characters · Today")
    page.keyboard.press("Escape")
    expect(sheet).to_have_count(0)
    expect(page.locator(".cm-content")).to_be_focused()

    # Edits that the server has not yet got are waited for, wherever they move the others to.
    page.keyboard.press("Control+Home")
    server.freeze()
    page.keyboard.type("New. ")
    page.keyboard.press("Control+a")
    page.keyboard.press(KEY)
    expect(page.get_by_role("dialog")).to_contain_text("Opening")
    server.thaw()
    sheet = answer(page)
    assert (
        "".join(pieces(sheet)) == "New. \U0001f44d Ada's. Grace's \U0001f469\u200d\U0001f469\u200d\U0001f467."
    )
    sheet.get_by_role("button", name="See in history what Grace wrote").click()
    panel = page.get_by_role("region", name="History")
    expect(panel.locator(".version[aria-current=true]")).to_be_visible()
    expect(panel.locator(".past-text")).to_contain_text("Grace's")


@CLOSED
@pytest.mark.parametrize("history", [False, True], ids=["without", "with"])
def test_it_is_asked_only_by_those_who_may_read_the_history(
    arrive: Callable[..., Person], server: Server, history: bool
) -> None:
    ada, bob = arrive("Ada"), arrive("Bob")
    ada.join(server, "ada@example.org", "Ada")
    ada.open("ours")
    ada.write("Ours.")
    ada.is_told("saved")
    him = bob.join(server, "bob@example.org", "Bob")
    set_role(server, "ours", him, "viewer", history=history)
    bob.open("ours")
    bob.is_told("reading")
    bob.page.locator(".cm-content").focus()
    bob.page.keyboard.press("Control+a")
    bob.page.wait_for_timeout(600)  # longer than it takes to be offered
    bob.page.keyboard.press(KEY)
    if history:
        assert pieces(answer(bob.page)) == ["Ours."]
        expect(bob.page.get_by_role("button", name="Who wrote this?")).to_be_hidden()
    else:
        expect(bob.page.get_by_role("button", name="Who wrote this?")).to_be_hidden()
        expect(bob.page.get_by_role("dialog")).to_have_count(0)
