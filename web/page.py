"""The browser page: the built editor, its assets, and the headers that keep it from running anything else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from web.auth import Public, authenticator_of

DIST = Path(__file__).parent / "editor" / "dist"

# CodeMirror adds style elements at run time, hence 'unsafe-inline' for styles only.
POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self' ws: wss:; "
    "img-src 'self' data: blob:; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; "
    "object-src 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}

router = APIRouter(include_in_schema=False, dependencies=[Public])


@router.get("/")
@router.get("/s")  # a share link, in the fragment
@router.get("/join")  # an invitation, in the fragment
@router.get("/sign-in")
@router.get("/d/{document:path}")
async def page(request: Request) -> Response:
    index = DIST / "index.html"
    if not index.is_file():
        return PlainTextResponse("The page is not built. Run `make` in the source tree.\n", 503)
    response = FileResponse(index, headers={**HEADERS, "Cache-Control": "no-cache"})
    authenticator_of(request).welcome(request, response)
    return response


@router.get("/{name}")
async def root_file(name: str) -> Response:
    """Files that must stand at the root: the service worker (its scope), icons, the manifest."""
    file = DIST / name
    if name == "index.html" or name.startswith(".") or not file.is_file():
        return PlainTextResponse("Not found.\n", 404)
    return FileResponse(file, headers={**HEADERS, "Cache-Control": "no-cache"})


class Assets(StaticFiles):
    """Files whose names carry a hash of their content: kept by browsers for ever."""

    def __init__(self) -> None:
        super().__init__(directory=DIST / "assets", check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response
