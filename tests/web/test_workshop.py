"""The process beside the server's: what it does, and that neither end outlives or harms the other."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
from serverprocess import PATIENCE

from collab.errors import UpdateError
from collab.update import check
from web.workshop import TakesTooLong, Workshop


def test_work_is_done_elsewhere_and_its_errors_come_back() -> None:
    async def scenario() -> None:
        workshop = Workshop()
        try:
            elsewhere = await workshop.run(os.getpid)
            assert elsewhere != os.getpid()
            assert await workshop.run(os.getpid) == elsewhere, "begun once"
            with pytest.raises(UpdateError, match="promises more"):
                await workshop.run(check, b"\x01", {})
        finally:
            workshop.close()

    asyncio.run(scenario())


def test_what_ends_the_worker_is_told_and_the_next_has_a_new_one() -> None:
    async def scenario() -> None:
        workshop = Workshop()
        try:
            with pytest.raises(BrokenProcessPool):
                await workshop.run(os._exit, 3)
            assert await workshop.run(os.getpid) != os.getpid()
        finally:
            workshop.close()

    asyncio.run(scenario())


def test_who_waits_behind_one_who_has_left_has_a_new_worker_when_it_ends() -> None:
    async def scenario() -> None:
        workshop = Workshop()
        try:
            ended = await workshop.run(os.getpid)
            long = asyncio.create_task(workshop.run(time.sleep, 600))
            waiting = [asyncio.create_task(workshop.run(os.getpid)) for _ in range(10)]
            await asyncio.sleep(0.1)
            waiting.pop(5).cancel()
            workshop.kill()
            with pytest.raises(BrokenProcessPool):
                await long
            async with asyncio.timeout(PATIENCE):
                assert ended not in await asyncio.gather(*waiting)
        finally:
            workshop.close()

    asyncio.run(scenario())


def test_what_takes_longer_than_it_may_is_ended_whether_or_not_anybody_waits_for_it() -> None:
    async def scenario() -> None:
        workshop = Workshop()
        try:
            first = await workshop.run(os.getpid)
            with pytest.raises(TakesTooLong):
                await workshop.run(time.sleep, 600, within=0.2)
            second = await workshop.run(os.getpid)
            left = asyncio.create_task(workshop.run(time.sleep, 600, within=0.2))
            await asyncio.sleep(0)
            left.cancel()
            async with asyncio.timeout(PATIENCE):
                third = await workshop.run(os.getpid)
            assert len({first, second, third}) == 3
        finally:
            workshop.close()

    asyncio.run(scenario())


def test_what_a_worker_is_at_does_not_keep_the_server_from_ending(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
        workshop = Workshop()
        work = asyncio.create_task(workshop.run(time.sleep, 600))
        await asyncio.sleep(0.5)
        work.cancel()
        workshop.close()
        print("closed")
        """,
    )
    assert said == "closed\n"


def test_a_worker_does_not_outlive_a_server_that_was_killed(tmp_path: Path) -> None:
    told = run(
        tmp_path,
        """
        print(await Workshop().run(os.getpid), flush=True)
        os.kill(os.getpid(), 9)
        """,
    )
    worker = int(told)
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "it waits for work that nobody can send"
        time.sleep(0.05)


def run(directory: Path, server: str) -> str:
    """What a process of its own prints, in which ``server`` is all that is done."""
    script = directory / "server.py"
    script.write_text(
        "import asyncio, os, time\n"
        "from web.workshop import Workshop\n"
        f"async def main():\n{server}\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    return subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=PATIENCE
    ).stdout
