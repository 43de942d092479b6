"""What strangers wrote is text on a terminal, and nothing else."""

from __future__ import annotations

import pytest

from web.terminal import INKS, Terminal, line, plain


def test_what_would_command_a_terminal_is_shown_as_escapes() -> None:
    assert plain("\x1b]0;title\x07") == "\\x1b]0;title\\x07"
    assert plain("\x9b31m") == "\\x9b31m"  # one byte that begins a sequence
    assert plain("a\rb\u202edlrow\u2069\ud83d") == "a\\x0db\\u202edlrow\\u2069\\ud83d"
    assert plain("tab\tand\nline, 👩‍👩‍👧 é 漢") == "tab\tand\nline, 👩‍👩‍👧 é 漢"
    assert line("Ada\nAuthors:\tBob") == "Ada Authors: Bob"


def test_a_style_ends_at_each_line_end() -> None:
    assert Terminal("always").style("one\n\ntwo", "31") == "\x1b[31mone\x1b[m\n\n\x1b[31mtwo\x1b[m"
    assert Terminal("never").style("one", "31") == "one"


def test_eight_authors_have_eight_colours_and_each_keeps_its_own() -> None:
    terminal = Terminal("always")
    inks = [terminal.ink(f"user:{n}") for n in range(len(INKS))]
    assert len(set(inks)) == len(INKS)
    assert terminal.ink("user:one more") in inks
    assert inks == [terminal.ink(f"user:{n}") for n in range(len(INKS))]
    assert Terminal("always").ink("user:5") == Terminal("always").ink("user:5")


@pytest.mark.parametrize("variables", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_nobody_gets_colour_who_wants_none(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert Terminal("auto").colour
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert not Terminal("auto").colour
    assert Terminal("always").colour
