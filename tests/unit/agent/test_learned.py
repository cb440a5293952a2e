"""What of all that was learned a turn has room for."""

from __future__ import annotations

from reverie.agent.learned import learned_among, within_share
from reverie.context.fence import LEARNED_NOTE, RECALL_NOTE, fenced_memory, fenced_recall
from reverie.llm.tokens import TokenEstimator
from reverie.types import SearchHit


def hit(text: str, source: str = "skills") -> SearchHit:
    return SearchHit(source, "skills/a/SKILL.md", 1, 1, text, 0.5)  # pyright: ignore[reportArgumentType] (any of them)


def test_the_best_that_fit_are_taken_and_one_too_large_makes_room_for_a_smaller() -> None:
    """Counted as they stand in the prompt, with their fences."""
    hits = [hit("a" * 400), hit("b" * 4_000), hit("c" * 400)]
    estimator = TokenEstimator()
    room = 2 * estimator.text(fenced_memory(hits[0]))

    assert within_share(hits, room, estimator) == (hits[0], hits[2])
    assert within_share(hits, 0, estimator) == ()


def test_what_is_memorys_is_not_learned() -> None:
    """Notes and conversations."""
    hits = [hit("a"), hit("b", "memory"), hit("c", "traces"), hit("d", "sessions")]

    assert [each.text for each in learned_among(hits)] == ["a", "c"]


def test_what_was_learned_says_its_kind_within_the_same_fence() -> None:
    """Where only memories are quoted, nothing is said of it."""
    assert fenced_recall([hit("x", "memory")]) == (
        f'<recalled_memory>\n{RECALL_NOTE}\n<memory source="skills/a/SKILL.md#L1" from="owner">\nx\n</memory>\n'
        "</recalled_memory>"
    )
    assert fenced_recall([hit("x", "worlds")]) == (
        f"<recalled_memory>\n{RECALL_NOTE}\n{LEARNED_NOTE}\n"
        '<memory source="skills/a/SKILL.md#L1" from="owner" kind="knowledge">\nx\n</memory>\n</recalled_memory>'
    )
