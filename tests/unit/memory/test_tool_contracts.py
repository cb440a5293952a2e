"""The contracts of the memory tools: what they take, what they answer, and what they say to do."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.errors import MemoryPathError, RequestError, StorageError
from reverie.memory.tool_contracts import (
    AppendArguments,
    Citations,
    GetArguments,
    SearchArguments,
    as_results,
    partial_notice,
    read_append,
    read_get,
    read_search,
    refused_answer,
    shows_citations,
    snippet,
    unavailable,
)
from reverie.types import SearchHit


def test_arguments_of_a_search() -> None:
    """Numbers may come as strings; what is left out has its default; there is a most of everything."""
    assert read_search({"query": "keys"}) == SearchArguments("keys", 10, ("memory", "sessions"), 0.0)
    asked = {"query": "keys", "maxResults": "5.0", "minScore": " 0.35 ", "corpus": "sessions"}
    assert read_search(asked) == SearchArguments("keys", 5, ("sessions",), 0.35)
    assert read_search({"query": "x" * 99_999, "maxResults": 999, "minScore": 7, "corpus": "wiki"}) == SearchArguments(
        "x" * 20_000, 50, (), 1.0
    )


def test_arguments_of_the_others() -> None:
    """What is left out, or blank, has its default."""
    assert read_get({"path": "MEMORY.md", "from": "2"}) == GetArguments("MEMORY.md", 2, None)
    assert read_append({"text": "x", "path": " "}, 100) == AppendArguments("x", None)


@pytest.mark.parametrize(
    ("arguments", "param"),
    [({}, "text"), ({"text": " "}, "text"), ({"text": "ä" * 51}, "text"), ({"text": "x", "path": 1}, "path")],
)
def test_wrong_arguments_of_an_append(arguments: dict[str, Any], param: str) -> None:
    """The error names the argument; a size is counted in bytes."""
    with pytest.raises(RequestError) as refused:
        read_append(arguments, 100)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("mode", "key", "shown"),
    [
        ("auto", None, True),
        ("auto", "agent:main:main", True),
        ("auto", "agent:main:telegram:direct:bo", True),
        ("auto", "agent:main:discord:channel:42", False),
        ("auto", "agent:main:whatsapp:Group:42", False),
        ("auto", "agent:main:channels", True),
        ("on", "agent:main:discord:channel:42", True),
        ("off", "agent:main:main", False),
    ],
)
def test_when_citations_are_shown(mode: Citations, key: str | None, shown: bool) -> None:  # noqa: FBT001 (a table)
    """`auto` hides them where others read along; no key is a direct conversation."""
    assert shows_citations(mode, key) is shown


def test_results_are_ordered_by_score_then_path() -> None:
    """As they are shown: scores that are equal once rounded are equal."""
    hits = (
        SearchHit("memory", "memory/b.md", 1, 1, "b", 0.50001),
        SearchHit("memory", "memory/a.md", 3, 4, "a", 0.50002),
        SearchHit("sessions", "sessions/1", 2, 2, "s", 0.9, speaker="Bo", when="2026-01-01"),
    )
    shown = as_results(hits, 2, cited=False)
    assert shown == [
        {
            "path": "sessions/1",
            "startLine": 2,
            "endLine": 2,
            "score": 0.9,
            "snippet": "s",
            "source": "sessions",
            "corpus": "sessions",
            "when": "2026-01-01",
            "speaker": "Bo",
        },
        {
            "path": "memory/a.md",
            "startLine": 3,
            "endLine": 4,
            "score": 0.5,
            "snippet": "a",
            "source": "memory",
            "corpus": "memory",
        },
    ]
    (cited,) = as_results(hits[1:2], 9, cited=True)
    assert (cited["snippet"], cited["citation"]) == ("a\n\nSource: memory/a.md#L3-L4", "memory/a.md#L3-L4")


def test_a_snippet_is_cut_at_700_characters() -> None:
    """White space around it does not count, lines stay lines."""
    assert snippet("\n - a\n - b \n") == "- a\n - b"
    assert snippet("x" * 700) == "x" * 700
    assert snippet("x" * 701) == "x" * 699 + "…"


@pytest.mark.parametrize("error", ["insufficient_quota", "the monthly quota is used up", "HTTP 429"])
def test_an_exhausted_quota_has_its_own_words(error: str) -> None:
    """What to do about it is something else than about any other failure."""
    quota, other = unavailable(error), unavailable("the disk is on fire")
    fields: dict[str, Any] = {"results": [], "disabled": True, "unavailable": True}
    assert {key: quota[key] for key in fields} == {key: other[key] for key in fields} == fields
    assert (quota["error"], other["error"]) == (error, "the disk is on fire")
    assert "quota" in quota["warning"]
    assert "account" in quota["action"]
    assert quota["warning"] != other["warning"]
    assert quota["action"] != other["action"]


def test_results_that_lack_a_signal_say_what_to_do() -> None:
    """Nothing when none is missing; a rebuild when the embedder is another one; the account when it is empty."""
    assert partial_notice((), "") == {}
    paused = partial_notice(("semantic: built by another embedder",), "built by another embedder")
    assert "reverie index --rebuild" in paused["action"]
    assert "account" in partial_notice(("semantic: embedder failed: 429",), "")["action"]
    assert "reverie status" in partial_notice(("semantic: vectors still loading",), "")["action"]


def test_what_a_refusal_answers() -> None:
    """In the shape of each tool's contract; what is the caller's to mend is not called disabled."""
    asked, path, broken = RequestError("bad", param="from"), MemoryPathError("path required: no"), StorageError("gone")
    again = "Call it again with valid arguments."
    assert refused_answer("memory_search", {}, asked) == {"results": [], "error": "bad", "action": again}
    assert refused_answer("memory_search", {}, broken) == unavailable("gone")
    assert refused_answer("memory_get", {"path": "a"}, asked) == {
        "path": "a", "text": "", "error": "bad", "action": again,
    }  # fmt: skip
    assert refused_answer("memory_get", {"path": "a"}, path) == {
        "path": "a", "text": "", "disabled": True, "error": "path required",
        "action": "no. Use a path that memory_search cites.",
    }  # fmt: skip
    assert refused_answer("memory_get", {"path": "a"}, broken)["disabled"] is True
    assert refused_answer("memory_append", {"path": 1}, path)["appended"] is False
    assert "disabled" not in refused_answer("memory_append", {}, path)
    assert refused_answer("memory_append", {}, RequestError("off", code="append_disabled"))["disabled"] is True
    assert refused_answer("memory_append", {}, broken)["action"] == "Tell the user that the note was not saved."
