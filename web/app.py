"""The application: the only place that knows all layers and puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.gzip import DEFAULT_EXCLUDED_CONTENT_TYPES, GZipMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

from collab.hub import Hub, Limits
from storage.access import Access
from storage.accounts import Accounts
from storage.answers import Answers
from storage.database import Database
from storage.documents import Documents
from storage.histories import Histories
from storage.images import Images
from storage.imports import Imports
from storage.labels import Labels
from storage.log import UpdateLog
from storage.migrations import migrate
from storage.search import Search
from web import (
    accounts,
    archive,
    copies,
    documents,
    export,
    history,
    images,
    metrics,
    page,
    problem,
    sharing,
    updates,
    websocket,
)
from web.auth import Authenticator
from web.connections import Connections
from web.export import Exporter
from web.headers import Guarded
from web.historian import Historian
from web.indexer import Indexer
from web.passwords import Passwords
from web.settings import Settings, secret_of
from web.signin import SignIn
from web.workshop import Workshop


class Collab:
    """The ASGI application over a running hub: HTTP to FastAPI, WebSockets to rooms.

    Routes see the path as it was sent. Decoded first, a %2F inside a name could not be told from a
    slash, and bytes that are not UTF-8 would pass as U+FFFD; names are decoded in ``parse_name``.
    WebSockets need ``web.transport`` (see ``web.server``).
    """

    def __init__(
        self,
        hub: Hub,
        authenticator: Authenticator,
        connections: Connections,
        documents: Documents,
        http: ASGIApp,
        public_url: str,
    ) -> None:
        self.hub = hub
        self._https = public_url.startswith("https:")  # by a proxy, whether or not it says so
        self._authenticator = authenticator
        self._connections = connections
        self._documents = documents
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["path"] = scope["raw_path"].decode("ascii", "replace")
        if self._https:
            scope["scheme"] = "wss" if scope["type"] == "websocket" else "https"
        if scope["type"] == "websocket":
            await websocket.connect(
                self.hub, self._authenticator, self._connections, self._documents, scope, receive, send
            )
        else:
            await self._http(scope, receive, send)


def create_http(
    settings: Settings,
    hub: Hub,
    log: UpdateLog,
    database: Database,
    access: Access,
    authenticator: Authenticator,
    connections: Connections,
    sign_in: SignIn,
    historian: Historian,
    indexer: Indexer,
    exporter: Exporter,
) -> FastAPI:
    """The documents API, the page, and what operators ask."""
    app = FastAPI(
        title="Collab",
        version=version("collab-server"),
        description="Documents that many people edit at once. Live editing is at `/ws/{document}`.",
        docs_url=None,  # web.page has it
        redoc_url=None,
        openapi_url="/api/openapi.json",
    )
    app.state.hub = hub
    app.state.log = log
    app.state.documents = Documents(database)
    app.state.answers = Answers(database)
    app.state.labels = Labels(database)
    app.state.historian = historian
    app.state.indexer = indexer
    app.state.exporter = exporter
    app.state.imports = Imports(database)
    app.state.importing = asyncio.Lock()
    app.state.images = Images(database)
    app.state.uploads = images.uploads(hub.stats.limited)
    app.state.settings = settings
    app.state.access = access
    app.state.authenticator = authenticator
    app.state.connections = connections
    app.state.sign_in = sign_in
    app.state.registry = metrics.registry(hub)
    problem.install(app)
    # What is compressed already would only take time.
    packed = (*DEFAULT_EXCLUDED_CONTENT_TYPES, *(export.MEDIA[kind] for kind in ("zip", "docx", "pdf")))
    app.add_middleware(GZipMiddleware, minimum_size=1024, exclude_content_types=packed)
    app.include_router(documents.router)
    app.include_router(copies.router)
    app.include_router(history.router)
    app.include_router(updates.router)
    app.include_router(archive.router)
    app.include_router(images.router)
    app.include_router(export.router)
    app.include_router(sharing.router)
    app.include_router(accounts.router)
    if settings.oidc_issuer:
        from web import oidc  # needs the extra of that name

        app.state.provider = oidc.Provider(settings, secret_of(settings))
        app.include_router(oidc.router)
    app.include_router(metrics.router)
    app.mount("/assets", page.Assets())
    app.include_router(page.router)
    return app


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Collab]:
    """The application with its database migrated, claimed and open, and its hub at work.

    Raises DatabaseTooNew, DatabaseInUse, StorageUnavailable at the start; FatalStorageError, in an
    ExceptionGroup, when the database fails for good while it runs.
    """
    await migrate(settings.url)
    database, workshop = await Database.open(settings.url), Workshop()
    try:
        limits = Limits(
            settings.idle_seconds,
            settings.memory_bytes,
            settings.commit_patience,
            settings.document_bytes,
            settings.awareness_bytes,
        )
        log = UpdateLog(database)
        hub, access = Hub(log, limits, workshop.run), Access(database)
        historian = Historian(settings.url, Histories(database), settings.history_bytes, hub.stats.limited)
        indexer, exporter = Indexer(log, Search(database)), Exporter(hub.stats.limited)
        hub.changed = indexer.stir
        secret, accounts_store = secret_of(settings), Accounts(database)
        authenticator = Authenticator(settings, secret, access, accounts_store)
        connections = Connections(authenticator, hub, settings)
        hub.created = connections.changed  # who made it owns it; others were let in while nobody did
        sign_in = SignIn(
            accounts_store,
            Passwords(hub.stats.limited),
            secret,
            settings,
            hub.stats.limited,
            connections.dismiss,
        )
        http = create_http(
            settings,
            hub,
            log,
            database,
            access,
            authenticator,
            connections,
            sign_in,
            historian,
            indexer,
            exporter,
        )
        # Also when the storage has failed: the process is to end, and it waits for its workers.
        with closing(historian), closing(indexer), closing(exporter):
            async with asyncio.TaskGroup() as tasks:
                ready = asyncio.Event()
                work = [
                    tasks.create_task(hub.run(ready)),
                    tasks.create_task(connections.run()),
                    tasks.create_task(historian.run()),
                    tasks.create_task(indexer.run()),
                ]
                await ready.wait()
                yield Collab(
                    hub, authenticator, connections, Documents(database), Guarded(http), settings.public_url
                )
                for task in work:
                    task.cancel()
    finally:
        workshop.close()
        await database.close()
