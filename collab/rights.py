"""What somebody may do with a document: four roles, each including the ones below it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Self


class Role(IntEnum):
    """A role on one document. Stored as a number: never renumber. No role at all is None."""

    VIEWER = 1  # reads the document and its presence, and is present
    COMMENTER = 2  # the same until there are comments
    EDITOR = 3  # changes the text and the title
    OWNER = 4  # shares it, deletes it, brings it back

    @property
    def label(self) -> str:
        return self.name.lower()

    @classmethod
    def of(cls, label: object) -> Self:
        """The role called ``label``. Raises ValueError naming those there are."""
        for role in cls:
            if role.label == label:
                return role
        raise ValueError(f"a role is one of {', '.join(role.label for role in cls)}, not {label!r}")


def sees_history(role: Role | None, given: bool | None) -> bool:
    """Whether ``role`` comes with the right to read history, which shows deleted text: owners have it,
    editors unless it is denied, others when it is ``given``; None leaves it to the role."""
    if role is None:
        return False
    return role >= Role.OWNER or (role >= Role.EDITOR if given is None else given)


def higher(one: Role | None, other: Role | None) -> Role | None:
    """The role that allows more."""
    return max((role for role in (one, other) if role is not None), default=None)


def matches(pattern: str, name: str) -> bool:
    """Whether a document name is meant by ``pattern``: a name, or the beginning of one and a ``*``."""
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def granted(rights: Mapping[str, Role], name: str) -> Role | None:
    """The highest role that patterns give on document ``name``."""
    return max((role for pattern, role in rights.items() if matches(pattern, name)), default=None)
