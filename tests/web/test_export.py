"""A document is downloaded as a file for other programs."""

from __future__ import annotations

import asyncio
import io
import re
import zipfile
from collections.abc import Callable

import httpx
import pytest
from pictures import PNG
from serverprocess import Server
from visitor import SECRET, bearer, token
from yclient import client


def write(server: Server, name: str, text: str, **options: object) -> None:
    async def run() -> None:
        async with client(server.ws_url, name, **options) as one:
            await one.insert(0, text)
            await one.saved()

    asyncio.run(run())


def test_a_document_comes_with_its_images_under_its_title(shared_server: Server) -> None:
    api = httpx.Client(base_url=f"{shared_server.url}/api")
    api.post("/documents", json={"name": "trip/plan", "title": "Reise nach Köln: 1/2"})
    path = "/documents/trip%2Fplan"
    url = api.post(f"{path}/images", content=PNG).json()["url"]
    write(shared_server, "trip/plan", f"We **leave** at nine.\n\n![a map]({url})\n")
    files = {}
    for format, ending in (
        ("markdown", "md"),
        ("zip", "zip"),
        ("html", "html"),
        ("docx", "docx"),
        ("pdf", "pdf"),
    ):
        answer = api.get(f"{path}/download", params={"format": format})
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-disposition"] == (
            f'attachment; filename="Reise nach K-ln- 1-2.{ending}"; '
            f"filename*=UTF-8''Reise%20nach%20K%C3%B6ln%3A%201-2.{ending}"
        )
        files[format] = answer.content
    assert files["markdown"].decode() == f"We **leave** at nine.\n\n![a map]({url})\n"
    assert b"<strong>leave</strong>" in files["html"]
    assert b'<img src="data:image/png;base64,' in files["html"]
    for format, folder in (("zip", "images/"), ("docx", "word/media/")):
        with zipfile.ZipFile(io.BytesIO(files[format])) as archive:
            inside = [archive.read(name) for name in archive.namelist() if name.startswith(folder)]
        assert inside == [PNG]
    assert files["pdf"].startswith(b"%PDF")
    assert api.get(f"{path}/download?format=odt").status_code == 422


def test_the_past_is_for_those_who_may_read_it(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET)
    owner, viewer = bearer(token("owner")), bearer(token("viewer"))
    api = httpx.Client(base_url=f"{server.url}/api/documents/")
    httpx.post(f"{server.url}/api/documents", json={"name": "plan"}, headers=owner)
    api.put("/plan/members/user:viewer", json={"role": "viewer"}, headers=owner)
    for said in ("new ", "old "):
        write(server, "plan", said, additional_headers=owner)
    assert api.get("/plan/download", headers=viewer).text == "old new "
    assert api.get("/plan/download?at=1", headers=viewer).status_code == 403
    past = api.get("/plan/download?at=1&format=html", headers=owner).text
    assert re.search(r"<p>n", past)
    assert "old" not in past


@pytest.mark.parametrize("format", ["docx", "pdf"])
def test_one_asks_for_so_many_files_at_once_and_no_more(shared_server: Server, format: str) -> None:
    write(shared_server, f"many {format}", "text\n\n" * 500)

    async def ask() -> list[int]:
        async with httpx.AsyncClient() as api:
            url = f"{shared_server.url}/api/documents/many%20{format}/download?format={format}"
            await api.get(f"{shared_server.url}/")  # to be somebody
            answers = await asyncio.gather(*(api.get(url) for _ in range(6)))
        return sorted(answer.status_code for answer in answers)

    codes = asyncio.run(ask())
    assert codes[:2] == [200, 200]
    assert set(codes[2:]) <= {200, 429}
    assert 429 in codes
