"""Errors over HTTP: application/problem+json (RFC 9457) with a stable ``code``."""

from __future__ import annotations

import logging
import math
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse

from collab.errors import CollabError, NotAuthenticated, Overloaded, RateLimited

_log = logging.getLogger(__name__)


class Problem(BaseModel):
    """What went wrong, whose fault it is (the status) and what to do (the detail)."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str


def problem(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **more: Any
) -> JSONResponse:
    """``more`` are members of their own, beside those that every problem has."""
    body = Problem(title=HTTPStatus(status).phrase, status=status, code=code, detail=detail)
    return JSONResponse(
        {**body.model_dump(), **more},
        status_code=status,
        headers=headers,
        media_type="application/problem+json",
    )


def described(error: CollabError) -> Problem:
    """The problem that ``error`` is, for where there is no status line to put it under."""
    title = HTTPStatus(error.status).phrase
    return Problem(title=title, status=error.status, code=error.code, detail=str(error))


def responses(*errors: type[CollabError]) -> dict[int | str, dict[str, Any]]:
    """How a route's errors read in the OpenAPI document."""
    by_status: dict[int, list[str]] = {}
    for error in errors:
        by_status.setdefault(error.status, []).append(f"`{error.code}`")
    return {
        status: {
            "description": " or ".join(codes),
            "content": {"application/problem+json": {"schema": Problem.model_json_schema()}},
        }
        for status, codes in by_status.items()
    }


def install(app: FastAPI) -> None:
    """Answer every error of ``app`` with a problem."""

    @app.exception_handler(CollabError)
    async def known(_: Request, error: CollabError) -> JSONResponse:
        if error.status >= 500 and not isinstance(error, Overloaded):  # anybody could fill the log with those
            _log.error("%s: %s", error.code, error)
        headers = {"Retry-After": "1"} if error.status == 503 else {}
        if isinstance(error, RateLimited):
            headers["Retry-After"] = str(max(1, math.ceil(error.retry_after)))
        if isinstance(error, NotAuthenticated):
            headers["WWW-Authenticate"] = "Bearer"
        return problem(error.status, error.code, str(error), headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        parts = [f"{'.'.join(str(at) for at in e['loc'])}: {e['msg']}" for e in error.errors()]
        return problem(422, "invalid-request", "; ".join(parts))

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        codes = {404: "not-found", 405: "method-not-allowed", 413: "too-large"}
        code = codes.get(error.status_code, "http-error")
        return problem(error.status_code, code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(Exception)
    async def unknown(_: Request, error: Exception) -> JSONResponse:
        return problem(500, "internal", "the server failed on this request; it has been logged")
