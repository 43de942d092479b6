"""The documents page: documents are found, ordered, copied, imported; and downloaded from where they are."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from pages import Person, at, call, content
from pictures import PNG
from playwright.sync_api import Locator, Page, WebSocketRoute, expect
from serverprocess import PATIENCE, Server

DROP = """(files) => {
  const data = new DataTransfer();
  for (const [name, type, text] of files) data.items.add(new File([text], name, { type }));
  for (const kind of ['dragover', 'drop'])
    document.querySelector('.rows').dispatchEvent(
      new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}"""


def start(server: Server, name: str, title: str, text: str = "") -> None:
    call(server, "POST", "/api/documents", {"name": name, "title": title, "text": text})


def titles(page: Page) -> Locator:
    return page.locator(".rows .name")


def ask_for(page: Page, kind: str) -> None:
    """Choose what to download the document as."""
    page.get_by_role("button", name="Download").press("Enter")
    page.get_by_role("dialog", name="Download as").get_by_role("button", name=kind).press("Enter")


def test_a_document_is_found_by_what_it_says_and_the_words_are_marked(
    arrive: Callable[..., Person], server: Server
) -> None:
    start(server, "a", "Minutes", "We keep the <b>índex</b> cards\n\nin the *cellar*, 😀 dark as it is.")
    start(server, "b", "Cellar keys", "two of them")
    start(server, "c", "Soup", "leek")
    ada = arrive("Ada")
    ada.page.goto(server.url)
    until = time.monotonic() + PATIENCE
    while len(json.loads(call(server, "GET", "/api/documents?q=cellar"))["documents"]) < 2:
        assert time.monotonic() < until
        time.sleep(0.1)
    search = ada.page.get_by_label("Search titles and texts")
    search.fill("cellar")
    expect(titles(ada.page)).to_have_text(["Cellar keys", "Minutes"])
    search.fill("index dark")
    expect(titles(ada.page)).to_have_text(["Minutes"])
    excerpt = ada.page.locator(".excerpt")
    expect(excerpt).to_have_text("We keep the <b>índex</b> cards · in the cellar, 😀 dark as it is.")
    expect(excerpt.locator("mark")).to_have_text(["índex", "dark"])
    search.fill('nothing "like* it')
    expect(ada.page.get_by_role("status").filter(has_text="Nothing here has")).to_be_visible()


def test_the_list_is_ordered_as_one_likes_and_offers_what_one_opened_here(
    arrive: Callable[..., Person], server: Server
) -> None:
    for n, title in enumerate(("cherry", "Apple", "banana", "date", "elder", "fig")):
        start(server, f"f{n}", title)
    ada = arrive("Ada")
    ada.open("f1")
    ada.write("x")
    ada.is_told("saved")
    ada.page.goto(server.url)
    expect(titles(ada.page).first).to_have_text("Apple")
    recent = ada.page.get_by_role("navigation", name="Opened here lately")
    expect(recent.get_by_role("link")).to_have_text(["Apple"])
    ada.page.get_by_label("Order").select_option("Title")
    expect(titles(ada.page)).to_have_text(["Apple", "banana", "cherry", "date", "elder", "fig"])
    ada.page.reload()
    expect(titles(ada.page)).to_have_text(["Apple", "banana", "cherry", "date", "elder", "fig"])
    ada.page.get_by_label("Order").select_option("Newest")
    expect(titles(ada.page).first).to_have_text("fig")


def test_a_document_is_duplicated_by_keyboard_and_on_a_phone(
    arrive: Callable[..., Person], server: Server
) -> None:
    start(server, "plan", "Plan", "the text")
    ada = arrive("Ada", viewport={"width": 390, "height": 780}, has_touch=True, is_mobile=True)
    ada.page.goto(server.url)
    row = ada.page.get_by_role("listitem").filter(has_text="Plan")
    copy = row.get_by_role("button", name="Duplicate Plan")
    expect(copy).to_be_hidden()
    row.get_by_role("button", name="What can be done with Plan").press("Enter")
    copy.press("Enter")
    expect(titles(ada.page)).to_have_text(["Copy of Plan", "Plan"])
    ada.page.get_by_role("button", name="Open", exact=True).press("Enter")
    ada.sees("the text")
    expect(ada.page.get_by_label("Title")).to_have_value("Copy of Plan")


def test_files_become_documents_by_drop_and_by_button(
    arrive: Callable[..., Person], server: Server, tmp_path: Path
) -> None:
    ada = arrive("Ada")
    ada.page.goto(server.url)
    expect(ada.page.get_by_text("Or drop a Markdown file here.")).to_be_visible()
    ada.page.evaluate(DROP, [["notes.md", "text/markdown", "# Of Monday #\r\n\r\n- one\r\n"]])
    expect(ada.page.locator(".toast")).to_contain_text("“Of Monday” is imported.")
    ada.page.get_by_role("button", name="Open", exact=True).click()
    expect(ada.page.locator(".cm-content")).to_contain_text("one")
    assert content(server, ada.page.url.rpartition("/")[2]) == "# Of Monday #\n\n- one\n"
    ada.page.go_back()
    front = "---\ntags: [a]\n---\ntext"
    (tmp_path / "plain.txt").write_text(front)
    (tmp_path / "latin.txt").write_bytes("grün".encode("latin-1"))
    (tmp_path / "picture.png").write_bytes(PNG)
    (tmp_path / "long.md").write_text("x" * 1_000_001)
    start(server, "kept", "Archived", "with a past")
    (tmp_path / "kept.collab.jsonl").write_text(call(server, "GET", f"{at('kept')}/export"))
    with ada.page.expect_file_chooser() as chooser:
        ada.page.get_by_role("button", name="Import").click()
    chooser.value.set_files(sorted(tmp_path.glob("*.*")))
    toast = ada.page.locator(".toast")
    expect(toast).to_contain_text("2 documents are imported.")
    for said in (
        "“latin.txt” was not imported: It is not text in UTF-8.",
        "“picture.png” was not imported: Only .md, .txt and archives (.jsonl) become documents.",
        "“long.md” was not imported: A text may have 1 MB.",
    ):
        expect(toast).to_contain_text(said)
    listed = json.loads(call(server, "GET", "/api/documents"))["documents"]
    names = {document["title"]: document["name"] for document in listed if document["name"] != "kept"}
    assert set(names) == {"Of Monday", "plain", "Archived"}
    assert content(server, names["plain"]) == front
    assert content(server, names["Archived"]) == "with a past"


def test_a_document_is_downloaded_with_its_images_and_as_text_without_a_server(
    arrive: Callable[..., Person], server: Server
) -> None:
    start(server, "trip", "Our trip")
    ada = arrive("Ada", accept_downloads=True)
    ada.open("trip")
    ada.is_told("saved")
    posted = ada.context.request.post(f"{server.url}{at('trip')}/images", data=PNG).json()
    ada.write(f"# Away ![map]({posted['url']})")
    ada.is_told("saved")

    def download(kind: str) -> tuple[str, bytes]:
        with ada.page.expect_download() as waited:
            ask_for(ada.page, kind)
        return waited.value.suggested_filename, Path(waited.value.path()).read_bytes()

    name, word = download("Word")
    assert name == "Our trip.docx"
    with zipfile.ZipFile(io.BytesIO(word)) as archive:
        assert [archive.read(n) for n in archive.namelist() if n.startswith("word/media/")] == [PNG]
    name, archive_of_all = download("Everything")
    assert name.endswith(".collab.jsonl")
    assert json.loads(archive_of_all.splitlines()[0])["title"] == "Our trip"
    server.stop()
    ada.is_told("offline")
    assert download("Markdown The text") == ("Our trip.md", f"# Away ![map]({posted['url']})".encode())
    ask_for(ada.page, "PDF")
    expect(ada.page.locator(".toast")).to_have_text("The server cannot be reached.")


def test_a_title_that_is_written_in_the_list_stays_while_the_list_is_asked_for_again(
    arrive: Callable[..., Person], server: Server
) -> None:
    start(server, "soup", "Soup")
    ada = arrive("Ada")
    ada.page.goto(server.url)
    ada.page.get_by_role("listitem").filter(has_text="Soup").hover()
    ada.page.get_by_role("button", name="Rename Soup").click()
    field = ada.page.get_by_label("New title")
    field.fill("Bro")
    start(server, "cards", "Cards")
    with ada.page.expect_response("**/api/documents?*") as answer:
        ada.page.evaluate("dispatchEvent(new Event('online'))")
    answer.value.finished()
    ada.page.wait_for_timeout(200)
    ada.page.keyboard.type("th")
    expect(field).to_have_value("Broth")
    ada.page.keyboard.press("Escape")
    expect(titles(ada.page)).to_have_text(["Cards", "Soup"])
    ada.page.get_by_role("listitem").filter(has_text="Soup").hover()
    ada.page.get_by_role("button", name="Rename Soup").click()
    field.fill("Broth")
    ada.page.keyboard.press("Enter")
    expect(titles(ada.page)).to_have_text(["Cards", "Broth"])


def test_who_comes_back_to_the_list_as_it_was_left_may_make_another(
    arrive: Callable[..., Person], server: Server
) -> None:
    ada = arrive("Ada")
    ada.page.goto(server.url)
    # A browser that keeps pages shows it again as it was; this one does not, when it is driven.
    button = ada.page.get_by_role("button", name="New document")
    button.evaluate("button => { button.disabled = true; }")
    ada.page.evaluate("dispatchEvent(new PageTransitionEvent('pageshow', { persisted: true }))")
    expect(button).to_be_enabled()


def test_a_download_waits_for_what_is_on_its_way_or_says_that_it_lacks_it(
    arrive: Callable[..., Person], server: Server
) -> None:
    start(server, "slow", "Slow")
    ada = arrive("Ada", accept_downloads=True)
    held: list[tuple[WebSocketRoute, str | bytes]] = []
    holding = False

    def pass_on(page: WebSocketRoute) -> None:
        line = page.connect_to_server()
        page.on_message(lambda message: held.append((line, message)) if holding else line.send(message))

    ada.page.route_web_socket("**/ws/**", pass_on)
    ada.open("slow")
    ada.write("one")
    ada.is_told("saved")

    holding = True
    ada.write(" two")
    ada.is_told("saving")
    with ada.page.expect_download() as waited:
        ask_for(ada.page, "Web page")
        ada.page.wait_for_timeout(500)
        holding = False
        for line, message in held:
            line.send(message)
    assert "one two" in Path(waited.value.path()).read_text()
    holding = True
    ada.write(" three")
    with ada.page.expect_download() as waited:
        ask_for(ada.page, "Web page")
    assert "one two three" not in Path(waited.value.path()).read_text()
    expect(ada.page.locator(".toast")).to_contain_text("without your last edits")
