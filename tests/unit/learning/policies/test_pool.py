"""The pool: which steps of a bucket stand for it, and what names them."""

from __future__ import annotations

from reverie.learning.policies.pool import Member, Ready, best_of_each, candidate_id, evidence_digest
from tests.learning_rows import unit


def member(trace_id: str, task: str) -> Member:
    return Member(trace_id, task, 0.5, unit(1, 0))


def test_best_step_of_each_task_stands_for_it() -> None:
    """The first of each, in their order, of at most eight tasks."""
    members = [member("tr_1", "a"), member("tr_2", "b"), member("tr_3", "a")]
    many = [member(f"tr_{n}", f"ta_{n}") for n in range(20)]

    assert [each.id for each in best_of_each(members)] == ["tr_1", "tr_2"]
    assert [each.id for each in best_of_each(many)] == [f"tr_{n}" for n in range(8)]


def test_digest_is_of_the_evidence_alone() -> None:
    """Whatever the order, and whatever else waits; another agent's or bucket's evidence is another."""
    one = Ready("main", "a|_|_|_", (member("tr_1", "a"), member("tr_2", "b")))
    more = Ready("main", "a|_|_|_", (member("tr_2", "b"), member("tr_1", "a"), member("tr_3", "a")))

    assert one.digest == more.digest == evidence_digest("main", "a|_|_|_", ["tr_2", "tr_1"])
    assert evidence_digest("other", "a|_|_|_", ["tr_1", "tr_2"]) != one.digest
    assert evidence_digest("main", "b|_|_|_", ["tr_1", "tr_2"]) != one.digest


def test_ids_are_of_step_and_bucket() -> None:
    """The same step in the same bucket has the same id, in another bucket another."""
    assert candidate_id("a|_|_|_", "tr_1") == candidate_id("a|_|_|_", "tr_1")
    assert candidate_id("a|_|_|_", "tr_1") != candidate_id("b|_|_|_", "tr_1")
    assert candidate_id("a|_|_|_", "tr_1").startswith("cand_")
