"""The error tree: whose fault it was and what happens next.

Every error carries what each edge needs to answer with: ``status`` and ``code`` for HTTP (the code
is stable and machine-readable), ``close_code`` for WebSockets. Close codes 4400-4499 tell a client
to stop; every other code tells it to come back later with its edits (docs/protocol.md).
"""


class CollabError(Exception):
    """Base of every error that Collab raises on purpose. ``str(error)`` says what to do about it."""

    status = 500
    code = "internal"
    close_code = 1011


class ProtocolError(CollabError):
    """The peer sent bytes that no honest client sends. Its socket is closed; nobody else notices."""

    status = 400
    code = "protocol-error"
    close_code = 4400


class UpdateError(ProtocolError):
    """An update that the gate refuses: malformed, or made to crash or corrupt a replica."""

    status = 422
    code = "bad-update"


class InvalidName(ProtocolError):
    """A document name that is not UTF-8, is empty, or is longer than 255 bytes."""

    code = "invalid-name"


class InvalidRequest(CollabError):
    """A request that cannot be understood; the message says what is expected."""

    status = 422
    code = "invalid-request"
    close_code = 4400


class TooLarge(CollabError):
    """A message or document beyond a configured limit."""

    status = 413
    code = "too-large"
    close_code = 4413


class NotAuthenticated(CollabError):
    """Nobody knows who this is: no credential where one is needed, or one that is not (any more) valid."""

    status = 401
    code = "not-authenticated"
    close_code = 4401


class Forbidden(CollabError):
    """The actor is known and may not do this."""

    status = 403
    code = "forbidden"
    close_code = 4403


class ReadOnly(Forbidden):
    """The actor may read the document, not change it. Edits made before that was known stay on the device."""

    code = "read-only"


class ClientIdInUse(CollabError):
    """An update extends a Yjs client id that another actor's live connection writes with: taking its
    clocks would make what its owner types next vanish."""

    status = 409
    code = "client-id-in-use"
    close_code = 4409


class RightsChanged(CollabError):
    """What this connection may do has changed while it was open; the client comes back and learns it."""

    status = 403
    code = "rights-changed"
    close_code = 4500


class RateLimited(CollabError):
    """More than a configured limit allows. Try again later, ``retry_after`` seconds from now."""

    status = 429
    code = "rate-limited"
    close_code = 1013

    def __init__(self, message: str, retry_after: float = 1.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class DocumentNotFound(CollabError):
    """No document of that name has been made."""

    status = 404
    code = "document-not-found"
    close_code = 4404


class DocumentDeleted(CollabError):
    """The document was deleted. It is not made again by a client that comes back."""

    status = 410
    code = "document-deleted"
    close_code = 4404


class EpochChanged(CollabError):
    """The document was reset: the replica is a copy of another history. To merge the two would bring back,
    or double, what the reset has removed."""

    status = 409
    code = "epoch-changed"
    close_code = 4410


class DocumentExists(CollabError):
    """A document of that name exists already, perhaps deleted."""

    status = 409
    code = "document-exists"
    close_code = 4400


class HeadMoved(CollabError):
    """The document is not any more as the request expects it to be: somebody has gone on."""

    status = 412
    code = "head-moved"
    close_code = 4400

    def __init__(self, head: int, expected: int) -> None:
        super().__init__(head, expected)
        self.head, self.expected = head, expected

    def __str__(self) -> str:
        return f"the document is at {self.head}, not at {self.expected} any more"


class Resync(CollabError):
    """This session cannot follow any more; the client reconnects and gets just what it lacks."""

    status = 503
    code = "resync"
    close_code = 4500


class Overloaded(CollabError):
    """A bound was reached: the peer reads too slowly, or the process has no room. Try again later."""

    status = 503
    code = "overloaded"
    close_code = 1013


class StorageUnavailable(CollabError):
    """The log cannot be read or written now. Nothing was acknowledged; clients keep their edits."""

    status = 503
    code = "storage-unavailable"
    close_code = 1013


class ShuttingDown(CollabError):
    """The server is about to stop; clients come back to the next one."""

    status = 503
    code = "shutting-down"
    close_code = 1012


class CorruptLog(CollabError):
    """Stored bytes do not match their checksum, or do not make a document. Never served, never hidden."""

    code = "corrupt-log"
    close_code = 1011


class RoomFailed(CollabError):
    """A fault of ours in one room. The room ends; the next join loads it anew from the log."""

    code = "room-failed"
    close_code = 1011
