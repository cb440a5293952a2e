"""Advice in words: cleaned, bounded, nothing twice."""

from __future__ import annotations

import pytest

from reverie.learning.feedback.guidance import ADVICE_CHARS_MAX, ADVICE_MAX, added, amended, cleaned, turns_round


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("see [the page](javascript:alert(1)) first", "see the page first"),
        ("open [it](file://server/share/page.html)", "open it"),
        ("![x](data:text/html;base64,AAAA) done", "x done"),
        ("go to <javascript:steal()> now", "go to now"),
        ("run javascript:alert(1) now", "run now"),
        ("read [the docs](https://example.org/a)", "read [the docs](https://example.org/a)"),
        ("<script>alert(1)</script> text", "alert(1) text"),
        ("use `<b>javascript:void</b>` as it is", "use `<b>javascript:void</b>` as it is"),
        ("```\nrm  file:x\n```", "``` rm file:x ```"),
        ("  one\n\n  two ", "one two"),
        ("the data: 5 rows", "the data: 5 rows"),
    ],
)
def test_dangerous_links_go_and_code_stays(text: str, kept: str) -> None:
    """Links that run or read something leave their words, tags go, and code between backticks is left alone."""
    assert cleaned(text) == kept


def test_advice_is_bounded() -> None:
    """A long text is cut with a mark."""
    assert cleaned("x" * 1_000) == "x" * (ADVICE_CHARS_MAX - 1) + "…"


def test_nothing_is_said_twice() -> None:
    """Advice that differs in case and marks alone is the same, and empty advice is none."""
    assert added(("Use uv.",), ("use UV", "", "Run the tests", "Run the tests!")) == ("Use uv.", "Run the tests")


def test_the_oldest_advice_gives_way() -> None:
    """A policy keeps so many pieces of advice, the newest ones."""
    many = tuple(f"advice {n}" for n in range(ADVICE_MAX))
    assert added(many, ("another",)) == (*many[1:], "another")


def test_what_is_said_now_counts_more() -> None:
    """What is preferred now is avoided no more, and the reverse; what is said again is the newest."""
    known = (("Use uv", "tabs", "spaces"), ("a", "long lines in tables"))
    assert amended(known, (("use UV!", "long lines"), ("Tabs in tables",))) == (
        ("spaces", "use UV!", "long lines"),
        ("a", "Tabs in tables"),
    )
    assert amended(known, ((), ())) == known


@pytest.mark.parametrize(
    ("new", "turned"),
    [
        ((("b in tables",), ()), True),
        (((), ("A",)), True),
        ((("a",), ("b",)), False),
        ((("big",), ("an a",)), False),
        (((), ()), False),
    ],
)
def test_an_order_is_turned_round_by_its_reverse(new: tuple[tuple[str, ...], tuple[str, ...]], *, turned: bool) -> None:
    """A name may say more behind, and no more before."""
    assert turns_round((("a",), ("b",)), new) is turned


def test_keys_are_hidden() -> None:
    """Advice is shown to other sessions: a key in it is not, in code neither."""
    secret = "sk-live-0123456789abcdefghij"
    said = cleaned(f"Call it with `curl -H 'Authorization: Bearer {secret}'`, token={secret}")
    assert secret not in said
    assert said.startswith("Call it with `curl -H 'Authorization: Bearer sk-liv")
