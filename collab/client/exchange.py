"""One document's half of the conversation with the server, without I/O.

The framing is Hocuspocus' (docs/protocol.md): several documents on one socket, and one SyncStatus for
each update, in order, after it is on the server's disk. What is sent is what the server lacks: the edits
that it has not acknowledged, from their own bytes, less the structs that its state vector names. Only a
server that lacks more than those (it was restored from a backup) is sent everything it lacks.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable

from collab import hocuspocus, protocol
from collab.client.document import Document, Line
from collab.document import EMPTY_UPDATE, lacking, merge
from collab.errors import (
    CollabError,
    CorruptLog,
    DocumentDeleted,
    Forbidden,
    InvalidName,
    NotAuthenticated,
    Overloaded,
    ProtocolError,
    RateLimited,
    StorageUnavailable,
    TooLarge,
    UpdateError,
)
from collab.update import check, encode_state_vector, join, split, state_vector

WINDOW = 128 << 10  # bytes on their way and not acknowledged; more would only wait in the network
CHUNK = 64 << 10  # of one frame, so that an upload shows signs of life
BATCH_COUNT, BATCH_BYTES = 5000, 1 << 20  # of the edits that are merged into one upload
GAPS = 3  # times that the server may send what builds on something that is not here
# Of the provider, as 4.x tells it: on trouble, close the socket; I come back later.
VERSION = hocuspocus.CLIENT

REFUSALS: dict[str, Callable[[str], CollabError]] = {
    kind.code: kind
    for kind in (
        NotAuthenticated,
        Forbidden,
        InvalidName,
        DocumentDeleted,
        CorruptLog,
        RateLimited,
        Overloaded,
        StorageUnavailable,
    )
}


class Exchange:
    """``send`` takes a message of the document and never waits; ``ask_token`` is called when the server
    wants a token anew; ``denied`` when it lets us not in."""

    def __init__(
        self,
        document: Document,
        send: Callable[[bytes], None],
        ask_token: Callable[[], None],
        denied: Callable[[CollabError], None],
    ) -> None:
        self.document = document
        self.unacknowledged = 0  # bytes on their way
        self.barred = False  # the server closed the socket for what it was sent: do not send it again
        self._send = send
        self._ask_token = ask_token
        self._denied = denied
        self._started = False  # what comes before is the answer to another, which had the name before us
        self._admitted = False
        self._asked = False  # the server has said what it has: edits may go out
        self._server: dict[int, int] = {}  # what it had when it asked
        self._offline = 0  # edits up to this number were made before that
        self._sent = 0  # of the document's unsaved edits, those before this number are on their way
        self._parts: deque[tuple[bytes, int]] = deque()  # cut to frames; and what is acknowledged by each
        self._under_way: deque[tuple[int, int]] = deque()  # bytes, the edits acknowledged by it
        self._gaps = 0

    def start(self, token: str) -> None:
        """Ask to be let in, and for what the document lacks; or, when we are in, to stay under this token."""
        if self.barred or self.document.failed:
            return
        if self._admitted:
            self.renew(token)
            return
        self._started = True
        self.document.set_line(Line.CONNECTING)
        self._send(hocuspocus.encode_token(token, VERSION))
        self._step1()

    def renew(self, token: str) -> None:
        """Stay, under another token."""
        self._send(hocuspocus.encode_token(token, VERSION))

    def _step1(self) -> None:
        self._send(protocol.encode_step1(encode_state_vector(self.document.clocks)))

    def receive(self, frame: hocuspocus.Frame, now: float) -> None:
        """Take one frame. Raises ProtocolError for what no server sends: that is the line's end."""
        if self.document.failed:
            return
        if frame.kind == hocuspocus.AUTH:
            self._authenticate(frame.body, now)
        elif not self._admitted:
            return  # of a session that has ended, or of one that is not ours
        elif frame.kind == hocuspocus.SYNC_STATUS:
            self._settle(frame.body)
        elif frame.kind == hocuspocus.AUTHORS:
            self.document.told_authors(hocuspocus.decode_authors(frame.body))
        elif frame.kind in hocuspocus.ROOM_TYPES:
            for message in protocol.decode(frame.body):
                if isinstance(message, protocol.SyncStep1):
                    self._answer(message.state_vector)
                elif isinstance(message, protocol.SyncStep2 | protocol.Update):
                    self._take(message.update)
                    if isinstance(message, protocol.SyncStep2) and self._admitted:
                        self.document.set_line(Line.LIVE)
                elif isinstance(message, protocol.AwarenessUpdate):
                    self.document.presence.receive(message.data, now)

    def _authenticate(self, body: bytes, now: float) -> None:
        kind, at = protocol.read_var_uint(body, 1)
        if kind == hocuspocus.TOKEN:
            self._ask_token()
            return
        if not self._started:
            return
        raw, at = protocol.read_var_bytes(body, at)
        said = raw.decode(errors="replace")
        if kind == hocuspocus.DENIED:
            self.lost()
            code, _, reason = said.partition(": ")
            self._denied(refusal(code, reason or said))
        elif kind == hocuspocus.AUTHENTICATED and not self._admitted:
            epoch = protocol.read_var_uint(body, at)[0] if at < len(body) else None
            try:
                self.document.told(said != "readonly", epoch)
            except CollabError as error:
                self._send(hocuspocus.encode_close(error.code))
                self._denied(error)
                return
            self._admitted = True
            self.document.presence.connected(self._send, now)

    # --- what comes

    def _take(self, update: bytes) -> None:
        try:
            self.document.take(update)
        except UpdateError:
            self._gaps += 1
            if self._gaps > GAPS:
                raise
            self._step1()
        else:
            self._gaps = 0

    # --- what goes

    def _answer(self, raw: bytes) -> None:
        """The server says what it has; once, and again whenever it misses something."""
        self._server = state_vector(raw)
        self._asked = True
        self._offline = self.document.made
        self._sent = self.document.acknowledged
        self._parts.clear()
        self._heal()
        self.pump()

    def _heal(self) -> None:
        """Send what the server should have and does not, beyond the edits that are to be sent anyway."""
        document = self.document
        if document.writes is False:
            return
        theirs = dict(self._server)
        unsaved = document.unsent()
        checked = check(unsaved, theirs)
        if checked.missing is None:
            for client, clock in checked.clocks.items():
                theirs[client] = max(clock, theirs.get(client, 0))
        if any(clock > theirs.get(client, 0) for client, clock in document.clocks.items()):
            self._cut(lacking(document.state(), self._server), 0)

    def pump(self) -> None:
        """Send edits while there is room for them on the way."""
        document = self.document
        while self._asked and self.unacknowledged < WINDOW:
            if document.writes is False and document.unsaved and document.refusal is None:
                document.refuse_edits()
            if document.failed or document.writes is False:
                return
            if not self._parts and not self._gather():
                return
            part, number = self._parts.popleft()
            offline = number <= self._offline
            self._send(protocol.encode_step2(part) if offline else protocol.encode_update(part))
            self._under_way.append((len(part), number))
            self.unacknowledged += len(part)

    def _gather(self) -> bool:
        """Cut the next edits to frames; whether there are any."""
        batch: list[bytes] = []
        size = 0
        for one in itertools.dropwhile(lambda one: one.number <= self._sent, self.document.unsaved):
            if batch and (len(batch) >= BATCH_COUNT or size + len(one.data) > BATCH_BYTES):
                break
            if batch and self._sent <= self._offline < one.number:
                break  # what was typed since is no offline edit
            batch.append(one.data)
            size += len(one.data)
            self._sent = one.number
        if not batch:
            return False
        data = merge(batch)
        if self._sent <= self._offline:
            try:
                data = lacking(data, self._server)
            except CorruptLog:
                pass  # pycrdt cannot cut it; whole it is as good, and only longer
        self._cut(data, self._sent)
        return True

    def _cut(self, data: bytes, number: int) -> None:
        parts = split(join(data), CHUNK) or [EMPTY_UPDATE]
        self._parts += [(part, 0) for part in parts[:-1]]
        self._parts.append((parts[-1], number))

    def _settle(self, body: bytes) -> None:
        """The oldest of what is on its way has been committed, or refused."""
        status, _ = protocol.read_var_uint(body, 1)
        if not self._under_way:
            raise ProtocolError("the server acknowledges what was not sent")
        size, number = self._under_way.popleft()
        self.unacknowledged -= size
        document = self.document
        if status == 1:
            if number and document.refusal is None:
                document.acknowledge(number)
            self.pump()
            return
        self._asked = False  # nothing later makes sense to the server, either
        if document.writes is False:
            document.refuse_edits()
        else:
            document.refuse(TooLarge(f"the server takes no more into {document.name!r}: it is full"))

    def bar(self, error: CollabError) -> None:
        """Have no more to do with the server, until told otherwise."""
        self.barred = True
        self.document.refuse(error)

    def lost(self) -> None:
        """There is no line any more, or no place on it."""
        self._started = self._admitted = self._asked = False
        self._parts.clear()
        self._under_way.clear()
        self.unacknowledged = 0
        self.document.set_line(Line.OFFLINE)
        self.document.presence.lost()


def refusal(code: str, reason: str) -> CollabError:
    """The error that a server's ``code: reason`` stands for."""
    return REFUSALS[code](reason) if code in REFUSALS else CollabError(f"{code}: {reason}")
