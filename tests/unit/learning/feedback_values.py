"""Values for tests of feedback: a trace, a policy, a piece of feedback, with defaults for what a test does not mean."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from reverie.learning.feedback.feedback import Feedback
from reverie.learning.records import Policy, ToolUse, Trace

_TRACE = Trace(
    id="tr_1", task_id="ta_1", episode_id="ep_1", agent="main", session_id="s1", first_seq=1, last_seq=2, turn_seq=1,
    step=0, at_ms=1_000, window=1, user_text="", agent_text="", thinking="", summary="", tool_calls=(), reflection="",
    usable=None, alpha=0.0, value=0.0, r_human=None, priority=0.5, tags=(), signatures=(), failed=False,
    vec_summary=None, vec_action=None, provenance="agent",
)  # fmt: skip
_POLICY = Policy(
    id="po_1", agent="main", title="t", trigger="", procedure="p", verification="", boundary="", support=1, gain=0.3,
    gain_known=True, status="active", type="success_pattern", polarity="positive", salience=0.4, confidence=0.5,
    signature="", evidence="", source_episodes=("ep_0",), source_feedback=("fb_0",), source_traces=(), induced_by="",
    preference=(), anti_pattern=(), skill_eligible=True, vec=None, provenance="agent", created_at_ms=1,
    updated_at_ms=1, edited_at_ms=None,
)  # fmt: skip
_FEEDBACK = Feedback(
    id="fb_1", agent="main", at_ms=5_000, session_id="s1", turn_id=None, task_id="ta_1", episode_id="ep_1",
    trace_id=None, skill_id=None, channel="explicit", polarity="negative", magnitude=1.0, confidence=1.0,
    shape="unknown", text="", prefer="", avoid="", seq=None, classified_by="person", provenance="owner",
)  # fmt: skip


def trace(trace_id: str = "tr_1", **changes: Any) -> Trace:
    """A step of an agent."""
    return replace(_TRACE, id=trace_id, **changes)


def shell(command: str, output: str = "", error_code: str = "") -> tuple[ToolUse, ...]:
    """The one call of a step: a command."""
    return (ToolUse("shell", f'{{"command": "{command}"}}', output, error_code),)


def policy(policy_id: str = "po_1", **changes: Any) -> Policy:
    """An active policy that came of praise."""
    return replace(_POLICY, id=policy_id, **changes)


def feedback(**changes: Any) -> Feedback:
    """A thumb down with nothing said."""
    return replace(_FEEDBACK, **changes)
