"""Files for other programs: what the text says is in them, with its images, and nothing from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import io
import re
import zipfile
import zlib
from contextlib import suppress

import pytest
from pictures import PNG
from PIL import Image

from web.press import ExportFailed, Format, NotInstalled, Picture, hashes, made

HASH = hashlib.sha256(PNG).hexdigest()
URL = f"/api/documents/a%20b/images/{HASH}"
PICTURES = {HASH: Picture("image/png", PNG)}
TEXT = f"""---
tags: [private]
---

Some **bold**, ~~gone~~ and `code` é 字 $x^2$.

## Things

- [ ] to do
- [x] done

| a | b |
|---|--:|
| 1 | 2 |

![a picture]({URL}) ![elsewhere](https://example.org/x.png "t") ![file](/etc/hostname)

> quoted<br>twice <b onclick="alert(1)">raw</b>

<script>alert(1)</script>

<!-- a comment -->

[up](#things) [nowhere](#nothing) [out](https://example.org)

$$\\undefinedmacro{{x$$

```typ
#image("/etc/hostname")
```

Here[^1] #import "x" \\#set

[^1]: below
"""


def inflated(pdf: bytes) -> bytes:
    """All that is in a PDF, packed or not."""
    out = [pdf]
    for found in re.finditer(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.S):
        try:
            out.append(zlib.decompress(found[1]))
        except zlib.error:
            pass
    return b"\n".join(out)


def test_html_stands_alone_with_its_images_and_asks_nobody_for_anything() -> None:
    html = made("html", "A <title>", TEXT, PICTURES).decode()
    assert "<title>A &lt;title&gt;</title>" in html
    assert "<h1>A &lt;title&gt;</h1>" in html
    assert f'<img src="data:image/png;base64,{base64.b64encode(PNG).decode()}" alt="a picture">' in html
    assert '<a href="https://example.org/x.png">elsewhere</a>' in html
    assert html.count("<img") == 1
    assert "<script>alert" not in html
    assert "private" not in html
    assert '<span class="task">☐</span>to do' in html
    assert "default-src 'none'; img-src data:" in html
    own = made("html", "Title", "# Its own\n\ntext", {}).decode()
    assert own.count("<h1>") == 1


def test_a_word_file_has_text_tables_and_images() -> None:
    data = made("docx", "A title", TEXT, PICTURES)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        text = re.sub(r"<[^>]+>", "", archive.read("word/document.xml").decode())
        media = [archive.read(name) for name in archive.namelist() if name.startswith("word/media/")]
        assert "<w:tbl>" in archive.read("word/document.xml").decode()
        assert "A title" in archive.read("docProps/core.xml").decode()
        assert all(sign in archive.read("word/numbering.xml").decode() for sign in "☐☒")
        links = archive.read("word/_rels/document.xml.rels").decode()
    for said in ("A title", "bold", "字", "quoted", "elsewhere", "&lt;b onclick", "alert(1)"):
        assert said in text, said
    assert "private" not in text
    assert "a comment" not in text
    assert media == [PNG]
    assert "https://example.org" in links


def test_a_pdf_has_title_and_images_even_where_a_formula_is_none() -> None:
    data = made("pdf", 'A "title" \\ #x \x07', TEXT, PICTURES)
    assert data.startswith(b"%PDF")
    whole = inflated(data)
    assert len(re.findall(rb"/Subtype\s*/Image", whole)) == 1
    assert b"/Title" in whole
    assert re.search(rb"/URI\s*\(https://example.org\)", whole)
    assert inflated(made("pdf", "", "none", {})).count(b"/Subtype/Image") == 0


@pytest.mark.parametrize("kind", ["WEBP", "AVIF", "GIF", "JPEG"])
@pytest.mark.parametrize("format", ["docx", "pdf", "zip", "html"])
def test_every_kind_of_image_is_in_every_kind_of_file(kind: str, format: Format) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8), "#3f66c4").save(out, kind)
    hash = "a" * 64
    text = f"![x](/api/documents/d/images/{hash})"
    data = made(format, "", text, {hash: Picture(f"image/{kind.lower()}", out.getvalue())})
    if format == "docx" or format == "zip":
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = [name for name in archive.namelist() if name.startswith(("word/media/", "images/"))]
            assert len(names) == 1
            assert Image.open(io.BytesIO(archive.read(names[0]))).size == (8, 8)
    elif format == "pdf":
        assert re.search(rb"/Subtype\s*/Image", inflated(data))
    else:
        assert f"data:image/{kind.lower()};base64,".encode() in data


def test_an_image_that_is_broken_leaves_its_words_and_spoils_nothing() -> None:
    broken = {HASH: Picture("image/png", PNG[:-20])}
    text = f"before ![the words]({URL}) after"
    with zipfile.ZipFile(io.BytesIO(made("docx", "", text, broken))) as archive:
        assert "the words" in archive.read("word/document.xml").decode()
    assert made("pdf", "", text, broken).startswith(b"%PDF")


def test_markdown_is_as_it_is_and_its_images_lie_beside_it() -> None:
    assert made("markdown", "x", TEXT, {}).decode() == TEXT
    with zipfile.ZipFile(io.BytesIO(made("zip", "x", TEXT, PICTURES))) as archive:
        name = f"images/{HASH[:16]}.png"
        assert set(archive.namelist()) == {"document.md", name}
        assert archive.read("document.md").decode() == TEXT.replace(URL, name)
        assert archive.read(name) == PNG


@pytest.mark.parametrize("format", ["docx", "pdf"])
def test_without_the_extra_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, format: Format
) -> None:
    monkeypatch.setattr("web.press.find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"pip install 'collab-server\[export\]'"):
        made(format, "", "text", {})
    assert made("html", "", "text", {})


def test_images_are_known_by_what_they_are_whatever_the_document_is_called() -> None:
    assert hashes(f"![]({URL}) ![](/api/documents/other/images/{HASH}) /images/{'b' * 64}") == [HASH]


STRANGE = ["", "> " * 3000 + "x", "[" * 5000, "*a " * 5000, "---\n", "\0\ud800", "- " * 500 + "x"]


@pytest.mark.parametrize("format", ["html", "docx", "pdf"])
def test_strange_texts_make_files_or_are_refused_with_a_sentence(format: Format) -> None:
    for text in STRANGE:
        with suppress(ExportFailed):
            assert made(format, "", text, {})
