"""A document on a server, asked over HTTP, for the commands of history."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from email.message import Message
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import quote, urlencode
from urllib.request import HTTPHandler, HTTPRedirectHandler, HTTPSHandler, Request, build_opener

from collab.errors import CollabError

TIMEOUT = 100.0  # seconds of silence; the first question on a long history may take a minute
PATIENCE = 120.0  # seconds for which a busy server is asked again
PAUSES = 1.0, 10.0  # seconds between two tries, at least and at most; within them as the server says
BODY_LIMIT = 64 << 10  # bytes read of a refusal
PIECE = 64 << 10


class Refused(CollabError):
    """The server said no, and why."""

    def __init__(self, message: str, code: str, problem: dict[str, Any]) -> None:
        super().__init__(message)
        self.code = code
        self.problem = problem


class Unreachable(CollabError):
    """There is no server there, or its answer broke off."""


class _Stay(HTTPRedirectHandler):
    """A redirect is an answer like another: followed, it would take the token to whoever it names."""

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: Message, newurl: str
    ) -> None:
        return None


class _Heard:
    """A connection that hears what the server says when it has closed before it had everything: that is
    why it has."""

    gone = False

    def send(self, data: Any) -> None:
        if self.gone:
            return
        try:
            super().send(data)  # type: ignore[misc]
        except (BrokenPipeError, ConnectionResetError):
            self.gone = True


class _Connection(_Heard, HTTPConnection): ...


class _SecureConnection(_Heard, HTTPSConnection): ...


class _Handler(HTTPHandler):
    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_Connection, req)


class _SecureHandler(HTTPSHandler):
    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(_SecureConnection, req)


class Remote:
    """One document of one server; without a name only good to import. What it returns are bodies of the API.

    All methods raise Refused and Unreachable.
    """

    def __init__(self, server: str, document: str | None, token: str) -> None:
        self.document = document or ""
        self._server = server.rstrip("/")
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._opener = build_opener(_Stay, _Handler, _SecureHandler)

    def close(self) -> None:
        """There is nothing to let go of between two questions."""

    def versions(self, asked: dict[str, str]) -> bytes:
        return self._ask("versions", asked)

    def content(self, at: str, format: str) -> bytes:
        return self._ask("content", {"at": at, "format": format})

    def diff(self, old: str, new: str, format: str, granularity: str, cursor: str) -> bytes:
        asked = {"from": old, "to": new, "format": format, "granularity": granularity, "cursor": cursor}
        return self._ask("diff", asked)

    def blame(self, at: str, start: int) -> bytes:
        return self._ask("blame", {"at": at, "from": str(start)})

    def activity(self, bucket: str) -> bytes:
        return self._ask("activity", {"bucket": bucket})

    def restore(self, ref: str, expected_head: int | None) -> bytes:
        body = json.dumps({"from": ref, "expected_head": expected_head}).encode()
        headers = {"Content-Type": "application/json"}
        with self._open(Request(f"{self._api()}/restore", body, headers)) as answer:
            return self._read(answer)

    def export(self) -> Iterator[bytes]:
        with self._open(Request(f"{self._api()}/export")) as answer:
            while piece := self._read(answer, PIECE):
                yield piece

    def download(self, at: str, format: str) -> bytes:
        return self._ask("download", {"at": at, "format": format})

    def take(self, archive: Iterable[bytes]) -> bytes:
        """Send an archive; what the server says of the new document."""
        query = f"?{urlencode({'document': self.document})}" if self.document else ""
        headers = {"Content-Type": "application/jsonl"}
        request = Request(f"{self._server}/api/import{query}", archive, headers, method="POST")
        with self._open(request) as answer:
            return self._read(answer)

    def _api(self) -> str:
        return f"{self._server}/api/documents/{quote(self.document, safe='')}"

    def _ask(self, what: str, asked: dict[str, str]) -> bytes:
        url = f"{self._api()}/{what}?{urlencode(asked)}"
        give_up = time.monotonic() + PATIENCE
        while True:
            try:
                with self._open(Request(url)) as answer:
                    return self._read(answer)
            except _Busy as busy:
                if time.monotonic() + busy.pause > give_up:
                    raise
                time.sleep(busy.pause)

    def _open(self, request: Request) -> HTTPResponse:
        for name, value in self._headers.items():
            request.add_unredirected_header(name, value)
        try:
            answer: HTTPResponse = self._opener.open(request, timeout=TIMEOUT)
        except HTTPError as error:
            with error:
                raise self._refusal(error) from None
        except (OSError, HTTPException, ValueError) as error:
            why = getattr(error, "reason", error)
            raise Unreachable(f"{self._server} cannot be reached: {why}") from None
        return answer

    def _read(self, answer: HTTPResponse, size: int | None = None) -> bytes:
        try:
            return answer.read(size)
        except (OSError, HTTPException) as error:
            raise Unreachable(f"the answer of {self._server} broke off ({error!r}); ask again") from None

    def _refusal(self, error: HTTPError) -> CollabError:
        if 300 <= error.code < 400:
            return Unreachable(f"{self._server} has moved to {error.headers['Location']}; ask there")
        try:
            problem = json.loads(error.read(BODY_LIMIT))
            code, said = str(problem["code"]), str(problem["detail"])
        except (ValueError, LookupError, TypeError, OSError, HTTPException):
            said = f"{self._server} answers {error.code} {error.reason}; is it a Collab server?"
            return Refused(said, "http-error", {})
        if error.code == 401:
            said += "; bring a token in COLLAB_TOKEN or with --token-file"
        if error.code in (429, 503):
            return _Busy(said, code, problem, error.headers.get("Retry-After", ""))
        return Refused(said, code, problem)


class _Busy(Refused):
    """Later it may be otherwise."""

    def __init__(self, message: str, code: str, problem: dict[str, Any], after: str) -> None:
        super().__init__(message, code, problem)
        least, most = PAUSES
        self.pause = min(most, max(least, float(after))) if after.isdigit() else least
