"""The history of a document on the command line: `collab log`, `show`, `diff`, `restore`, `export`, `import`.

What stands first says where the document is: an address as the browser shows it, a data directory (and then
the document's name), or a mirrored file, which stands for the document on its server. With --json the API's
own bodies are written.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from datetime import datetime
from pathlib import Path
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from collab.client import command as mirrors
from collab.client.mirror import FOLDER
from collab.errors import CollabError, HeadMoved, InvalidRequest
from web import settings as settings_module
from web.terminal import BOLD, CROSSED_OUT, CYAN, DIM, GREEN, RED, UNDERLINED, YELLOW, Terminal, line, plain

if TYPE_CHECKING:
    from web.datadir import DataDirectory
    from web.press import Format
    from web.remote import Remote

PAGE = 100  # versions asked for at a time
EVER = "36500d"  # a bucket of activity that holds all there is
CONTEXT = 2  # lines shown around a change of words
LAST_BYTES = 512  # of an archive, in which its last line is
PIECE = 1 << 20  # bytes of an archive read at a time
URLS = ("http://", "https://")
DATABASE = "collab.db"  # in a data directory

INSERTED, DELETED = ("{+", "+}"), ("[-", "-]")  # as git marks words, for terminals and eyes without colour


class Source(Protocol):
    """Where a document is: ``web.remote`` or ``web.datadir``. What it returns are bodies of the API. All
    raise CollabError."""

    document: str

    def versions(self, asked: dict[str, str]) -> bytes: ...
    def content(self, at: str, format: str) -> bytes: ...
    def diff(self, old: str, new: str, format: str, granularity: str, cursor: str) -> bytes: ...
    def blame(self, at: str, start: int) -> bytes: ...
    def activity(self, bucket: str) -> bytes: ...
    def restore(self, ref: str, expected_head: int | None) -> bytes: ...
    def export(self) -> Iterator[bytes]: ...
    def download(self, at: str, format: Format) -> bytes: ...
    def close(self) -> None: ...


# --- arguments -----------------------------------------------------------------------------------------


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ours to the command line; ``parsed.answer`` is then what to run."""
    log = _add(
        commands, "log", _log, "The versions of a document; of mirrored files, what was sent and fetched."
    )
    log.add_argument("--limit", type=_count, metavar="N", help="The newest N; default all.")
    log.add_argument("--author", help="Those in which this one took part: a name, or an id like user:ada.")
    log.add_argument("--named", action="store_true", help="Those that have a name.")
    log.add_argument("--since", metavar="TIME", help="Those after an RFC 3339 time or a date.")
    log.add_argument("--until", metavar="TIME", help="Those before.")
    log.add_argument("--server", action="store_true", help="Of a mirrored file: the versions on its server.")

    show = _add(commands, "show", _show, "The text as of a version; default as it is.", "[REF]")
    show.add_argument("--blame", action="store_true", help="With who wrote each line, and when.")

    diff = _add(
        commands,
        "diff",
        _diff,
        "What has changed, word by word; of mirrored files without FROM, what was written into them.",
        "FROM [TO]",
    )
    shape = diff.add_mutually_exclusive_group()
    shape.add_argument("--unified", action="store_true", help="By lines, as `patch` takes it.")
    shape.add_argument("--stat", action="store_true", help="Only how much.")

    restore = _add(
        commands,
        "restore",
        _restore,
        "Make the text what it was, as one more edit; history only grows.",
        "REF",
    )
    restore.add_argument(
        "--expected-head", type=int, metavar="N", help="Only if nobody has gone on since entry N."
    )
    restore.add_argument("--yes", action="store_true", help="Without showing what changes, and asking.")

    export = _add(commands, "export", _export, "All that there is of a document as one file.")
    export.add_argument("-o", "--output", metavar="FILE", help="Where to; default standard output.")
    export.add_argument(
        "--format",
        choices=("archive", "markdown", "zip", "html", "docx", "pdf"),
        default="archive",
        help="For other programs: the text with its images (zip: Markdown and images). Default archive: all "
        "that there is, for `collab import`.",
    )
    export.add_argument("--at", metavar="REF", help="As it was; not of an archive, which has all of it.")

    take = commands.add_parser(
        "import",
        help="Make a document of such a file.",
        usage="%(prog)s [options] (SERVER | URL | DATA [NAME]) FILE",
        description="SERVER or URL: an address, with /d/NAME if it shall have that name. DATA: a data "
        "directory that no server has at the moment. FILE: an archive, or - for standard input.",
    )
    take.add_argument("what", nargs="*", metavar="ARGUMENT")
    take.add_argument("--owner", metavar="ID", help="In a data directory: whose it is, like user:ada.")
    settings_module.add_flags(take, "document_bytes")
    _add_shared(take, _import)


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    run: Callable[[argparse.Namespace, Terminal], None],
    help: str,
    refs: str = "",
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=help,
        usage=f"%(prog)s [options] (URL | DATA NAME | PATH) {refs}".rstrip(),
        description=f"{help} URL: the document's address, as the browser shows it. DATA NAME: a data "
        "directory, and the document in it. PATH: a mirrored file. A REF, FROM or TO is the number of an "
        "entry, a version's name or id, head, or an RFC 3339 time.",
    )
    parser.add_argument("what", nargs="*", metavar="ARGUMENT")
    _add_shared(parser, run)
    return parser


def _add_shared(parser: argparse.ArgumentParser, run: Callable[[argparse.Namespace, Terminal], None]) -> None:
    if run is not _export:  # that is JSON lines
        parser.add_argument("--json", action="store_true", help="What the API answers.")
    parser.add_argument(
        "--color",
        choices=("auto", "always", "never"),
        default="auto",
        help="Default auto: on a terminal, unless NO_COLOR is set.",
    )
    parser.add_argument("--no-pager", action="store_true", help="Not through PAGER (less).")
    parser.add_argument("--token-file", metavar="FILE", help="Where a token is; else COLLAB_TOKEN.")
    parser.set_defaults(answer=run, parser=parser)


def _count(given: str) -> int:
    if not given.isdigit() or not int(given):
        raise argparse.ArgumentTypeError(f"must be a number from 1 on, not {given!r}")
    return int(given)


def run(parsed: argparse.Namespace) -> int:
    """Run what ``add_commands`` has set; the exit status. Mistakes in the arguments exit with 2."""
    try:
        parsed.answer(parsed, Terminal(parsed.color, pager=not parsed.no_pager))
        sys.stdout.flush()
    except CollabError as error:
        print(f"collab: {plain(_said(error))}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # `collab log | head`: what is left in the buffer can go nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:  # a path that may not be looked at, or is none
        if error.filename is None:
            raise
        print(f"collab: {plain(str(error.filename))}: {error.strerror}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _said(error: CollabError) -> str:
    if error.code == "database-in-use":
        return f"{error}: give the document's address instead of the directory, or stop the server"
    problem = getattr(error, "problem", {})
    head = error.head if isinstance(error, HeadMoved) else problem.get("head")
    if head is None:
        return str(error)
    since = ", ".join(dict.fromkeys(_authors(version) for version in problem.get("changed", ())))
    by = f" (since then: {since})" if since else ""
    return f"{error}{by}; look at it, then give --expected-head {head}"


# --- where the document is -----------------------------------------------------------------------------


class Place(NamedTuple):
    """What the first arguments say. Either a server, or a data directory, or neither: then a mirrored path.
    ``rest`` are the other arguments."""

    server: str
    directory: Path | None
    path: Path | None
    document: str | None
    rest: list[str]


def _place(parsed: argparse.Namespace) -> Place:
    first, *rest = parsed.what or ["."]
    if first.lower().startswith(URLS):
        server, document = mirrors.document_url(first)
        return Place(server, None, None, document, rest)
    if (Path(first) / DATABASE).is_file():
        if not rest:
            parsed.parser.error(f"{first} is a data directory; say which document: {first} NAME")
        return Place("", Path(first), None, rest[0], rest[1:])
    path = Path(first)
    if first != "." and not any((one / FOLDER).is_dir() for one in (path, *path.absolute().parents)):
        raise InvalidRequest(
            f"{first} is no address like https://collab.example.org/d/plan, no data directory (there is no "
            f"{DATABASE} in it), and no mirrored file (`collab clone` makes those)"
        )
    return Place("", None, path, None, rest)


@contextmanager
def _opened(parsed: argparse.Namespace, place: Place, *, writes: bool = False) -> Iterator[Source]:
    source: Source
    if place.directory is not None:
        source = _directory(parsed, place.directory, place.document or "", writes=writes)
    elif place.path is not None:
        server, document, token_file = mirrors.origin(place.path)
        source = _remote(parsed, server, document, token_file)
    else:
        source = _remote(parsed, place.server, place.document, "")
    try:
        yield source
    finally:
        source.close()


def _directory(parsed: argparse.Namespace, directory: Path, document: str, *, writes: bool) -> DataDirectory:
    from web.datadir import DataDirectory

    try:
        settings = settings_module.read({"document_bytes": getattr(parsed, "document_bytes", None)})
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    return DataDirectory(directory, document, settings, writes=writes)


def _remote(parsed: argparse.Namespace, server: str, document: str | None, token_file: str) -> Remote:
    from web.remote import Remote

    token_file = parsed.token_file or token_file
    if not token_file:
        return Remote(server, document, os.environ.get("COLLAB_TOKEN", "").strip())
    try:
        return Remote(server, document, Path(token_file).read_text().strip())
    except (OSError, ValueError) as error:
        raise InvalidRequest(f"no token can be read from {token_file}: {error}") from None


def _refs(parsed: argparse.Namespace, place: Place, least: int, most: int) -> list[str]:
    if not least <= len(place.rest) <= most:
        parsed.parser.error(
            f"too many arguments: {' '.join(place.rest)}" if len(place.rest) > most else "say which version"
        )
    return place.rest


# --- log -----------------------------------------------------------------------------------------------


def _log(parsed: argparse.Namespace, terminal: Terminal) -> None:
    place = _place(parsed)
    _refs(parsed, place, 0, 0)
    asks = parsed.json or parsed.limit or parsed.author or parsed.named or parsed.since or parsed.until
    if place.path is not None and not parsed.server:
        if asks:
            parsed.parser.error(
                "of a mirrored file only --server gives versions, and --json or a choice of them"
            )
        terminal.show(_safe(terminal, mirrors.log(place.path)))
        return
    with _opened(parsed, place) as source:
        asked = {"kind": "named" if parsed.named else "all", "since": parsed.since, "until": parsed.until}
        if parsed.author:
            asked["author"] = _author(source, parsed.author)
        given = {key: value for key, value in asked.items() if value is not None}
        pages = _pages(source, given, parsed.limit)
        if parsed.json:
            whole = next(pages)
            for page in pages:
                whole["versions"] += page["versions"]
                whole["next"] = page["next"]
            _write_json(whole)
            return
        versions = (one for page in pages for one in page["versions"])
        terminal.show(("\n" if n else "") + _version(terminal, one) for n, one in enumerate(versions))


def _pages(source: Source, asked: dict[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
    cursor = None
    while limit is None or limit > 0:
        size = PAGE if limit is None else min(PAGE, limit)
        here = {"limit": str(size)} if cursor is None else {"limit": str(size), "cursor": cursor}
        page = _json(source.versions({**asked, **here}))
        yield page
        if limit is not None:
            limit -= len(page["versions"])
        cursor = page["next"]
        if cursor is None:
            return


def _author(source: Source, given: str) -> str:
    """The id of who is called so."""
    if ":" in given:
        return given
    names: dict[str, str] = {}
    for bucket in _json(source.activity(EVER))["buckets"]:
        names |= {actor["id"]: actor["name"] for actor in bucket["actors"]}
    found = [id for id, name in names.items() if name.casefold() == given.casefold()]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidRequest(f"{len(found)} authors are called {given!r}; say which: {', '.join(found)}")
    known = ", ".join(f"{name} ({id})" if name else id for id, name in names.items())
    raise InvalidRequest(f"nobody called {given!r} has written in it; who has: {known or 'nobody'}")


def _version(terminal: Terminal, version: dict[str, Any]) -> str:
    first, last = version["seq_from"], version["seq_to"]
    names = ", ".join(terminal.style(line(label["name"]), BOLD, GREEN) for label in version["labels"])
    head = terminal.style(f"version {last}", YELLOW)
    if first < last:
        head += terminal.style(f" ({first} to {last})", DIM)
    if names:
        head += f"  {names}"
    began, ended = _moment(version["started_at"]), _moment(version["ended_at"])
    until = "%H:%M:%S" if began.date() == ended.date() else "%Y-%m-%d %H:%M:%S"
    lines = [head, f"Date:    {began:%Y-%m-%d %H:%M:%S} to {ended:{until} %z}"]
    lines.append("Authors: " + ", ".join(_part(terminal, part) for part in version["actors"]))
    if version["origin"] != "edit":
        lines.append(f"Origin:  {version['origin']}")
    notes = [line(label["note"]) for label in version["labels"] if label["note"]]
    for said in (*notes, line(version["excerpt"])):
        if said:
            lines += ["", f"    {said}"]
    return "\n".join(lines) + "\n"


def _part(terminal: Terminal, part: dict[str, Any]) -> str:
    name = terminal.style(_name(part), BOLD, terminal.ink(part["id"]))
    return f"{name} {_amount(part)}"


def _amount(counted: dict[str, Any]) -> str:
    return f"+{counted['inserted']} -{counted['deleted']}"


def _name(person: dict[str, Any]) -> str:
    return line(person["name"]) or line(person["id"])


def _authors(version: dict[str, Any]) -> str:
    return ", ".join(_name(part) for part in version["actors"])


def _moment(given: str) -> datetime:
    """In this machine's time zone."""
    return datetime.fromisoformat(given).astimezone()


# --- show ----------------------------------------------------------------------------------------------


def _show(parsed: argparse.Namespace, terminal: Terminal) -> None:
    place = _place(parsed)
    ref = next(iter(_refs(parsed, place, 0, 1)), "head")
    with _opened(parsed, place) as source:
        if parsed.blame:
            blame = _blame(source, ref)
            if parsed.json:
                _write_json(blame)
            else:
                text = _text(source.content(str(blame["seq"]), "markdown"))
                terminal.show(_blamed(terminal, blame, text))
        elif parsed.json:
            _write_json(_json(source.content(ref, "json")))
        else:
            _show_text(terminal, source.content(ref, "markdown"))


def _show_text(terminal: Terminal, body: bytes) -> None:
    if terminal.escapes:
        text = plain(_text(body))
        terminal.show([text if text.endswith("\n") or not text else text + "\n"])
    else:
        terminal.write([body])


def _blame(source: Source, ref: str) -> dict[str, Any]:
    """All pages as one."""
    whole = page = _json(source.blame(ref, 0))
    people = {person["id"]: person for person in whole["actors"]}
    while page["next"] is not None:
        page = _json(source.blame(str(whole["seq"]), page["next"]))
        whole["runs"] += page["runs"]
        people |= {person["id"]: person for person in page["actors"]}
    return {**whole, "actors": list(people.values()), "next": None}


def _blamed(terminal: Terminal, blame: dict[str, Any], text: str) -> Iterator[str]:
    """Each line with the last entry that typed in it and when, who wrote most of it, and how many others."""
    names = {person["id"]: _name(person) for person in blame["actors"]}
    width = max((len(name) for name in names.values()), default=0) + 3
    digits, numbers = len(str(blame["seq"])), len(str(text.count("\n") + 1))
    for number, pieces in enumerate(_by_line(blame["runs"], text), 1):
        last = max((run for run, _ in pieces), key=lambda run: int(run["seq"]))
        most: Counter[str] = Counter()
        for run, piece in pieces:
            most[run["actor"]] += len(piece)
        (author, _), *others = most.most_common()
        name = names[author] + (f" +{len(others)}" if others else "")
        seq = terminal.style(f"{last['seq']:>{digits}}", YELLOW)
        who = terminal.style(f"{name:<{width}}", terminal.ink(author))
        shown = "".join(
            terminal.style(plain(piece.removesuffix("\n")), terminal.ink(run["actor"]))
            for run, piece in pieces
        )
        yield f"{seq} {who} {_moment(last['last_at']):%Y-%m-%d %H:%M} {number:>{numbers}}) {shown}\n"


def _by_line(runs: Iterable[dict[str, Any]], text: str) -> Iterator[list[tuple[dict[str, Any], str]]]:
    """Each line as its pieces, each with the run that it is of."""
    at, pieces = 0, list[tuple[dict[str, Any], str]]()
    for run in runs:
        for piece in _ended(text[at : at + run["length"]]):
            pieces.append((run, piece))
            if piece.endswith("\n"):
                yield pieces
                pieces = []
        at += run["length"]
    if pieces:
        yield pieces


def _ended(text: str) -> Iterator[str]:
    """Lines with their ends; only a line feed ends one."""
    start = 0
    while (end := text.find("\n", start)) >= 0:
        yield text[start : end + 1]
        start = end + 1
    if start < len(text):
        yield text[start:]


# --- diff ----------------------------------------------------------------------------------------------


def _diff(parsed: argparse.Namespace, terminal: Terminal) -> None:
    place = _place(parsed)
    if place.path is not None and not place.rest:
        if parsed.json or parsed.stat:
            parsed.parser.error(
                "what was written into files has no --json and no --stat; give FROM for versions"
            )
        terminal.show(_unified(terminal, "".join(mirrors.diff(place.path))))
        return
    old, new, *_ = [*_refs(parsed, place, 1, 2), "head"]
    if parsed.unified and parsed.json:
        parsed.parser.error("a unified diff is no JSON; leave out --unified or --json")
    with _opened(parsed, place) as source:
        if parsed.unified:
            body = source.diff(old, new, "unified", "line", "0")
            if terminal.escapes:
                terminal.show(_unified(terminal, _text(body)))
            else:
                terminal.write([body])
        elif parsed.stat:
            stat = _json(source.diff(old, new, "stats", "word", "0"))
            if parsed.json:
                _write_json(stat)
            else:
                terminal.show([f"{stat['seq_from']} to {stat['seq_to']}: {_counted(stat['stats'])}\n"])
        else:
            diff = _words(source, old, new)
            if parsed.json:
                _write_json(diff)
            else:
                terminal.show(_marked(terminal, diff))


def _counted(stats: dict[str, Any]) -> str:
    return f"{stats['inserted']} characters in, {stats['deleted']} out"


def _words(source: Source, old: str, new: str) -> dict[str, Any]:
    """The difference by words, all pages as one."""
    whole = page = _json(source.diff(old, new, "ops", "word", "0"))
    people = {person["id"]: person for person in whole["actors"]}
    while page["next"] is not None:
        ends = str(whole["seq_from"]), str(whole["seq_to"])
        page = _json(source.diff(*ends, "ops", "word", page["next"]))
        whole["parts"] += page["parts"]
        people |= {person["id"]: person for person in page["actors"]}
    return {**whole, "actors": list(people.values()), "next": None}


def _unified(terminal: Terminal, text: str) -> Iterator[str]:
    for one in _ended(text):
        styles: tuple[str, ...] = ()
        if one.startswith(("--- ", "+++ ")):
            styles = (BOLD,)
        elif one[0] in "@+-":
            styles = ({"@": CYAN, "+": GREEN, "-": RED}[one[0]],)
        yield terminal.style(plain(one) if terminal.escapes else one, *styles)


def _marked(terminal: Terminal, diff: dict[str, Any]) -> Iterator[str]:
    """Who did how much, and the changed lines with the words that came and went, in colours of authors."""
    inserted, deleted = Counter[str](), Counter[str]()
    for part in diff["parts"]:
        counter = {"insert": inserted, "delete": deleted}.get(part["op"])
        if counter is not None and part.get("actor"):
            counter[part["actor"]] += len(part["text"])
    yield terminal.style(f"--- {diff['seq_from']}\n+++ {diff['seq_to']}\n", BOLD)
    for person in diff["actors"]:
        id = person["id"]
        yield f"{_part(terminal, {**person, 'inserted': inserted[id], 'deleted': deleted[id]})}\n"
    before: deque[str] = deque(maxlen=CONTEXT)
    after, skipped = 0, True
    for number, touched, shown in _lines(terminal, diff["parts"]):
        if touched:
            if skipped:
                yield terminal.style(f"@@ line {number - len(before)} @@", CYAN) + "\n"
            yield from before
            before.clear()
            yield shown
            after, skipped = CONTEXT, False
        elif after:
            after -= 1
            yield shown
        else:
            skipped = skipped or len(before) == CONTEXT
            before.append(shown)


def _lines(terminal: Terminal, parts: Iterable[dict[str, Any]]) -> Iterator[tuple[int, bool, str]]:
    """The lines of both texts: the number in the new one, whether something in it has changed, and how it is
    shown."""
    number, touched, shown = 1, False, ""
    for part in parts:
        op = part["op"]
        for piece in _ended(part["text"]):
            shown += _word(terminal, op, piece, part.get("actor"))
            touched = touched or op != "keep"
            if piece.endswith("\n"):
                yield number, touched, shown + "\n"
                number += op != "delete"
                shown, touched = "", False
    if shown:
        yield number, touched, shown + "\n"


def _word(terminal: Terminal, op: str, piece: str, actor: str | None) -> str:
    text = plain(piece.removesuffix("\n"))
    if op == "keep":
        return text
    marks, way, colour = (INSERTED, UNDERLINED, GREEN) if op == "insert" else (DELETED, CROSSED_OUT, RED)
    begin, end = (terminal.style(mark, colour) for mark in marks)
    ink = terminal.ink(actor) if actor else colour
    # A line end alone would be a mark around nothing.
    return begin + (terminal.style(text, way, ink) if text else terminal.style("⏎", ink)) + end


# --- restore -------------------------------------------------------------------------------------------


def _restore(parsed: argparse.Namespace, terminal: Terminal) -> None:
    place = _place(parsed)
    (ref,) = _refs(parsed, place, 1, 1)
    if not parsed.yes and (parsed.json or not sys.stdin.isatty()):
        raise InvalidRequest(
            "nobody can be asked here: look with `collab diff ... head REF`, then give --yes"
        )
    with _opened(parsed, place, writes=True) as source:
        expected = parsed.expected_head
        if not parsed.yes:
            diff = _words(source, "head", ref)
            for piece in _marked(terminal, diff):
                sys.stdout.write(piece)
            sys.stdout.flush()
            question = f"Restore {line(source.document)!r} as of {diff['seq_to']}: {_counted(diff['stats'])}?"
            if not _agreed(question):
                print("Nothing was changed.")
                return
            # What was shown is what is done, or nothing.
            expected = diff["seq_from"] if expected is None else expected
            ref = str(diff["seq_to"])
        answer = _json(source.restore(ref, expected))
    if parsed.json:
        _write_json(answer)
        return
    now, before = answer["head"], answer["checkpoint"]["seq"]
    if now == before:
        said = f"The text is as it was at {ref}; nothing was changed."
    else:
        said = f"Restored as entry {now}: {_counted(answer['stats'])}. Before it: {before}."
    if answer["other_roots"]:
        said += " What is not text in it was left as it is."
    if place.path is not None:
        said += f" `collab sync` brings it into {place.path}."
    print(said)


def _agreed(question: str) -> bool:
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# --- export and import ---------------------------------------------------------------------------------


def _export(parsed: argparse.Namespace, terminal: Terminal) -> None:
    place = _place(parsed)
    _refs(parsed, place, 0, 0)
    whole = parsed.format == "archive"
    if whole and parsed.at is not None:
        parsed.parser.error("an archive has all versions; --at is for another --format")

    def pieces(source: Source) -> Iterator[bytes]:
        return (
            _whole(source.export()) if whole else iter([source.download(parsed.at or "head", parsed.format)])
        )

    if parsed.output in (None, "-"):
        if terminal.is_one and parsed.format not in ("markdown", "html"):
            parsed.parser.error("this is nothing for a terminal: give -o FILE, or a pipe")
        with _opened(parsed, place) as source:
            terminal.write(pieces(source))
        return
    output = Path(parsed.output)
    draft = output.with_name(f".{output.name}.part")
    try:
        with _opened(parsed, place) as source, draft.open("wb") as out:
            for piece in pieces(source):
                out.write(piece)
            out.flush()
            os.fsync(out.fileno())
        draft.replace(output)
    except OSError as error:
        raise InvalidRequest(f"{output} cannot be written: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _whole(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same pieces. Raises InvalidRequest behind the last one when they were cut off."""
    end = b""
    for piece in pieces:
        end = (end + piece)[-LAST_BYTES:]
        yield piece
    last = end[end.rfind(b"\n", 0, -1) + 1 :]
    if not (last.startswith(b'{"end":') and last.endswith(b"}\n")):
        raise InvalidRequest("the archive broke off, and is not whole; get it again")


def _import(parsed: argparse.Namespace, terminal: Terminal) -> None:
    if not 2 <= len(parsed.what) <= 3:
        parsed.parser.error("say where to, and which file")
    where, *names, file = parsed.what
    is_url = where.lower().startswith(URLS)
    if is_url and (names or parsed.owner):
        parsed.parser.error("a server takes a name as .../d/NAME, and who owns it from the token")
    if not is_url and not Path(where).is_dir():
        raise InvalidRequest(f"{where} is no address like https://collab.example.org, and no data directory")
    pieces = _pieces(file)
    if is_url:
        server, document = mirrors.document_url(where) if "/d/" in where else (where, None)
        made = _json(_remote(parsed, server, document, "").take(pieces))
    else:
        name = names[0] if names else token_urlsafe(9)
        directory = _directory(parsed, Path(where), name, writes=True)
        try:
            made = _json(directory.take(pieces, parsed.owner))
        finally:
            directory.close()
    if parsed.json:
        _write_json(made)
        return
    owner = "" if is_url else f"; it belongs to {line(made['imported_by'])}"
    print(f"{line(made['name'])}: {made['imported_head']} entries{owner}")


def _pieces(file: str) -> Iterator[bytes]:
    """What is in a file, or comes on standard input. Raises InvalidRequest."""
    try:
        with nullcontext(sys.stdin.buffer) if file == "-" else Path(file).open("rb") as archive:
            while piece := archive.read(PIECE):
                yield piece
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror}") from None


# --- forms ---------------------------------------------------------------------------------------------


def _json(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise InvalidRequest("the answer is not Collab's; is there a Collab server at this address?")
    return value


def _write_json(value: dict[str, Any]) -> None:
    print(json.dumps(value))  # ASCII: what is no text comes as an escape


def _text(body: bytes) -> str:
    return body.decode("utf-8", "replace")


def _safe(terminal: Terminal, pieces: Iterable[str]) -> Iterator[str]:
    return (plain(piece) if terminal.escapes else piece for piece in pieces)
