"""A document in a data directory, read from the database itself, for the commands of history.

Reading takes nothing from a server that has the directory; to write, it must be ours alone. What is answered
are the bodies that the API gives, made by the same functions.
"""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from collab.document import check_name
from collab.errors import CollabError, HeadMoved
from collab.hub import Hub, Limits
from collab.log import Actor, Origin
from collab.rights import Role
from storage.access import check_person
from storage.database import Database
from storage.documents import Documents
from storage.images import Images
from storage.imports import Imports
from storage.labels import Labels
from storage.log import UpdateLog
from storage.migrations import check, migrate
from web import archive, historian, history, press
from web.documents import shown
from web.export import pictures_of
from web.historian import Ref
from web.press import Format
from web.settings import Settings

T = TypeVar("T")


class DataDirectory:
    """One document in it. With ``writes`` the directory is claimed, made if need be, and brought to this
    release until ``close``.

    Raises DatabaseInUse, DatabaseTooOld, DatabaseTooNew; all methods
    raise DocumentNotFound, DocumentDeleted, NoSuchLabel, InvalidRequest, CorruptLog, StorageUnavailable.
    """

    def __init__(self, directory: Path, document: str, settings: Settings, *, writes: bool = False) -> None:
        self.document = check_name(document)
        self._settings = settings
        self._runner = asyncio.Runner()
        self._database: Database | None = None
        url = replace(settings, data=directory, database_url="").url
        try:
            if writes:
                self._run(migrate(url))
                self._database = self._run(Database.open(url))
            else:
                self._database = Database.reading(url)
                self._run(check(self._database))
        except BaseException:
            self.close()
            raise
        historian.begin(url, settings.history_bytes)
        self._documents = Documents(self._database)
        self._labels = Labels(self._database)
        self._log = UpdateLog(self._database)
        self._images = Images(self._database)

    def close(self) -> None:
        historian.end()
        if self._database is not None:
            self._run(self._database.close())
            self._database = None
        self._runner.close()

    def versions(self, asked: dict[str, str]) -> bytes:
        cursor = asked.get("cursor")
        choice = {
            "kind": asked.get("kind", "all"),
            "author": asked.get("author"),
            "since": history.moment(asked.get("since"), "since"),
            "until": history.moment(asked.get("until"), "until"),
            "before": None if cursor is None else int(cursor),
        }
        labels = self._run(self._labels.list(self.document))
        return bytes(self._ask("versions", labels, int(asked["limit"]), choice))

    def content(self, at: str, format: str) -> bytes:
        _, body = self._ask("content", self._ref(at), format, self.document)
        return bytes(body)

    def diff(self, old: str, new: str, format: str, granularity: str, cursor: str) -> bytes:
        body, _ = self._ask("diff", self._ref(old), self._ref(new), format, granularity, int(cursor))
        return bytes(body)

    def blame(self, at: str, start: int) -> bytes:
        return bytes(self._ask("blame", self._ref(at), start, None))

    def activity(self, bucket: str) -> bytes:
        return bytes(self._ask("activity", history.seconds(bucket, "bucket"), None, None))

    def restore(self, ref: str, expected_head: int | None) -> bytes:
        """As an edit of whoever runs this command. Raises HeadMoved too."""
        wanted = self._ref(ref)
        head, change = self._ask("restore", wanted, None, self.document)
        if expected_head is not None and head != expected_head:
            raise HeadMoved(head, expected_head)
        if change.update is None:
            return history.restored(change, head, head, None)
        first, last = self._run(self._write(change.update))
        labels = self._run(self._labels.list(self.document))
        return history.restored(change, first - 1, last, self._ask("version", labels, Ref(last)))

    def export(self) -> Iterator[bytes]:
        whole = self._run(archive.contents(self._documents, self._labels, self._images, self.document))
        pieces = archive.lines(self._log, self._images, self.document, whole)
        while (piece := self._run(anext(pieces, None))) is not None:
            yield piece

    def download(self, at: str, format: Format) -> bytes:
        """Raises NotInstalled, ExportFailed, TooLarge too."""
        text = self.content(at, "markdown").decode()
        title = self._run(self._documents.get(self.document)).title
        shown = press.hashes(text) if format != "markdown" else []
        pictures = self._run(pictures_of(self._images, self.document, shown))
        return press.made(format, title, text, pictures)

    def take(self, pieces: Iterable[bytes], owner: str | None) -> bytes:
        """Make a document of an archive; what the API says of it. Raises DocumentExists, UpdateError too."""
        by = owner if owner is not None else operator().id
        check_person(by)
        return self._run(self._take(pieces, by))

    async def _take(self, pieces: Iterable[bytes], by: str) -> bytes:
        async def stream() -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        assert self._database is not None
        imports = Imports(self._database)
        key = await imports.begin()
        try:
            taken = await archive.take(stream(), imports, key, self._settings)
            await imports.finish(key, self.document, taken.head, taken.labels, by)
        finally:
            await imports.drop(key)
        return shown(await self._documents.get(self.document), Role.OWNER).model_dump_json().encode()

    async def _write(self, update: bytes) -> tuple[int, int]:
        """Through the door that every change goes through."""
        hub = Hub(self._log, Limits(document_bytes=self._settings.document_bytes))
        try:
            async with asyncio.TaskGroup() as tasks:
                ready = asyncio.Event()
                work = tasks.create_task(hub.run(ready))
                await ready.wait()
                written = await hub.write(self.document, operator(), Origin.RESTORE, update)
                work.cancel()
        except BaseExceptionGroup as group:
            error: BaseException | None = group.subgroup(CollabError)
            if error is None:
                raise
            while isinstance(error, BaseExceptionGroup):
                error = error.exceptions[0]
            raise error from None
        return written

    def _ref(self, given: str) -> Ref:
        return self._run(history.ref_of(self._labels, self.document, given))

    def _ask(self, question: str, *arguments: Any) -> Any:
        self._run(self._documents.get(self.document))  # there is no history of what is not there
        return historian.ask(self.document, question, *arguments)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._runner.run(work)


def operator() -> Actor:
    """Who runs this command, as the history shows it: nobody's token or account has such an id."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError):  # a container without a name for its user
        name = "operator"
    return Actor(f"operator:{name}", "user", name)
