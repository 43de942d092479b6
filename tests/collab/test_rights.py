"""Roles, and the patterns that give them."""

from __future__ import annotations

import itertools

import pytest

from collab.rights import Role, granted, higher, matches, sees_history

ROLES = (Role.VIEWER, Role.COMMENTER, Role.EDITOR, Role.OWNER)


def test_each_role_includes_those_below_it_and_is_stored_under_its_number_for_ever() -> None:
    assert list(Role) == list(ROLES)
    assert [int(role) for role in ROLES] == [1, 2, 3, 4]
    assert [role.label for role in ROLES] == ["viewer", "commenter", "editor", "owner"]


@pytest.mark.parametrize("role", ROLES)
def test_a_role_is_found_by_its_label_only(role: Role) -> None:
    assert Role.of(role.label) is role
    for label in (role.label.upper(), f" {role.label}", int(role), role.label.encode(), [role.label]):
        with pytest.raises(ValueError, match="viewer, commenter, editor, owner"):
            Role.of(label)


@pytest.mark.parametrize("label", ["", "admin", "none", None, 0, 3, 4.0, True, {}, "ｏwner", "owner\0"])
def test_a_label_that_is_none_is_refused_by_naming_those_there_are(label: object) -> None:
    with pytest.raises(ValueError, match="viewer, commenter, editor, owner"):
        Role.of(label)


def test_the_higher_of_two_roles_allows_more_and_no_role_is_below_all() -> None:
    for one, other in itertools.product((None, *ROLES), repeat=2):
        expected = one if (one or 0) >= (other or 0) else other
        assert higher(one, other) == expected
    assert higher(None, None) is None


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("minutes", "minutes", True),
        ("minutes", "Minutes", False),
        ("minutes", "minutes/1", False),
        ("minutes", "minute", False),
        ("minutes/*", "minutes/1", True),
        ("minutes/*", "minutes/", True),
        ("minutes/*", "minutes", False),
        ("minutes/*", "minutes/../payroll", True),  # a name is no path: nothing is resolved, here or there
        ("minutes*", "minutes-secret", True),
        ("*", "anything", True),
        ("*", "*", True),
        ("", "anything", False),
        ("a*c", "abc", False),
        ("a*c", "a*c", True),
        ("a**", "a*b", True),
        ("a**", "ab", False),
        ("a?", "ab", False),
        ("[a]*", "a", False),
        (".*", "x", False),
        ("%", "x", False),
        ("%*", "x", False),
        ("_", "x", False),
        ("caf\u00e9", "cafe\u0301", False),  # names are compared as they are stored
        ("\u0130*", "i\u0307x", False),
    ],
)
def test_a_pattern_is_a_name_or_the_beginning_of_one_and_a_star(pattern: str, name: str, meant: bool) -> None:
    assert matches(pattern, name) is meant
    assert granted({pattern: Role.EDITOR}, name) is (Role.EDITOR if meant else None)


def test_the_highest_of_all_patterns_that_match_counts_whatever_their_order() -> None:
    rights = {"*": Role.VIEWER, "minutes/*": Role.OWNER, "minutes/1": Role.COMMENTER, "other": Role.EDITOR}
    for order in itertools.permutations(rights.items()):
        assert granted(dict(order), "minutes/1") is Role.OWNER
        assert granted(dict(order), "other") is Role.EDITOR
        assert granted(dict(order), "elsewhere") is Role.VIEWER


def test_no_pattern_gives_no_role() -> None:
    assert granted({}, "minutes") is None
    assert granted({"": Role.OWNER}, "minutes") is None


@pytest.mark.parametrize(
    ("role", "by_role", "denied", "given"),
    [
        (None, False, False, False),
        (Role.VIEWER, False, False, True),
        (Role.COMMENTER, False, False, True),
        (Role.EDITOR, True, False, True),
        (Role.OWNER, True, True, True),
    ],
)
def test_history_is_seen_by_role_unless_somebody_says_otherwise(
    role: Role | None, by_role: bool, denied: bool, given: bool
) -> None:
    assert [sees_history(role, what) for what in (None, False, True)] == [by_role, denied, given]
