"""What an engine answered is checked at the door."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from reverie.context.contract import (
    Assembled,
    AssembleRequest,
    Compacted,
    CompactRequest,
    EngineMessage,
    EngineSession,
)
from reverie.engines.answers import InvalidAnswerError, checked_compacted, checked_view
from reverie.types import Message, Projection, ToolCall

CALL = ToolCall("c1", "weather", "{}")


def said(seq: int | None, role: Any, text: str, **more: Any) -> EngineMessage:
    return EngineMessage(Message(role, text, **more), seq)


ASKED = said(1, "user", "Weather?")
CALLED = said(2, "assistant", "", tool_calls=(CALL,))
RESULT = said(3, "tool", "Snow.", tool_call_id="c1")
TOLD = said(4, "assistant", "It snows.")
NOW = said(5, "user", "Where?")
REQUEST = AssembleRequest(
    EngineSession("s1", "agent:main:main", "main"), (ASKED, CALLED, RESULT, TOLD), (NOW,), token_budget=1_000
)


@pytest.mark.parametrize(
    "view",
    [
        Assembled(()),
        Assembled(REQUEST.messages),
        Assembled((said(None, "user", "In short: it snows."), TOLD)),
        Assembled((TOLD,), history_start=6, reason="the rest is in my store"),
        Assembled((), projection=Projection("thread_bootstrap", "e1", "f1")),
        Assembled((), system_prompt_addition="Ask me for more."),
    ],
)
def test_a_conversation_is_taken_as_it_is(view: Assembled) -> None:
    """Whole, shortened, in other words, with an addition, with an epoch."""
    assert checked_view(view, REQUEST) == view


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        (None, "not Assembled"),
        (Assembled("abc"), "tuple of EngineMessage"),  # pyright: ignore[reportArgumentType] (it is wrong on purpose)
        (Assembled((Message("user", "hi"),)), "tuple of EngineMessage"),  # pyright: ignore[reportArgumentType] (as above)
        (Assembled((said(None, "system", "Obey."),)), "user, assistant or tool"),
        (Assembled((said(None, "user", 7),)), "`text` must be a text"),  # pyright: ignore[reportArgumentType] (as above)
        (Assembled((CALLED, TOLD)), "belong together"),
        (Assembled((RESULT, TOLD)), "belong together"),
        (Assembled((RESULT, CALLED)), "belong together"),
        (Assembled((), history_start=0), "`history_start`"),
        (Assembled((), history_start=7), "`history_start`"),
        (Assembled((), history_start=True), "`history_start`"),
        (Assembled((), system_prompt_addition="x" * 64_001), "at most"),
        (Assembled((), projection=None), "Projection"),  # pyright: ignore[reportArgumentType] (as above)
    ],
)
def test_what_is_no_conversation_is_refused_with_the_rule(answer: object, rule: str) -> None:
    """A model's server would refuse it, too, and nobody would know whose fault it is."""
    with pytest.raises(InvalidAnswerError, match=rule):
        checked_view(answer, REQUEST)


def test_what_was_parted_before_may_stay_so() -> None:
    """An engine that passes on what it was given is not at fault: a client may have left a call without its result."""
    broken = replace(REQUEST, messages=(ASKED, CALLED, said(3, "user", "Never mind."), TOLD))

    assert checked_view(Assembled(broken.messages), broken).messages == broken.messages


def test_the_call_of_a_result_that_is_the_new_input_must_stay() -> None:
    """The client has run its tool: without the call nobody knows what for."""
    request = replace(REQUEST, messages=(ASKED, CALLED), prompt=(RESULT,))

    assert checked_view(Assembled((CALLED,)), request).messages == (CALLED,)
    with pytest.raises(InvalidAnswerError, match="belong together"):
        checked_view(Assembled((ASKED,)), request)


def test_a_projection_without_an_epoch_is_made_with_every_turn() -> None:
    """A thread could not tell when it is out of date."""
    view = Assembled((), projection=Projection("thread_bootstrap", " "))

    assert checked_view(view, REQUEST).projection == Projection("per_turn")


COMPACT = CompactRequest(REQUEST.session, (*REQUEST.messages, NOW), token_budget=100, cause="manual")


@pytest.mark.parametrize(
    ("answer", "rule"),
    [
        ("done", "not Compacted"),
        (Compacted(ok=True, compacted=True, summary="s", first_kept=1), "`first_kept`"),
        (Compacted(ok=True, compacted=True, summary="s", first_kept=3), "`first_kept`"),
        (Compacted(ok=True, compacted=True, summary="s", first_kept=7), "`first_kept`"),
        (Compacted(ok=True, compacted=True, summary="s" * 64_001, first_kept=5), "at most"),
    ],
)
def test_a_compaction_keeps_from_a_turn_on_that_exists(answer: object, rule: str) -> None:
    """Its summary is recorded as standing for what came before that one, and no result may lose its call."""
    with pytest.raises(InvalidAnswerError, match=rule):
        checked_compacted(answer, COMPACT)


@pytest.mark.parametrize("first_kept", [5, 6, None])
def test_a_compaction_may_keep_a_turn_nothing_or_its_own_counsel(first_kept: int | None) -> None:
    """5 is the last turn, 6 comes after all of them."""
    done = Compacted(ok=True, compacted=True, summary="s", first_kept=first_kept)

    assert checked_compacted(done, COMPACT) == done
