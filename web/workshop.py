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
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from multiprocessing import active_children, get_context, parent_process
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

T = TypeVar("T")

NICE = 10  # who types goes first, where cores are few


class TakesTooLong(BrokenProcessPool):
    """It was not done within the time that it may take; its worker was ended."""


class Workshop:
    """One worker process, begun when first needed with ``begin(*arguments)``. It does one thing after the
    other; the queue is bounded by those who ask."""

    def __init__(self, begin: Callable[..., None] | None = None, *arguments: Any) -> None:
        self._begin = (begin, *arguments)
        self._pool: ProcessPoolExecutor | None = None
        self._worker: BaseProcess | None = None
        # Not the pool's own queue: when a worker ends, that tells nobody who waits behind one who has left.
        self._turn = asyncio.Lock()

    def close(self) -> None:
        """End the worker, whatever it does. At its own pace it would keep the server from ending: it has the
        least of a busy machine."""
        self.kill()
        if self._pool is not None:
            self._pool.shutdown()

    def kill(self) -> None:
        """End the worker in the middle of what it does: who waits for that gets BrokenProcessPool."""
        if self._worker is not None:
            self._worker.kill()

    async def run(self, function: Callable[..., T], *arguments: Any, within: float | None = None) -> T:
        """``function(*arguments)``, all of which can be pickled; once begun it is done to its end, or for
        ``within`` seconds, whether or not the caller waits. Raises what it raises; BrokenProcessPool when the
        worker ended, TakesTooLong when it was ended for that: the next call has a new one."""
        await self._turn.acquire()
        began = time.monotonic()
        try:
            if self._pool is None:
                self._pool = self._begin_pool()
            done = asyncio.wrap_future(self._pool.submit(function, *arguments))
        except BaseException as error:
            self._end_turn(error)
            raise
        done.add_done_callback(lambda done: self._end_turn(done.exception()))
        if within is not None:
            watch = asyncio.get_running_loop().call_later(within, self.kill)
            done.add_done_callback(lambda _: watch.cancel())
        try:
            return await asyncio.shield(done)
        except BrokenProcessPool:
            if within is not None and time.monotonic() - began >= within:
                raise TakesTooLong(f"more than {within:.0f} seconds") from None
            raise

    def _end_turn(self, error: BaseException | None) -> None:
        if isinstance(error, BrokenProcessPool):
            self._pool = self._worker = None
        self._turn.release()

    def _begin_pool(self) -> ProcessPoolExecutor:
        pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=_begin, initargs=self._begin
        )
        others = set(active_children())
        pool.submit(os.getpid)  # its process is there when this returns; the pool does not say which it is
        for self._worker in set(active_children()) - others:
            # From here, so that it gives way already while it starts, which is a second of a core.
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, self._worker.pid or 0, NICE)
        return pool


def _begin(begin: Callable[..., None] | None, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server says when it is over
    threading.Thread(target=_end_with_parent, daemon=True).start()
    if begin is not None:
        begin(*arguments)


def _end_with_parent() -> None:
    # The queue it waits on has its other end here too, so the end of a killed server is not seen there.
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)
