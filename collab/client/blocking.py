"""The client for scripts and notebooks: the same documents without async, kept in step by a thread.

    with Client("https://collab.example.org", "notes.db") as client:
        document = client.open("plan")
        document.insert(0, "# Plan\\n")
        document.saved(timeout=10)

Every call may come from any thread but the client's own, and raises what its namesake in ``collab.client``
raises; one that waits raises TimeoutError after ``timeout`` seconds.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Self, TypeVar

from collab.client import client as asynchronous
from collab.client.connection import Token
from collab.client.difference import Replacement
from collab.client.document import Change, DocumentClosed, Status
from collab.client.document import Document as AsyncDocument

T = TypeVar("T")


class Client:
    """``collab.client.Client`` in a thread of its own, until ``close`` or the end of the ``with``."""

    def __init__(
        self,
        url: str | None,
        path: str | os.PathLike[str] = ":memory:",
        *,
        token: Token = "",
        power_safe: bool = True,
    ) -> None:
        self._loop: asyncio.AbstractEventLoop
        self._leave: asyncio.Event
        begun: Future[asynchronous.Client] = Future()
        self._ended: Future[None] = Future()

        async def live() -> None:
            self._loop, self._leave = asyncio.get_running_loop(), asyncio.Event()
            async with asynchronous.Client(
                url, path, token=_elsewhere(token), power_safe=power_safe
            ) as client:
                begun.set_result(client)
                await self._leave.wait()

        def run() -> None:
            try:
                asyncio.run(live())
            except BaseException as error:  # it is raised where somebody waits for it
                (self._ended if begun.done() else begun).set_exception(error)
            else:
                self._ended.set_result(None)

        self._thread = threading.Thread(target=run, name="collab client", daemon=True)
        self._thread.start()
        self._client = begun.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def open(self, name: str, *, seed: bytes | None = None) -> Document:
        return Document(self, self._call(lambda: self._client.open(name, seed=seed)))

    def forget(self, name: str) -> None:
        self._call(lambda: self._client.forget(name))

    def retry(self) -> None:
        self._call(self._client.retry)

    @property
    def trouble(self) -> Exception | None:
        return self._client.trouble

    def close(self) -> None:
        """Write what is not in the file yet, and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._leave.set)
            self._thread.join()
            self._ended.result()

    def _call(self, work: Callable[[], T]) -> T:
        async def called() -> T:
            return work()

        return self._wait(called(), None)

    def _wait(self, work: Coroutine[Any, Any, T], timeout: float | None) -> T:
        if not self._thread.is_alive() or threading.current_thread() is self._thread:
            work.close()
            if self._thread.is_alive():
                raise RuntimeError("called from the client's own thread, which would wait for itself")
            raise DocumentClosed("the client is closed; make another one")

        async def limited() -> T:
            async with asyncio.timeout(timeout):
                return await work

        return asyncio.run_coroutine_threadsafe(limited(), self._loop).result()


class Document:
    """A document of a blocking ``Client``."""

    def __init__(self, client: Client, document: AsyncDocument) -> None:
        self._client = client
        self._document = document
        self.name = document.name

    @property
    def text(self) -> str:
        return self._client._call(lambda: self._document.text)

    @property
    def status(self) -> Status:
        return self._client._call(lambda: self._document.status)

    def __len__(self) -> int:
        return len(self.text)

    def insert(self, at: int, text: str, attributes: Mapping[str, Any] | None = None) -> None:
        self._client._call(lambda: self._document.insert(at, text, attributes))

    def delete(self, start: int, stop: int) -> None:
        self._client._call(lambda: self._document.delete(start, stop))

    def replace(self, start: int, stop: int, text: str, attributes: Mapping[str, Any] | None = None) -> None:
        self._client._call(lambda: self._document.replace(start, stop, text, attributes))

    def format(self, start: int, stop: int, attributes: Mapping[str, Any]) -> None:
        self._client._call(lambda: self._document.format(start, stop, attributes))

    def rewrite(self, text: str) -> list[Replacement]:
        return self._client._call(lambda: self._document.rewrite(text))

    def edit(self, work: Callable[[AsyncDocument], T]) -> T:
        """What ``work`` makes of the document, in one transaction: many edits as one, with nobody else's in
        between. It is called on the client's thread, and may use any root of ``document.doc``."""

        def edited() -> T:
            with self._document.transaction():
                return work(self._document)

        return self._client._call(edited)

    def saved(self, timeout: float | None = None) -> None:
        self._client._wait(self._document.saved(), timeout)

    def live(self, timeout: float | None = None) -> None:
        self._client._wait(self._document.live(), timeout)

    def until(self, condition: Callable[[Status], bool], timeout: float | None = None) -> None:
        """``condition`` is called on the client's thread."""
        self._client._wait(self._document.until(condition), timeout)

    def observe(self, observer: Callable[[Change], object]) -> Callable[[], None]:
        """``observer`` is called on the client's thread, and must not wait for the client there."""
        end = self._client._call(lambda: self._document.observe(observer))
        return lambda: self._client._call(end)

    def close(self) -> None:
        self._client._call(lambda: self._client._client.close(self._document))


def _elsewhere(token: Token) -> Token:
    """A function that fetches tokens may block; it must not block the client's thread."""
    if isinstance(token, str):
        return token

    async def fetched() -> str:
        found = await asyncio.to_thread(token)
        return await found if inspect.isawaitable(found) else found

    return fetched
