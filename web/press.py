"""The press: makes files that other programs open of Markdown. Run in a process that may be ended.

HTML is ours (markdown-it). For Word and PDF pandoc reads the Markdown, we go through what it read, and pandoc
writes it, for PDF as Typst, which that compiles. Of what a document can say nothing reaches a file or the
network: pandoc runs in its sandbox, Typst in a directory of its own, and of images only those are left that
came with the document.
"""

from __future__ import annotations

import base64
import html
import io
import json
import re
import subprocess
import zipfile
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple
from urllib.parse import unquote

from collab.errors import CollabError, TooLarge

Format = Literal["markdown", "zip", "html", "docx", "pdf"]
Node = dict[str, Any]

ENDINGS: Mapping[Format, str] = {"markdown": "md", "zip": "zip", "html": "html", "docx": "docx", "pdf": "pdf"}
IMAGE = re.compile(r"/api/documents/[^/\s()<>\"']+/images/([0-9a-f]{64})")
PANDOC_SECONDS = 20
PANDOC_HEAP = "768m"
GFM = "gfm+tex_math_dollars-yaml_metadata_block"  # the start of a file is cut off by us, whatever is in it
FRONT = re.compile(r"\A---[ \t]*\n(?:(?!---|\.\.\.)[^\n]*\n)*?(?:---|\.\.\.)[ \t]*(?:\n|\Z)")
SUFFIXES = {
    "image/png": "png",
    "image/jpeg": "jpg",
    "image/gif": "gif",
    "image/webp": "webp",
    "image/avif": "avif",
}
_TASK = re.compile(r"(<li>(?:\n?<p>)?)\[([ xX])\] ")
_HERE = Path(__file__)
KNOWN_TO_WORD = ("image/png", "image/jpeg", "image/gif")
KNOWN_TO_TYPST = (*KNOWN_TO_WORD, "image/webp")


class NotInstalled(CollabError):
    """What makes this kind of file is not installed on the server."""

    status = 501
    code = "not-installed"


class ExportFailed(CollabError):
    """No file of this kind can be made of the document."""

    code = "export-failed"


class Picture(NamedTuple):
    """An image of the document, by its media type."""

    type: str
    data: bytes


def check(format: Format) -> None:
    """Raises NotInstalled."""
    needed = {"docx": ("pypandoc", "PIL"), "pdf": ("pypandoc", "PIL", "typst")}.get(format, ())
    if any(find_spec(name) is None for name in needed):
        raise NotInstalled(
            f"this server cannot make {format.upper()}: it lacks `pip install 'collab-server[export]'`"
        )


def hashes(markdown: str) -> list[str]:
    """The images that a text shows, each once."""
    return list(dict.fromkeys(IMAGE.findall(markdown)))


def made(format: Format, title: str, markdown: str, pictures: Mapping[str, Picture]) -> bytes:
    """The file. ``pictures`` by hash. Raises NotInstalled, ExportFailed, TooLarge (it takes too long)."""
    check(format)
    makers: dict[Format, Callable[[str, str, Mapping[str, Picture]], bytes]] = {
        "markdown": lambda _, text, __: text.encode("utf-8", "replace"),
        "zip": _zip,
        "html": _html,
        "docx": _docx,
        "pdf": _pdf,
    }
    try:
        return makers[format](title, markdown, pictures)
    except RecursionError:
        raise ExportFailed("the document nests too deeply") from None


# --- Markdown and its images ---------------------------------------------------------------------------


def _zip(title: str, markdown: str, pictures: Mapping[str, Picture]) -> bytes:
    names = {hash: f"images/{hash[:16]}.{SUFFIXES[one.type]}" for hash, one in pictures.items()}
    text = IMAGE.sub(lambda found: names.get(found[1], found[0]), markdown)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("document.md", text.encode("utf-8", "replace"))
        for hash, name in names.items():
            archive.writestr(name, pictures[hash].data, zipfile.ZIP_STORED)
    return out.getvalue()


# --- HTML ----------------------------------------------------------------------------------------------


def _html(title: str, markdown: str, pictures: Mapping[str, Picture]) -> bytes:
    from web.questions import renderer

    rules = renderer()

    def image(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        source = str(tokens[index].attrs["src"])
        alt = html.escape(self.renderInlineAsText(tokens[index].children or [], options, env))
        found = IMAGE.search(unquote(source)) or IMAGE.search(source)
        if found is None or (picture := pictures.get(found[1])) is None:
            # A file that is opened tells no other server of it.
            return f'<a href="{html.escape(source)}">{alt or html.escape(source)}</a>'
        return f'<img src="{_data_url(picture)}" alt="{alt}">'

    rules.add_render_rule("image", image)
    body = rules.render(FRONT.sub("", markdown))
    body = _TASK.sub(lambda m: f'{m[1]}<span class="task">{"☐" if m[2] == " " else "☑"}</span>', body)
    style = _HERE.with_suffix(".css").read_text("utf-8")
    heading = "" if body.startswith("<h1>") or not title else f"<h1>{html.escape(title)}</h1>\n"
    return (
        '<!doctype html>\n<html lang="">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        f"<title>{html.escape(title)}</title>\n<style>{style}</style>\n<body>\n{heading}{body}</body>\n</html>\n"
    ).encode("utf-8", "replace")


def _data_url(picture: Picture) -> str:
    return f"data:{picture.type};base64,{base64.b64encode(picture.data).decode()}"


# --- Word and PDF --------------------------------------------------------------------------------------


def _docx(title: str, markdown: str, pictures: Mapping[str, Picture]) -> bytes:
    urls = {hash: _data_url(one) for hash, one in _known(pictures, KNOWN_TO_WORD).items()}
    tree = _read(markdown, urls)
    if title and not _has_title(tree):
        tree["meta"]["title"] = {"t": "MetaInlines", "c": [_string(title)]}
    return _pandoc(["-f", "json", "-t", "docx", "-o", "-"], json.dumps(tree).encode())


def _pdf(title: str, markdown: str, pictures: Mapping[str, Picture]) -> bytes:
    import typst

    with TemporaryDirectory(prefix="collab-export-") as name:
        folder = Path(name)
        urls = {}
        for number, (hash, one) in enumerate(_known(pictures, KNOWN_TO_TYPST).items()):
            urls[hash] = f"{number}.{SUFFIXES[one.type]}"
            (folder / urls[hash]).write_bytes(one.data)
        # Typst stops at the first thing that it cannot read; the rest is worth more than that.
        for known, math in ((urls, True), (urls, False), ({}, True), ({}, False)):
            tree = _read(markdown, known, math=math)
            body = _pandoc(["-f", "json", "-t", "typst", "--wrap=none"], json.dumps(tree).encode())
            shown = json.dumps(_printable(title), ensure_ascii=False)
            head = f"#set document(title: {shown})\n{_HERE.with_suffix('.typ').read_text('utf-8')}"
            if title and not _has_title(tree):
                head += f"#block(below: 1.4em, text(size: 1.9em, weight: 600, {shown}))\n"
            (folder / "main.typ").write_text(head + body.decode(), "utf-8")
            try:
                return bytes(typst.compile(folder / "main.typ", root=folder))
            except typst.TypstError as error:
                why = str(error)
    raise ExportFailed(f"no PDF can be made of this document: {why}")


def _read(markdown: str, urls: Mapping[str, str], *, math: bool = True) -> Node:
    """What pandoc reads, without what would reach beyond the document. ``urls`` of images, by hash."""
    tree: Node = json.loads(
        _pandoc(["-f", GFM, "-t", "json"], FRONT.sub("", markdown).encode("utf-8", "replace"))
    )
    ids: set[str] = set()

    def learn(node: Node) -> None:
        for part in node["c"] if isinstance(node.get("c"), list) else ():
            if isinstance(part, list) and list(map(type, part)) == [str, list, list]:
                ids.add(part[0])

    def change(node: Node) -> list[Node] | None:
        kind, content = node["t"], node.get("c")
        if kind == "Image":
            assert content is not None
            _, alt, (source, _) = content
            found = IMAGE.search(unquote(source)) or IMAGE.search(source)
            if found is not None and found[1] in urls:
                content[2][0] = urls[found[1]]
                return None
            return [{"t": "Link", "c": [["", [], []], alt or [_string(source)], [source, ""]]}]
        if kind in ("RawInline", "RawBlock"):
            assert content is not None
            raw = content[1].strip()
            if raw.startswith("<!--"):
                return []
            if re.fullmatch(r"<br\s*/?>", raw):
                return [{"t": "LineBreak"}]
            return [_string(raw) if kind == "RawInline" else {"t": "Para", "c": [_string(raw)]}]
        if kind == "Link" and content is not None and content[2][0].startswith("#"):
            return None if unquote(content[2][0][1:]) in ids else list(content[1])
        if kind == "Math" and not math:
            assert content is not None
            return [{"t": "Code", "c": [["", [], []], content[1]]}]
        return None

    _each(tree["blocks"], learn)
    tree["blocks"] = _changed(tree["blocks"], change)
    tree["meta"] = {}
    return tree


def _each(value: Any, look: Callable[[Node], None]) -> None:
    if isinstance(value, list):
        for item in value:
            _each(item, look)
    elif isinstance(value, dict):
        look(value)
        _each(value.get("c"), look)


def _changed(value: Any, change: Callable[[Node], list[Node] | None]) -> Any:
    """``value`` with each node replaced by what ``change`` gives for it, if it gives something."""
    if isinstance(value, dict):
        return {key: _changed(part, change) for key, part in value.items()}
    if not isinstance(value, list):
        return value
    out: list[Any] = []
    for item in value:
        item = _changed(item, change)
        new = change(item) if isinstance(item, dict) and "t" in item else None
        out += [item] if new is None else new
    return out


def _has_title(tree: Node) -> bool:
    blocks = tree["blocks"]
    return bool(blocks) and blocks[0]["t"] == "Header" and blocks[0]["c"][0] == 1


def _string(text: str) -> Node:
    return {"t": "Str", "c": text}


def _printable(text: str) -> str:
    return "".join(sign if sign.isprintable() else " " for sign in text)


def _known(pictures: Mapping[str, Picture], types: Sequence[str]) -> dict[str, Picture]:
    """Those that can be read, in formats that a program knows: one that is broken must not spoil the rest."""
    from PIL import Image

    found = {}
    for hash, picture in pictures.items():
        out = io.BytesIO()
        try:
            with Image.open(io.BytesIO(picture.data)) as image:
                image.load()
                if picture.type not in types:
                    image.save(out, "PNG")
        except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError):
            continue
        found[hash] = Picture("image/png", out.getvalue()) if out.tell() else picture
    return found


def _pandoc(arguments: Sequence[str], given: bytes) -> bytes:
    import pypandoc

    limits = ["+RTS", f"-M{PANDOC_HEAP}", "-RTS", "--sandbox", "--quiet"]
    try:
        done = subprocess.run(
            [pypandoc.get_pandoc_path(), *limits, *arguments],
            input=given,
            capture_output=True,
            timeout=PANDOC_SECONDS,
            env={"LANG": "C.UTF-8"},
        )
    except subprocess.TimeoutExpired:
        raise TooLarge(f"to make this file takes more than {PANDOC_SECONDS} seconds") from None
    if done.returncode == 251:  # of the heap
        raise TooLarge(f"to make this file takes more than {PANDOC_HEAP} of memory")
    if done.returncode:
        raise ExportFailed(f"pandoc gave up: {done.stderr.decode(errors='replace')[:500]}")
    return done.stdout
