"""A process beside the server's, for pure functions that would hold the interpreter's lock for long.

pycrdt never lets go of the lock, and the collector stops every thread: what takes a quarter of a second on
a thread stops every keystroke for as long. Here it takes a core's time and nobody's turn; and what brings a
process down brings down this one.
"""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import get_context, parent_process
from typing import Any, TypeVar

T = TypeVar("T")

NICE = 10  # who types goes first, where cores are few


class Workshop:
    """One worker process, begun when first needed with ``begin(*arguments)``. It does one thing after the
    other; the queue is bounded by those who ask."""

    def __init__(self, begin: Callable[..., None] | None = None, *arguments: Any) -> None:
        self._begin = (begin, *arguments)
        self._pool: ProcessPoolExecutor | None = None
        self._worker: Future[int] | None = None  # its process id

    def close(self) -> None:
        """What waits is not done any more."""
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def kill(self) -> None:
        """End the worker in the middle of what it does: all who wait for it get BrokenProcessPool."""
        if self._worker is not None and self._worker.done() and self._worker.exception() is None:
            with suppress(ProcessLookupError):
                os.kill(self._worker.result(), signal.SIGKILL)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """``function(*arguments)``, all of which can be pickled. Raises what it raises; BrokenProcessPool
        when the worker ended or was ended: the next call has a new one."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(
                1, mp_context=get_context("spawn"), initializer=_begin, initargs=self._begin
            )
            self._worker = self._pool.submit(os.getpid)
        pool = self._pool
        try:
            return await asyncio.get_running_loop().run_in_executor(pool, function, *arguments)
        except BrokenProcessPool:
            if self._pool is pool:
                self._pool = self._worker = None
            raise


def _begin(begin: Callable[..., None] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when it is over
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(OSError):
        os.nice(NICE)
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    # The queue it waits on has its other end here too, so the end of a killed server is not seen there.
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
