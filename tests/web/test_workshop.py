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

from collab.errors import UpdateError
from collab.update import check
from web.workshop import Workshop


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


def test_a_worker_does_not_outlive_a_server_that_was_killed(tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(
        "import asyncio, os, sys\n"
        "from web.workshop import Workshop\n"
        "async def main():\n"
        "    print(await Workshop().run(os.getpid), flush=True)\n"
        "    os.kill(os.getpid(), 9)\n"
        "if __name__ == '__main__':\n"
        "    asyncio.run(main())\n"
    )
    told = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    worker = int(told.stdout)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{worker}/cmdline").exists() and Path(f"/proc/{worker}/cmdline").read_bytes():
        assert time.monotonic() < deadline, "it waits for work that nobody can send"
        time.sleep(0.05)
