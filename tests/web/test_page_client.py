"""A Python program beside the page in one document."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pages import Person, content
from playwright.sync_api import Locator, expect
from serverprocess import PATIENCE, Server

from collab.client.blocking import Client

WAIT = PATIENCE


def test_the_page_and_a_python_program_write_one_document_with_and_without_a_server(
    arrive: Callable[..., Person], server: Server, tmp_path: Path
) -> None:
    def face(name: str) -> Locator:
        return ada.page.get_by_role("button", name=name)

    ada = arrive("Ada")
    ada.open("trip")
    ada.write("To pack 🏔\n")
    ada.is_told("saved")
    with Client(server.url, tmp_path / "laptop.db") as client:
        trip = client.open("trip")
        trip.live(timeout=WAIT)
        assert trip.text == "To pack 🏔\n"
        trip.edit(lambda document: document.presence.set({"user": {"name": "Packer", "color": "#1c7a6c"}}))
        expect(face("Packer")).to_be_visible(timeout=WAIT * 1000)
        trip.insert(len("To pack 🏔"), ", all of us")
        ada.sees("To pack 🏔, all of us\n")

        server.stop()
        ada.is_told("offline")
        ada.write("tent\n")
        ada.is_told("offline", "Offline, 5 edits on this device")
        trip.insert(0, "Trip\n")
        assert trip.status.unsaved == 1
    # Another run of the program, still without a server.
    with Client(server.url, tmp_path / "laptop.db") as client:
        trip = client.open("trip")
        trip.insert(0, "%")
        trip.replace(0, 1, "")
        assert trip.text == "Trip\nTo pack 🏔, all of us\n"
        server.start()
        trip.saved(timeout=60)
        ada.is_told("saved", "Saved")
        whole = "Trip\nTo pack 🏔, all of us\ntent\n"
        trip.until(
            lambda status: status.unsaved == 0 and len(trip._document.text) == len(whole), timeout=WAIT
        )
        ada.sees(whole)
        assert trip.text == content(server, "trip") == whole
        expect(face("Packer")).to_have_count(0)
