"""Failure bursts: what a tool was used for, and when it has failed too often."""

from __future__ import annotations

import hashlib

import pytest

from reverie.learning.feedback.bursts import Burst, ToolOutcome, bursts, context_hash, context_of, outcomes_of


def outcomes(pattern: str) -> list[ToolOutcome]:
    """Calls in order: `f` a failure of the tool, `s` a success of it, `o` a success of another tool."""
    return [
        ToolOutcome("other" if sign == "o" else "shell", "pytest" if sign != "o" else "", sign == "f", f"tr_{place}")
        for place, sign in enumerate(pattern)
    ]


@pytest.mark.parametrize(
    ("pattern", "failures"),
    [
        ("ff", 0),
        ("fff", 3),
        ("foff", 3),
        ("fofof", 3),
        ("foofof", 0),
        ("ffsf", 0),
        ("fsfff", 0),
        ("sfff", 0),
        ("soofff", 3),
        ("ffff", 4),
        ("fffs", 0),
    ],
)
def test_a_burst_is_three_failures_in_five_calls(pattern: str, failures: int) -> None:
    """The third failure among five calls is a burst, unless the same went well among them."""
    new = 1
    found = bursts(outcomes(pattern), new, threshold=3, window=5)
    last = f"tr_{len(pattern) - 1}"
    assert found == ((Burst("shell", "pytest", failures, last),) if failures else ())


def test_only_new_calls_complete_a_burst() -> None:
    """A burst that was complete before the new calls is not found again, and one of several calls is found once."""
    assert bursts(outcomes("fffo"), 1, threshold=3, window=5) == ()
    assert bursts(outcomes("fffff"), 5, threshold=3, window=5) == (Burst("shell", "pytest", 5, "tr_4"),)


def test_a_success_among_the_new_calls_clears_a_burst() -> None:
    """What went well in the end needs no repair."""
    assert bursts(outcomes("fffs"), 4, threshold=3, window=5) == ()


def test_the_hash_names_tool_and_context() -> None:
    """The hash is 16 hex digits of SHA-1 over tool, newline, context."""
    assert context_hash("shell", "pytest") == hashlib.sha1(b"shell\npytest").hexdigest()[:16]  # noqa: S324
    assert Burst("shell", "pytest", 3, "tr_1").context_hash == context_hash("shell", "pytest")


@pytest.mark.parametrize(
    ("arguments", "context"),
    [
        ('{"command": "pytest -q tests"}', "pytest"),
        ('{"cmd": "cd /work && FAST=1 /usr/bin/pytest -q"}', "pytest"),
        ('{"command": ["sudo", "apt-get", "update"]}', "apt-get"),
        ('{"url": "https://Example.org:8080/a?b"}', "example.org"),
        ('{"url": "http://[broken"}', ""),
        ('{"path": "notes/2026.MD"}', ".md"),
        ('{"query": "walrus"}', ""),
        ('{"command": ""}', ""),
        ("[1, 2]", ""),
        ("not JSON", ""),
    ],
)
def test_the_context_comes_of_the_arguments(arguments: str, context: str) -> None:
    """A call is for a program, a host or a kind of file, whether it goes well or not."""
    assert context_of(arguments) == context


def test_a_step_that_failed_without_a_code_failed_in_its_last_call() -> None:
    """An error code says which call failed; without one it was the last."""
    calls = [{"name": "a", "input": "{}", "error_code": ""}, {"name": "b", "input": "{}", "error_code": ""}]
    plain = outcomes_of("tr_1", calls, failed=True)
    assert [(each.tool, each.failed) for each in plain] == [("a", False), ("b", True)]
    calls[0]["error_code"] = "ENOENT"
    coded = outcomes_of("tr_1", calls, failed=True)
    assert [(each.tool, each.failed) for each in coded] == [("a", True), ("b", False)]
