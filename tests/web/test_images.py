"""Images over HTTP: what comes in, who sees it, and that a browser can only show it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import httpx
import pytest
from pictures import PNG
from serverprocess import Server
from visitor import SECRET, bearer, token

KINDS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0" + bytes(100),
    "image/gif": b"GIF89a" + bytes(100),
    "image/webp": b"RIFF\0\0\0\0WEBP" + bytes(100),
    "image/avif": b"\0\0\0\x20ftypavif" + bytes(100),
}
OTHERS = {
    "nothing": b"",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>",
    "HTML": b"<!doctype html><script>alert(1)</script>",
    "text": b"hello",
    "sound": b"RIFF\0\0\0\0WAVE" + bytes(100),
    "HEIC": b"\0\0\0\x20ftypheic" + bytes(100),
    "PDF": b"%PDF-1.7",
}


@pytest.fixture
def api(shared_server: Server) -> httpx.Client:
    return httpx.Client(base_url=f"{shared_server.url}/api")


def document(api: httpx.Client) -> str:
    return f"/documents/{api.post('/documents', json={}).json()['name']}"


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_what_is_in_it_and_can_only_be_shown(api: httpx.Client, kind: str) -> None:
    data, path = KINDS[kind], document(api)
    made = api.post(f"{path}/images", content=data, headers={"content-type": "text/html"})
    hash = hashlib.sha256(data).hexdigest()
    assert made.status_code == 201
    assert made.json()["url"] == made.headers["location"] == f"/api{path}/images/{hash}"
    assert (made.json()["type"], made.json()["size"]) == (kind, len(data))
    again = api.post(f"{path}/images", content=data)
    assert (again.status_code, again.json()) == (200, made.json())
    shown = api.get(f"{path}/images/{hash}")
    assert (shown.status_code, shown.content) == (200, data)
    expected = {
        "content-type": kind,
        "content-length": str(len(data)),
        "x-content-type-options": "nosniff",
        "content-security-policy": "default-src 'none'; sandbox",
        "content-disposition": "inline",
        "cross-origin-resource-policy": "same-origin",
        "cache-control": "private, max-age=31536000, immutable",
        "etag": f'"{hash}"',
    }
    assert {name: shown.headers.get(name) for name in expected} == expected
    assert api.get(f"{path}/images/{hash}", headers={"if-none-match": f'"{hash}"'}).status_code == 304
    listed = api.get(f"{path}/images").json()
    assert (listed["images"], listed["size"]) == ([made.json()], len(data))
    assert api.delete(f"{path}/images/{hash}").status_code == 204
    assert api.get(f"{path}/images/{hash}").json()["code"] == "image-not-found"


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_image_is_refused(api: httpx.Client, other: str) -> None:
    path = document(api)
    answer = api.post(f"{path}/images", content=OTHERS[other], headers={"content-type": "image/png"})
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-image")
    assert api.get(f"{path}/images").json()["images"] == []


def test_an_image_of_another_document_is_not_shown(api: httpx.Client) -> None:
    one, other = document(api), document(api)
    hash = api.post(f"{one}/images", content=PNG).json()["hash"]
    assert api.get(f"{other}/images/{hash}").status_code == 404
    for strange in ("%2e%2e%2fimages", "x" * 5000, "%00"):
        assert api.get(f"{one}/images/{strange}").status_code in (404, 414, 422), strange


def test_images_have_limits_of_their_own_each_and_together(make_server: Callable[..., Server]) -> None:
    server = make_server(body_bytes=1000, image_bytes=5000, document_image_bytes=9000)
    api = httpx.Client(base_url=f"{server.url}/api")
    path = document(api)
    whole = PNG.ljust(5000, b"\0")
    assert api.post(f"{path}/images", content=whole).status_code == 201
    large = api.post(f"{path}/images", content=whole + b"\0")
    assert (large.status_code, large.json()["code"]) == (413, "too-large")
    full = api.post(f"{path}/images", content=whole[:-1] + b"\1")
    assert (full.status_code, full.json()["code"]) == (413, "images-full")
    assert api.post(f"{path}/images", content=whole).status_code == 200
    assert api.post("/documents", content=b'{"title":"x"}'.ljust(1001)).status_code == 413


def test_images_are_for_those_who_read_and_from_those_who_write(make_server: Callable[..., Server]) -> None:
    server = make_server(secret=SECRET)
    owner, viewer, nobody = (bearer(token(who)) for who in ("owner", "viewer", "nobody"))
    api = httpx.Client(base_url=f"{server.url}/api")
    api.post("/documents", json={"name": "plan"}, headers=owner)
    api.put("/documents/plan/members/user:viewer", json={"role": "viewer"}, headers=owner)
    hash = api.post("/documents/plan/images", content=PNG, headers=owner).json()["hash"]
    path = f"/documents/plan/images/{hash}"
    answers = [api.get(path, headers=who).status_code for who in (owner, viewer, nobody, {})]
    assert answers == [200, 200, 404, 401]
    assert api.post("/documents/plan/images", content=PNG, headers=viewer).status_code == 403
    assert api.delete(path, headers=viewer).status_code == 403
    api.delete("/documents/plan", headers=owner)
    assert api.get(path, headers=owner).status_code == 410
