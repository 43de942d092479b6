"""`collab clone`, `sync`, `status`: documents as files. And what `log` and `diff` say of those."""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from difflib import unified_diff
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

from collab.client.client import Client
from collab.client.document import Document, Line, Status
from collab.client.mirror import FOLDER, Folder, Mirror, MirrorError, Outcome
from collab.document import check_name
from collab.errors import CollabError, InvalidRequest

PATIENCE = 15.0  # seconds for a server to answer; then the edits stay here until the next time
DIALLING = 2.0  # the same when nobody is at its address: a server that restarts is back by then
SAVE_PATIENCE = 60.0  # the same for what is under way
CALM = 0.3  # seconds after a change from elsewhere, in which more of them come
AGAIN = 5.0  # seconds after a file that could not be taken or written
LOOK = 5.0  # between two looks at the files, where the system tells of no changes (network file systems)
TOKEN_FILE = "token-file"
SERVER = "server"
_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add ours to the command line; ``parsed.client`` is then what to run."""
    clone = commands.add_parser("clone", help="Mirror a document as a file, beside a .collab folder.")
    clone.add_argument("url", metavar="URL", help="The document's address, as the browser shows it.")
    clone.add_argument("dir", nargs="?", default=".", metavar="DIR", help="Where; default here.")
    clone.add_argument("--file", help="What the file is called; default after the document.")
    _add_token(clone)
    clone.set_defaults(client=_clone)

    sync = commands.add_parser("sync", help="Send what was written into the files, and fetch what is new.")
    sync.add_argument(
        "path", nargs="?", default=".", metavar="PATH", help="A file or a folder; default here."
    )
    sync.add_argument("--watch", action="store_true", help="Go on, in both directions, until stopped.")
    sync.add_argument(
        "--empty", action="store_true", help="Take an empty file for one whose text was meant to be deleted."
    )
    _add_token(sync)
    sync.set_defaults(client=_sync)

    status = commands.add_parser("status", help="What waits to be sent; also while `sync --watch` runs.")
    status.add_argument("path", nargs="?", default=".", metavar="PATH")
    status.set_defaults(client=_status)


def _add_token(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--token-file",
        metavar="FILE",
        help="Where a token is, read anew for every line and remembered for the folder; else COLLAB_TOKEN.",
    )


def run(parsed: argparse.Namespace) -> int:
    """Run what ``add_commands`` has set; the exit status is 0, or 1 when something is not as it should be."""
    try:
        status: int = parsed.client(parsed)
    except CollabError as error:
        print(f"collab: {error}", file=sys.stderr)
        return 1
    return status


# --- clone


def _clone(parsed: argparse.Namespace) -> int:
    server, name = document_url(parsed.url)
    root = Path(parsed.dir)
    fresh = not (root / FOLDER).exists()
    (root / FOLDER).mkdir(parents=True, exist_ok=True)
    folder = Folder(root)
    known = folder.setting(SERVER)
    if known and known != server:
        folder.close()
        raise MirrorError(f"{root} mirrors documents of {known}; give another DIR")
    folder.set(SERVER, server)
    if fresh:
        (root / FOLDER / ".gitignore").write_text("*\n")
    if parsed.token_file:
        folder.set(TOKEN_FILE, str(Path(parsed.token_file).absolute()))
    path = parsed.file or file_name(name)
    if Path(path).is_absolute() or ".." in Path(path).parts:
        folder.close()
        raise MirrorError(f"--file must lie in {root}, which {path} does not")
    try:
        folder.add(Path(path).as_posix(), name)
    except MirrorError:
        folder.close()
        raise
    return asyncio.run(_sync_once(folder, [Path(path).as_posix()], take_empty=False))


def document_url(url: str) -> tuple[str, str]:
    """The server and the document of ``https://server/d/document``. Raises InvalidRequest, InvalidName."""
    parts = urlsplit(url)
    before, found, after = parts.path.partition("/d/")
    if parts.scheme not in ("http", "https") or not parts.netloc or not found:
        raise InvalidRequest(f"a document's address is like https://collab.example.org/d/plan, not {url!r}")
    return urlunsplit((parts.scheme, parts.netloc, before, "", "")), check_name(unquote(after))


def file_name(document: str) -> str:
    """What a document's file is called when nobody says."""
    name = _UNSAFE.sub("-", document.rpartition("/")[2]).strip(". ") or "document"
    return name if name.lower().endswith((".md", ".markdown", ".txt")) else f"{name}.md"


# --- sync


def _sync(parsed: argparse.Namespace) -> int:
    path = Path(parsed.path)
    folder = Folder.around(path)
    try:
        paths = _chosen(folder, path)
        if parsed.token_file:
            folder.set(TOKEN_FILE, str(Path(parsed.token_file).absolute()))
    except BaseException:
        folder.close()
        raise
    if parsed.watch:
        with suppress(KeyboardInterrupt):
            asyncio.run(_watch(folder, paths))
        return 0
    return asyncio.run(_sync_once(folder, paths, take_empty=parsed.empty))


def _chosen(folder: Folder, path: Path) -> list[str]:
    """The mirrored files at or below ``path``. Raises MirrorError when there are none."""
    wanted = path.absolute()
    chosen = [one for one in folder.files() if (folder.root / one).absolute().is_relative_to(wanted)]
    if not chosen:
        raise MirrorError(f"{path} is no mirrored file; there are: {', '.join(folder.files()) or 'none'}")
    return chosen


def _client(folder: Folder) -> Client:
    token_file = folder.setting(TOKEN_FILE)

    def token() -> str:
        if token_file:
            return Path(token_file).read_text().strip()
        return os.environ.get("COLLAB_TOKEN", "")

    return Client(folder.setting(SERVER) or None, folder.replica, token=token)


async def _sync_once(folder: Folder, paths: Iterable[str], *, take_empty: bool) -> int:
    """Each file once, or as often as others write meanwhile; 1 unless all is on the server then."""
    async with _client(folder) as client:
        names = folder.files()
        mirrors = [Mirror(folder, path, client.open(names[path])) for path in paths]
        results = await asyncio.gather(*(_sync_file(client, mirror, take_empty) for mirror in mirrors))
    return 0 if all(results) else 1


async def _sync_file(client: Client, mirror: Mirror, take_empty: bool) -> bool:
    document = mirror.document
    await _reach(client, document)
    refusal = document.refusal
    if document.line is not Line.LIVE and not document.clocks:
        print(f"{mirror.path}: nothing of it is here yet, and there is no server ({_why(client, refusal)})")
        return False
    try:
        outcome = await mirror.turn(take_empty=take_empty)
        _tell(mirror, outcome)
        if document.line is Line.LIVE:
            async with asyncio.timeout(SAVE_PATIENCE):
                await document.saved()
            if document.text != mirror.base():
                _tell(mirror, await mirror.turn())
    except TimeoutError:
        pass
    except MirrorError as error:
        print(f"{mirror.path}: {error}")
        return False
    except CollabError as error:
        refusal = error
    unsaved = document.status.unsaved
    if refusal is not None or document.line is not Line.LIVE or unsaved:
        print(f"{mirror.path}: {_edits(unsaved)} on this device only ({_why(client, refusal)})")
        return False
    print(f"{mirror.path}: in step with the server")
    return True


async def _reach(client: Client, document: Document) -> None:
    """Wait until all that the server has is here, or it is clear that it will not be soon."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    def settled(status: Status) -> bool:
        if status.line is not Line.OFFLINE:
            return status.line is Line.LIVE
        away = client.trouble is not None and loop.time() - began > DIALLING
        return status.refusal is not None or away

    with suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE):
            await document.until(settled)


async def _watch(folder: Folder, paths: list[str]) -> None:
    """Both directions, until cancelled."""
    task = asyncio.current_task()
    assert task is not None
    with suppress(NotImplementedError):  # Windows
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        async with _client(folder) as client, asyncio.TaskGroup() as tasks:
            names = folder.files()
            stirred = {path: asyncio.Event() for path in paths}
            mirrors = {path: Mirror(folder, path, client.open(names[path])) for path in paths}
            for path, mirror in mirrors.items():
                tasks.create_task(_follow(client, mirror, stirred[path]))
            tasks.create_task(_notice(mirrors, stirred))
            print(f"watching {', '.join(paths)}", flush=True)


async def _follow(client: Client, mirror: Mirror, stirred: asyncio.Event) -> None:
    """One file: a turn whenever it or its document was stirred."""
    document = mirror.document
    said = failed = ""

    def changed(status: Status) -> None:
        nonlocal said
        now = _standing(client, document, status)
        if now != said:
            said = now
            print(f"{mirror.path}: {now}", flush=True)
        stirred.set()

    document.watch(changed)
    await _reach(client, document)
    stirred.set()
    while True:
        await stirred.wait()
        await asyncio.sleep(CALM)
        stirred.clear()
        if document.line is not Line.LIVE and not document.clocks:
            continue  # nobody knows yet what it is
        try:
            _tell(mirror, await mirror.turn())
            failed = ""
        except CollabError as error:  # a file that is no text now, a full disk: it may be otherwise soon
            if str(error) != failed:
                failed = str(error)
                print(f"{mirror.path}: {failed}", flush=True)
            asyncio.get_running_loop().call_later(AGAIN, stirred.set)


async def _notice(mirrors: dict[str, Mirror], stirred: dict[str, asyncio.Event]) -> None:
    """Stir who the system says, or a look shows, has been written."""
    from watchfiles import awatch  # only here: it loads a library

    files = {mirror.file: path for path, mirror in mirrors.items()}
    seen: dict[Path, object] = {}
    async for changes in awatch(
        *{file.parent for file in files},
        recursive=False,
        debounce=200,
        step=20,
        rust_timeout=int(LOOK * 1000),
        yield_on_timeout=True,
        watch_filter=None,
    ):
        touched = {files[Path(path)] for _, path in changes if Path(path) in files}
        for file, path in files.items():
            try:
                stat = file.stat()
                now: object = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
            except FileNotFoundError:
                now = None
            if seen.setdefault(file, now) != now:
                seen[file] = now
                touched.add(path)
        for path in touched:
            stirred[path].set()


def _standing(client: Client, document: Document, status: Status) -> str:
    if status.refusal is not None:
        return f"{_edits(status.unsaved)} on this device only ({status.refusal})"
    if status.line is Line.LIVE:
        return "in step with the server" if not status.unsaved else "sending"
    return f"offline, {_edits(status.unsaved)} on this device only"


def _why(client: Client, refusal: CollabError | None) -> str:
    return str(refusal or client.trouble or "no answer in time")


def _edits(count: int) -> str:
    return "1 edit" if count == 1 else f"{count} edits"


def _tell(mirror: Mirror, outcome: Outcome) -> None:
    """Say what a turn did, here and in the local log."""
    if not outcome.changed:
        return
    said = f"{outcome.sent} characters out, {outcome.received} in"
    if outcome.note:
        said += f"; {outcome.note}"
    if outcome.conflicts:
        said += f"; changed on both sides: {len(outcome.conflicts)}"
    if outcome.kept is not None:
        said += f"; as it was: {outcome.kept.relative_to(mirror.folder.root)}"
    for conflict in outcome.conflicts:
        said += f"\n  line {conflict.line}: yours {_short(conflict.ours)}, theirs {_short(conflict.theirs)}"
    print(f"{mirror.path}: {said}", flush=True)
    mirror.folder.note(mirror.path, said)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


# --- what only looks


def _status(parsed: argparse.Namespace) -> int:
    with _looking(Path(parsed.path)) as (folder, paths):
        for path in paths:
            document = folder.files()[path]
            mirror = Mirror(folder, path)
            written = sum(stop - start + len(text) for start, stop, text in mirror.local())
            kept = folder.replica.read(document)
            parts = [f"{folder.setting(SERVER)} {document!r}"]
            parts.append(f"{written} characters not taken yet" if written else "nothing new in the file")
            unsaved = folder.replica.unsaved(document)
            parts.append(f"{_edits(unsaved)} not on the server" if unsaved else "all on the server")
            if kept.writes is False:
                parts.append("you may read it only")
            last = next((at for at, _, _ in folder.events(path)), None)
            if last is not None:
                parts.append(f"last change {_time(last)}")
            print(f"{path}: {'; '.join(parts)}")
    return 0


def log(path: Path) -> Iterator[str]:
    """Lines that say what was sent and fetched at or below ``path``, of each file the latest first.

    Raises MirrorError when nothing there is mirrored.
    """
    with _looking(path) as (folder, paths):
        for one in paths:
            for at, _, said in folder.events(one):
                yield f"{_time(at)}  {one}: {said}\n"


def diff(path: Path) -> Iterator[str]:
    """A unified diff, line by line: what was written into the files since they were synced. Raises as
    ``log``."""
    with _looking(path) as (folder, paths):
        for one in paths:
            mirror = Mirror(folder, one)
            now = mirror.text()
            if now is not None:
                before, after = (text.splitlines(keepends=True) for text in (mirror.base(), now))
                for line in unified_diff(before, after, f"synced/{one}", one):
                    yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def origin(path: Path) -> tuple[str, str, str]:
    """Of the one file that ``path`` is, or that is below it: its server, its document, and where a token is
    (or ""). Raises MirrorError."""
    with _looking(path) as (folder, paths):
        if len(paths) > 1:
            raise MirrorError(f"{path} holds {len(paths)} mirrored files; say which: {', '.join(paths)}")
        return folder.setting(SERVER), folder.files()[paths[0]], folder.setting(TOKEN_FILE)


@contextmanager
def _looking(path: Path) -> Iterator[tuple[Folder, list[str]]]:
    """A folder, to be read only, and the mirrored files at or below ``path``."""
    folder = Folder.around(path, writes=False)
    try:
        yield folder, _chosen(folder, path)
    finally:
        folder.close()


def _time(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))
