"""What a keystroke costs the page in a long document, and what the page weighs when it is opened first.

    .venv/bin/python bench/page.py [--keys 150] [--size 1000000]

A megabyte of Markdown made of a real paper (the trace in ../shared/traces or its extract in tests/traces), in
pieces of a sentence each that were written in random order, as a document is that people have worked on. Two
people have it open; one types in it, at its top and in its middle.

*Work* is the CPU time of the page's thread from one key to the next: what the key set off, layout and
painting, and what goes on beside it. It must stay under 16 ms to hold 60 frames a second, and does not mind
what else the machine is busy with. *Paint* is the time from the key to the end of its frame, and does.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import shutil
import sys
import tempfile
from bisect import bisect_right
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright
from pycrdt import Doc, Text
from websockets.sync.client import connect

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from load import read_trace
from serverprocess import Server

from collab import protocol

ROOT = Path(__file__).parent.parent
TRACE = "automerge-paper.json.gz"
DIST = ROOT / "web" / "editor" / "dist"
GOAL_MS = 16.0
GOAL_KIB = 200

# From a key to the end of the frame that shows it.
MEASURE = """() => {
  window.costs = [];
  const later = (run) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = run;
    port2.postMessage(0);
  };
  addEventListener('keydown', () => {
    const key = performance.now();
    requestAnimationFrame(() => later(() => window.costs.push(performance.now() - key)));
  }, true);
}"""


def markdown(size: int) -> str:
    """The paper as Markdown, over and over."""
    for where in (ROOT.parent / "shared" / "traces", ROOT / "tests" / "traces"):
        found = [where / TRACE, *sorted(where.glob("automerge-paper*.json.gz"))]
        if any(path.is_file() for path in found):
            path = next(path for path in found if path.is_file())
            break
    else:
        raise SystemExit(f"no {TRACE} to make a text of")
    paper = json.loads(gzip.decompress(path.read_bytes())).get("endContent") or final(path)
    for latex, mark in (
        (r"\\section\*?\{([^}]*)\}", r"# \1"),
        (r"\\subsection\*?\{([^}]*)\}", r"## \1"),
        (r"\\subsubsection\*?\{([^}]*)\}", r"### \1"),
        (r"\\emph\{([^}]*)\}", r"*\1*"),
        (r"\\textbf\{([^}]*)\}", r"**\1**"),
        (r"\\(?:verb|texttt)\{([^}]*)\}", r"`\1`"),
        (r"^\s*\\item\s*", "- "),
    ):
        paper = re.sub(latex, mark, paper, flags=re.MULTILINE)
    paper += (
        "\n\n| operation | list | map |\n|---|---|---|\n| insert | yes | no |\n| assign | yes | yes |\n\n"
    )
    return (paper * (size // len(paper) + 1))[:size]


def final(path: Path) -> str:
    text: list[str] = []
    for position, deleted, inserted in read_trace(path):
        text[position : position + deleted] = inserted
    return "".join(text)


def fill(server: Server, name: str, text: str) -> None:
    """Write the text in pieces, in random order, by one replica."""
    pieces = re.findall(r"[^.\n]*[.\n]?", text)
    order = list(range(len(pieces)))
    random.Random(5).shuffle(order)
    lengths = [0] * (len(pieces) + 1)  # a Fenwick tree: what stands before a piece

    def before(index: int) -> int:
        total = 0
        while index > 0:
            total += lengths[index]
            index -= index & -index
        return total

    doc: Doc[Any] = Doc()
    doc["content"] = content = Text()
    updates: list[bytes] = []
    doc.observe(lambda event: updates.append(event.update))
    for at in range(0, len(order), 500):
        with doc.transaction():
            for index in order[at : at + 500]:
                piece = pieces[index]
                content.insert(before(index), piece)
                position = index + 1
                while position < len(lengths):
                    lengths[position] += len(piece.encode())
                    position += position & -position
    assert str(content) == text
    with connect(f"{server.ws_url}/ws/{name}", max_size=None) as socket:
        for update in updates:
            socket.send(protocol.encode_update(update))
        socket.send(protocol.encode_sync_status(b""))
        while True:
            message = socket.recv()
            if isinstance(message, bytes) and message[0] == protocol.SYNC_STATUS:
                return


def type_keys(browser: Browser, page: Page, keys: int) -> tuple[list[float], list[float]]:
    """The work and the time to paint of each key, in milliseconds."""
    words = ("the quick brown fox jumps over a lazy dog and " * (keys // 40 + 2))[: keys + 10]
    trace: dict[str, Any] = {}
    for at, letter in enumerate(words):
        if at == 10:  # warm
            page.wait_for_timeout(1000)
            page.evaluate("window.costs.length = 0")
            browser.start_tracing(page=page, categories=["toplevel", "devtools.timeline"])
        page.keyboard.press(letter if letter != " " else "Space")
        page.wait_for_timeout(30)
    page.wait_for_timeout(300)
    trace = json.loads(browser.stop_tracing())
    return works(trace["traceEvents"]), page.evaluate("window.costs")


def works(events: list[dict[str, Any]]) -> list[float]:
    """CPU of the page's thread from one key to the next."""
    downs = sorted(
        (event["ts"], event["pid"], event["tid"])
        for event in events
        if event["name"] == "EventDispatch" and event.get("args", {}).get("data", {}).get("type") == "keydown"
    )
    _, pid, tid = downs[0]
    times = [at for at, *_ in downs]
    spent = [0.0] * len(downs)
    tasks = sorted(
        (event["ts"], event["dur"], event["tdur"])
        for event in events
        if event.get("ph") == "X"
        and (event["pid"], event["tid"]) == (pid, tid)
        and event.get("tdur")
        and "RunTask" in event["name"]
    )
    ended = 0
    for at, lasted, cost in tasks:
        if at < ended:
            continue  # within the one before
        ended = at + lasted
        # The task in which a key came belongs to that key.
        index = bisect_right(times, ended) - 1
        if index >= 0:
            spent[index] += cost / 1000
    return spent[:-1]


def report(place: str, work: list[float], paint: list[float]) -> None:
    def at(values: list[float], share: float) -> float:
        return sorted(values)[min(len(values) - 1, int(share * len(values)))]

    said = "" if at(work, 0.95) < GOAL_MS else f"  (goal {GOAL_MS:g}: missed)"
    print(
        f"{place:<8} work p50 {at(work, 0.5):5.1f} ms  p95 {at(work, 0.95):5.1f} ms{said}"
        f"   paint p50 {at(paint, 0.5):5.1f}  p95 {at(paint, 0.95):5.1f}   ({len(work)} keys)"
    )


# When one could type, on the clock of the page.
READY = """
new MutationObserver((_, observer) => {
  if (!document.querySelector('.cm-content[contenteditable=true]')) return;
  window.ready = performance.now();
  observer.disconnect();
}).observe(document, { subtree: true, childList: true, attributes: true });
"""


def weigh(page: Page, url: str) -> None:
    """What the browser asks for before one can type, each as gzip -9 would have it; fonts are as they are."""
    page.add_init_script(READY)
    page.goto(url)
    page.locator(".cm-content[contenteditable=true]").wait_for()
    asked: list[str] = page.evaluate(
        """() => performance.getEntriesByType('resource')
             .filter((entry) => entry.startTime < window.ready)
             .map((entry) => new URL(entry.name).pathname)"""
    )
    first: dict[str, float] = {}
    for path in asked:
        if path.endswith((".js", ".css", ".woff2")) and path != "/sw.js":
            body = (DIST / path.lstrip("/")).read_bytes()
            first[path] = len(body if path.endswith("woff2") else gzip.compress(body, 9)) / 1024
    scripts, styles, fonts = (
        sum(size for path, size in first.items() if path.endswith(kind)) for kind in ("js", "css", "woff2")
    )
    needed = scripts + styles  # text is shown in another font until its own is here
    said = "" if needed < GOAL_KIB else f"  (goal {GOAL_KIB}: missed)"
    print(
        f"first load, until one can type: {needed:.0f} KiB{said}: scripts {scripts:.0f}, styles {styles:.0f};"
        f" with fonts, {fonts:.0f}: {needed + fonts:.0f}"
    )
    for path, size in sorted(first.items(), key=lambda item: -item[1]):
        print(f"    {size:6.1f}  {path.rsplit('/', 1)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=150)
    parser.add_argument("--size", type=int, default=1_000_000)
    options = parser.parse_args()
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not chromium or not (DIST / "index.html").is_file():
        raise SystemExit("Chromium and the built page are needed: run `make page`")
    data = Path(tempfile.mkdtemp(prefix="collab-page-"))
    server = Server(data, messages_per_second=0, bytes_per_second=0, cpu_share=0)
    server.start()
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
            )
            weigh(browser.new_page(), f"{server.url}/d/empty")
            text = markdown(options.size)
            fill(server, "long", text)
            other = browser.new_context().new_page()
            other.goto(f"{server.url}/d/long")
            other.locator(".status[data-kind=saved]").wait_for(timeout=60_000)
            other.locator(".cm-line").first.click()
            page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
            page.goto(f"{server.url}/d/long")
            page.locator(".status[data-kind=saved]").wait_for(timeout=60_000)
            page.wait_for_timeout(5000)  # the rest of the parsing, which waits for a pause
            page.evaluate(MEASURE)
            for place in ("top", "middle"):
                if place == "middle":
                    page.evaluate("scrollTo(0, document.documentElement.scrollHeight / 2)")
                    page.wait_for_timeout(1500)
                    page.mouse.click(640, 400)
                else:
                    page.locator(".cm-line").nth(3).click()
                page.wait_for_timeout(3000)
                report(place, *type_keys(browser, page, options.keys))
            browser.close()
    finally:
        server.stop()
        shutil.rmtree(data)


if __name__ == "__main__":
    main()
