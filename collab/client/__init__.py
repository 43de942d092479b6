"""The Python client: documents that are edited without a network, and meet when there is one.

``Client`` is for asyncio; ``collab.client.blocking`` for scripts and notebooks. docs/client.md shows both.
"""

from collab.client.client import Client
from collab.client.document import Author, Change, Document, DocumentClosed, Line, Status
from collab.client.presence import Presence
from collab.client.replica import ReplicaFailed, ReplicaInUse
from collab.client.seeds import seed
from collab.client.text import Edit

__all__ = [
    "Author",
    "Change",
    "Client",
    "Document",
    "DocumentClosed",
    "Edit",
    "Line",
    "Presence",
    "ReplicaFailed",
    "ReplicaInUse",
    "Status",
    "seed",
]
