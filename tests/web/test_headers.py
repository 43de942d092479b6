"""Every answer says what a browser may do with it, also those that tell of a failure."""

from __future__ import annotations

import httpx
import pytest
from fastapi import FastAPI
from serverprocess import Server
from starlette.responses import Response

from web import problem
from web.headers import NOTHING, Guarded


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/documents", 200),
        ("GET", "/api/me", 200),
        ("GET", "/api/openapi.json", 200),
        ("GET", "/healthz", 200),
        ("GET", "/metrics", 200),
        ("GET", "/api/documents/nowhere", 404),
        ("GET", "/api/nowhere", 404),
        ("GET", "/nowhere", 404),
        ("GET", "/index.html", 404),
        ("GET", "/reference.html", 404),
        ("GET", "/assets/nowhere.js", 404),
        ("GET", "/api/documents/%FF", 400),
        ("POST", "/api/documents", 422),
        ("PUT", "/api/documents", 405),
        ("POST", "/api/session", 422),
        ("GET", "/api/accounts", 401),
    ],
)
def test_an_answer_of_the_api_may_do_nothing_in_a_browser(
    shared_server: Server, method: str, path: str, status: int
) -> None:
    answer = httpx.request(method, f"{shared_server.url}{path}")
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == NOTHING
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


def test_a_foreign_page_s_request_is_refused_with_the_same_headers(shared_server: Server) -> None:
    headers = {"origin": "https://example.org"}
    answer = httpx.post(f"{shared_server.url}/api/documents", json={}, headers=headers)
    assert answer.status_code == 403
    assert answer.headers["content-security-policy"] == NOTHING


@pytest.mark.anyio
async def test_a_route_that_fails_and_one_with_a_policy_of_its_own() -> None:
    app = FastAPI()
    problem.install(app)

    @app.get("/fails")
    async def fails() -> None:
        raise RuntimeError

    @app.get("/own")
    async def own() -> Response:
        return Response(headers={"Content-Security-Policy": "default-src 'self'"})

    transport = httpx.ASGITransport(Guarded(app), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        failed = await client.get("/fails")
        assert failed.status_code == 500
        assert failed.headers.get_list("content-security-policy") == [NOTHING]
        assert failed.headers["x-content-type-options"] == "nosniff"
        kept = await client.get("/own")
        assert kept.headers.get_list("content-security-policy") == ["default-src 'self'"]
        assert kept.headers["x-content-type-options"] == "nosniff"
