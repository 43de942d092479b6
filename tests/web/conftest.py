"""A real server in a process of its own for every test that asks, and stock clients in Node or Chromium."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pages import DIST, PATIENCE_MS, SECRET, Person
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from serverprocess import Server
from stockclients import CHROMIUM_FLAGS, Host, NodeHost, PageHost, bundle, install


@pytest.fixture
def server(make_server: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    """A server with the settings that the test is parametrized with, or the default ones."""
    return make_server(**getattr(request, "param", {}))


@pytest.fixture(scope="module")
def closed_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One for all, on which nobody may do anything until they are let in."""
    server = Server(tmp_path_factory.mktemp("closed"), secret=SECRET)
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> str:
    install()
    return bundle(tmp_path_factory.mktemp("page") / "page.js")


@pytest.fixture(scope="module")
def browser(require: Callable[[object, str], None]) -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    require(chromium, "Chromium is needed")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def make_host(script: str, browser: Browser) -> Iterator[Callable[[str, Server], Host]]:
    """Make hosts, of runtime "node" or "chromium"; all end with the module."""
    made: list[Host] = []

    def make(runtime: str, server: Server) -> Host:
        host: Host = NodeHost() if runtime == "node" else PageHost(browser, script, server.url)
        made.append(host)
        return host

    yield make
    for host in made:
        host.kill()
        # Nothing a client throws may go unseen: that is how stock clients tell of a frame they cannot read.
        assert not getattr(host, "errors", [])


@pytest.fixture(params=["node", "chromium"])
def runtime(request: pytest.FixtureRequest) -> str:
    value: str = request.param
    return value


@pytest.fixture
def host(runtime: str, server: Server, make_host: Callable[[str, Server], Host]) -> Iterator[Host]:
    host = make_host(runtime, server)
    yield host
    host.kill()


@pytest.fixture
def arrive(
    browser: Browser, server: Server, require: Callable[[object, str], None]
) -> Iterator[Callable[..., Person]]:
    """Someone arrives. At the end, nobody's console may have complained, least of all of the policy."""
    require((DIST / "index.html").is_file(), "the page is not built: run `make`")
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def arrive(name: str, **options: Any) -> Person:
        context = browser.new_context(**options)
        contexts.append(context)
        return Person(context, server.url, name, complaints)

    yield arrive
    for context in contexts:
        context.close()
    assert complaints == []
