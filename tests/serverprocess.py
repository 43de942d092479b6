"""A real server in a process of its own, that tests may stop, kill, freeze and start again."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
import weakref
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from web import cli

# Seconds that a test waits for what a busy machine does late. It ends what hangs, and measures nothing: a
# promise about time has its own number in its own test.
PATIENCE = 60.0

# A start is a second of a processor, nearly all of it imports. Here one process has done them, and every
# server is forked from that.
_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["web.cli", "web.server"])


class Server:
    """`collab serve` on a data directory; ``start`` takes the same port again."""

    def __init__(self, data: Path, **settings: object) -> None:
        self.data = data
        reserved = reserve_port()
        self.port: int = reserved.getsockname()[1]
        weakref.finalize(self, reserved.close)
        self.settings = settings
        self._process: ForkServerProcess | None = None
        self.log = data / "server.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def ws_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    @property
    def process(self) -> ForkServerProcess:
        assert self._process is not None
        return self._process

    @property
    def pid(self) -> int:
        assert self.process.pid is not None
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.is_alive()

    def start(self) -> None:
        flags = [f"--{name.replace('_', '-')}={value}" for name, value in self.settings.items()]
        arguments = ["serve", f"--port={self.port}", f"--data={self.data}", *flags]
        self._process = _processes.Process(target=_run, args=(arguments, self.log))
        self._process.start()
        deadline = time.monotonic() + PATIENCE
        while True:
            if not self.alive:
                raise RuntimeError(f"the server ended with {self.process.exitcode}: {self.log.read_text()}")
            try:
                with urllib.request.urlopen(f"{self.url}/readyz", timeout=1):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        if self.alive:
            self.thaw()
            self.signal(signal.SIGTERM)
        return self.ended()

    def kill(self) -> None:
        self.process.kill()
        self.ended()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Wait for its end; returns the exit status."""
        self.process.join(30)
        assert self.process.exitcode is not None, "it still runs"
        return self.process.exitcode

    def children(self) -> list[int]:
        """The processes beside it."""
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.pid)], capture_output=True, text=True)
        return [int(line) for line in found.stdout.split()]

    def freeze_children(self) -> None:
        children = self.children()
        assert children, "there is nobody beside it"
        for child in children:
            os.kill(child, signal.SIGSTOP)

    def thaw_children(self) -> None:
        for child in self.children():
            os.kill(child, signal.SIGCONT)

    def freeze(self) -> None:
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal(signal.SIGCONT)


def _run(arguments: list[str], log: Path) -> None:
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for name in [name for name in os.environ if name.startswith("COLLAB_")]:
        del os.environ[name]
    sys.exit(cli.main(arguments))


def reserve_port() -> socket.socket:
    """A socket at a port of 127.0.0.1 that the system gives to nobody else while it is open. It does not
    listen, so a server takes the port all the same, once and again: every server sets SO_REUSEADDR."""
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved
