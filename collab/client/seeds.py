"""What a document begins with, so that however many devices begin it, it begins once.

A Yjs replica tells texts apart by who wrote them, not by what they say: two devices that each insert the
same template make it twice. A seed is written by a client whose id follows from its content, so equal
seeds are the same characters wherever they are made.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from pycrdt import Doc, Text

from collab.client.text import clean
from collab.document import EMPTY_UPDATE, TEXT_ROOT
from collab.update import MAX_CLIENT


def seed(text: str, root: str = TEXT_ROOT) -> bytes:
    """The Yjs update that makes ``text``: byte for byte the same for the same text and root, everywhere.

    For a template with other roots, make one update, once, and give every device its bytes. Raises
    ValueError for what is no text.
    """
    text = clean(text)
    if not text:
        return EMPTY_UPDATE
    digest = sha256(f"collab seed 1\0{root}\0{text}".encode()).digest()
    doc: Doc[Any] = Doc(client_id=int.from_bytes(digest[:8]) % MAX_CLIENT)
    doc.get(root, type=Text).insert(0, text)
    return doc.get_update()
