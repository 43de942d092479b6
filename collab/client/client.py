"""The client: a local file, and lines to one server."""

from __future__ import annotations

import asyncio
import os
from typing import Any, Self

from pycrdt import Doc

from collab.client.connection import DOCUMENTS, Connection, Token
from collab.client.document import Document
from collab.client.replica import Replica
from collab.document import check_name


class Client:
    """Documents of the server at ``url``, kept in the SQLite file ``path``; without a ``url``, only there.

        async with Client("https://collab.example.org", "notes.db", token=fresh_token) as client:
            document = client.open("plan")  # at once, with or without a network
            document.insert(0, "# Plan\\n")  # on this disk when it returns
            await document.saved()  # on the server's disk

    ``token`` is a string, or a function that gives one, awaited if need be, and asked anew for each document
    on each line. An edit costs a sync of the disk, some milliseconds: put many into one ``transaction``, or
    say ``power_safe=False`` if edits need to outlive only a kill of the process.

    ``path`` may be an open ``Replica``, which is closed with the client. One file belongs to one server, and
    to one process at a time. Raises ReplicaInUse, ReplicaFailed when the file cannot be used, and
    InvalidRequest when ``url`` is no address of a server.
    """

    def __init__(
        self,
        url: str | None,
        path: str | os.PathLike[str] | Replica = ":memory:",
        *,
        token: Token = "",
        power_safe: bool = True,
    ) -> None:
        self.replica = path if isinstance(path, Replica) else Replica(path, power_safe=power_safe)
        self.documents: dict[str, Document] = {}
        self._url = url
        self._token = token
        self._connections: list[Connection] = []
        self._homes: dict[str, Connection] = {}
        self._tasks: asyncio.TaskGroup | None = None
        self._running: list[asyncio.Task[None]] = []
        try:
            if url is not None:
                self._connections.append(Connection(url, token))
        except BaseException:
            self.replica.close()
            raise

    async def __aenter__(self) -> Self:
        self._tasks = await asyncio.TaskGroup().__aenter__()
        for connection in self._connections:
            self._running.append(self._tasks.create_task(connection.run()))
        return self

    async def __aexit__(self, *exception: Any) -> None:
        assert self._tasks is not None
        for task in self._running:
            task.cancel()
        try:
            # Its own CancelledError when one of our tasks failed; what the body raises is not the group's.
            cancelled = isinstance(exception[1], asyncio.CancelledError)
            await self._tasks.__aexit__(*(exception if cancelled else (None, None, None)))
        finally:
            try:
                for document in tuple(self.documents.values()):
                    document.close()
            finally:
                self.documents.clear()
                self.replica.close()

    def open(self, name: str, *, doc: Doc[Any] | None = None, seed: bytes | None = None) -> Document:
        """The document called ``name``, with all that this device has of it. Never waits.

        ``doc`` is the application's own, with any roots; what is in it already counts as an edit. ``seed``
        (see ``seed``) is what a document begins with of which this device has nothing. Opened a second time,
        the same object is returned. Raises InvalidName, CorruptLog, ReplicaFailed, and ValueError for a
        ``doc`` that does not fit.
        """
        check_name(name)
        document = self.documents.get(name)
        if document is not None:
            if doc is not None and doc is not document.doc:
                raise ValueError(f"{name!r} is open with another Doc; close it first")
            return document
        document = Document(name, self.replica, Doc() if doc is None else doc, seed)
        self.documents[name] = document
        if self._url is not None:
            self._home(self._url).add(document)
            self._homes[name] = self._connections[-1]
        return document

    def close(self, document: Document) -> None:
        """Let a document go; what is not saved stays in the file. Raises ReplicaFailed."""
        if self.documents.pop(document.name, None) is not None:
            home = self._homes.pop(document.name, None)
            if home is not None:
                home.remove(document)
            document.close()

    def forget(self, name: str) -> None:
        """Keep nothing of a document on this device, edits that are not saved included: after EpochChanged,
        say, or DocumentDeleted, when what was needed of it is somewhere else."""
        document = self.documents.get(name)
        if document is not None:
            self.close(document)
        self.replica.forget(name)

    def retry(self) -> None:
        """Dial at once, say when the network is back, and ask again for documents that were refused."""
        for connection in self._connections:
            connection.retry()

    @property
    def trouble(self) -> Exception | None:
        """Why there is no line, as far as we know."""
        return next((one.trouble for one in self._connections if one.trouble is not None), None)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes sent and received in frames since the client was made."""
        return sum(one.sent for one in self._connections), sum(one.received for one in self._connections)

    def _home(self, url: str) -> Connection:
        """A connection with room for one more document; it is put last."""
        for connection in self._connections:
            if len(connection) < DOCUMENTS:
                self._connections.remove(connection)
                break
        else:
            connection = Connection(url, self._token)
            if self._tasks is not None:
                self._running.append(self._tasks.create_task(connection.run()))
        self._connections.append(connection)
        return connection
