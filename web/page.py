"""The browser's pages: the built editor, the reference of the REST interface, their assets, and the headers
that keep them from running anything else."""

from __future__ import annotations

from pathlib import Path

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from web.auth import Public, authenticator_of

DIST = Path(__file__).parent / "editor" / "dist"

# CodeMirror adds style elements at run time, hence 'unsafe-inline' for styles only. To connect to 'self' is
# to reach the WebSocket too, for every browser that can show the page.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; font-src 'self'; "
    "img-src 'self'; connect-src 'self'; worker-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'self'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    # A link in a document must not tell the site it leads to where it was.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "private, no-cache",  # the page brings a guest's cookie
}
# Swagger UI draws its icons as data: images.
REFERENCE_HEADERS = {
    **HEADERS,
    "Content-Security-Policy": POLICY.replace("img-src 'self'", "img-src 'self' data:"),
}

router = APIRouter(include_in_schema=False, dependencies=[Public])


@router.get("/")
@router.get("/s")  # a share link, in the fragment
@router.get("/join")  # an invitation, in the fragment
@router.get("/sign-in")
@router.get("/device")
@router.get("/d/{document:path}")
async def page(request: Request) -> Response:
    response = _built("index.html", HEADERS)
    authenticator_of(request).welcome(request, response)
    return response


@router.get("/api/docs")
async def reference() -> Response:
    """Swagger UI, from here: the policy allows no script of another site."""
    return _built("reference.html", REFERENCE_HEADERS)


@router.get("/{name}")
async def root_file(name: str) -> Response:
    """Files that must stand at the root: the service worker (its scope), icons, the manifest."""
    file = DIST / name
    if file.suffix == ".html" or name.startswith(".") or not file.is_file():
        return PlainTextResponse("Not found.\n", 404)
    return FileResponse(file, headers=HEADERS)


def _built(name: str, headers: dict[str, str]) -> Response:
    file = DIST / name
    if not file.is_file():
        return PlainTextResponse("The page is not built. Run `make` in the source tree.\n", 503)
    return FileResponse(file, headers=headers)


class Assets(StaticFiles):
    """Files whose names carry a hash of their content: kept by browsers for ever."""

    def __init__(self) -> None:
        super().__init__(directory=DIST / "assets", check_dir=False)

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response
