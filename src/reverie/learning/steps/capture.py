"""Taking the steps of a conversation into the record: traces, in windows that are reflected on later.

All of it is done within the caller's transaction and asks no model: what to keep is decided by pure functions
(`steps.py`, `normalise.py`, `tags.py`, `signatures.py`), and the commit that closes a window asks for its reflection.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from reverie.jobs.request import JobRequest, ask_for
from reverie.learning.ids import content_id, digest_of
from reverie.learning.records import Trace, episode_of, trace_of
from reverie.learning.said import SaidMessage
from reverie.learning.steps.normalise import normalised, repeats
from reverie.learning.steps.signatures import error_signatures
from reverie.learning.steps.steps import extract
from reverie.learning.steps.tags import tags_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from reverie.config import LearningConfig
    from reverie.learning.records import Episode
    from reverie.learning.steps.normalise import StepText
    from reverie.learning.steps.steps import Step
    from reverie.storage import Transaction

WINDOW_KIND = "window"
LIGHTWEIGHT_TAG = "lightweight_memory"
ASKS_MAX = 20
"""Messages in a row that a late reply is taken to answer."""
FIRST_PRIORITY = 0.5
"""Of a step before anybody knows what it was worth."""


@dataclass(frozen=True, slots=True)
class Captured:
    """What was taken. Messages up to `through_seq` are done; later ones are to be given again with what follows.

    `open_steps` counts what waits: calls without a result, and a question without a reply.
    """

    traces: tuple[Trace, ...]
    through_seq: int
    open_steps: int


def window_key(episode_id: str, number: int) -> str:
    """The key of the job that reflects on a window."""
    return f"{WINDOW_KIND}:{episode_id}:{number}"


class Capture:
    """Keeps steps as traces. In lightweight mode each exchange is one trace, and nothing is ever made of it."""

    def __init__(self, config: LearningConfig) -> None:
        self._mode = config.mode
        self._config = config.capture

    def take(
        self, tx: Transaction, episode: Episode, messages: Sequence[SaidMessage], now_ms: int, *, final: bool = False
    ) -> Captured:
        """Keep the complete steps of messages of an episode that were not given before, or were given back.

        With `final` the episode ends here: everything given is done. What was taken before is not taken twice.
        """
        merged = self._mode == "lightweight"
        row = tx.row("last_trace_of_session", session_id=episode.session_id)
        last = trace_of(row) if row else None
        alone = final and not _is_answered(tx, episode.id)
        asks = _asks_before(tx, episode.session_id, messages, last)
        extracted = extract([*asks, *messages], final=final, alone=alone, merged=merged)
        traces = self._keep(tx, episode, self._traces(episode, extracted.steps, last), now_ms)
        through_seq = max(extracted.through_seq, messages[0].seq - 1) if messages else 0
        return Captured(traces, through_seq, extracted.open_steps)

    def close_window(self, tx: Transaction, episode_id: str, now_ms: int) -> bool:
        """Close the last window of an episode and ask for its reflection; False when none is open."""
        window, row = tx.row("last_window", episode_id=episode_id), tx.row("find_episode", id=episode_id)
        if window is None or row is None or window["state"] != "open":
            return False
        self._close(tx, episode_of(row), window["number"], window["steps"], now_ms)
        return True

    def _traces(self, episode: Episode, steps: Sequence[Step], last: Trace | None) -> Iterator[Trace]:
        """The traces of steps that are new, numbered on from the last one of the conversation."""
        taken_seq = last.first_seq if last else -1
        for step in steps:
            if step.first_seq <= taken_seq:
                continue
            text = normalised(
                step,
                text_chars_max=self._config.max_text_chars,
                output_chars_max=self._config.max_tool_output_chars,
            )
            if text.is_empty or (last and step.opens is not None and _repeats(text, last, episode)):
                continue
            last = self._trace(episode, step, text, last)
            yield last

    def _trace(self, episode: Episode, step: Step, text: StepText, last: Trace | None) -> Trace:
        goes_on = step.opens is None and last is not None
        turn_seq = last.turn_seq if last and goes_on else step.first_seq
        number = last.step + 1 if last and goes_on else 0
        spoken = (text.user_text, *(tool.output for tool in text.tools), text.agent_text)
        return Trace(
            id=content_id("tr", episode.session_id, step.first_seq, number),
            task_id=episode.task_id,
            episode_id=episode.id,
            agent=episode.agent,
            session_id=episode.session_id,
            first_seq=step.first_seq,
            last_seq=step.last_seq,
            turn_seq=turn_seq,
            step=number,
            at_ms=max(step.at_ms, last.at_ms + 1) if last else step.at_ms,
            window=0,
            user_text=text.user_text,
            agent_text=text.agent_text,
            thinking=text.thinking,
            summary=text.summary,
            tool_calls=text.tools,
            reflection=text.reflection,
            usable=None,
            alpha=0.0,
            value=0.0,
            r_human=None,
            priority=FIRST_PRIORITY,
            tags=tags_of(text, *((LIGHTWEIGHT_TAG,) if self._mode == "lightweight" else ())),
            signatures=error_signatures(spoken),
            failed=text.failed,
            vec_summary=None,
            vec_action=None,
            provenance=step.whose,
        )

    def _keep(self, tx: Transaction, episode: Episode, traces: Iterator[Trace], now_ms: int) -> tuple[Trace, ...]:
        """Write traces into the episode's windows; each that is full is closed."""
        window = tx.row("last_window", episode_id=episode.id)
        number = window["number"] if window else 0
        steps = window["steps"] if window and window["state"] == "open" else None
        kept: list[Trace] = []
        for trace in traces:
            number, steps = (number, steps) if steps is not None else (number + 1, 0)
            placed = replace(trace, window=number)
            if not tx.execute("insert_trace", **_columns(placed)):
                continue
            kept.append(placed)
            steps += 1
            if steps >= self._config.window_steps:
                self._close(tx, episode, number, steps, now_ms)
                steps = None
        if kept and steps:
            tx.execute("keep_window", episode_id=episode.id, number=number, steps=steps, state="open", closed_at=None)
        return tuple(kept)

    def _close(self, tx: Transaction, episode: Episode, number: int, steps: int, now_ms: int) -> None:
        tx.execute("keep_window", episode_id=episode.id, number=number, steps=steps, state="closed", closed_at=now_ms)
        ask_for(tx, _window_request(episode, number), now_ms)


def _is_answered(tx: Transaction, episode_id: str) -> bool:
    """Whether anything came of what an episode asks: steps of its own, or a reply that a limit put into the next."""
    return bool(tx.value("has_traces", episode_id=episode_id) or tx.value("is_answered_next", episode_id=episode_id))


def _asks_before(
    tx: Transaction, session_id: str, messages: Sequence[SaidMessage], last: Trace | None
) -> list[SaidMessage]:
    """What the first of these messages replies to, when it was given before and its episode ended without a reply."""
    if not messages or messages[0].role == "user":
        return []
    after_seq = last.last_seq if last else 0
    rows = tx.rows("asks_before", session_id=session_id, seq=messages[0].seq, after_seq=after_seq, limit=ASKS_MAX)
    return [SaidMessage(row["seq"], "user", row["text"], row["created_at"], row["whose"]) for row in rows]


def _window_request(episode: Episode, number: int) -> JobRequest:
    return JobRequest(
        kind=WINDOW_KIND,
        key=window_key(episode.id, number),
        lane="background",
        payload={"episode_id": episode.id, "window": number},
        agent=episode.agent,
        episode_id=episode.id,
        task_id=episode.task_id,
    )


def _repeats(text: StepText, last: Trace, episode: Episode) -> bool:
    """True for an exchange that repeats the one right before it in the same episode, both without tools."""
    same_place = last.episode_id == episode.id and last.step == 0
    return same_place and not last.tool_calls and repeats(text, last.user_text, last.agent_text)


def _columns(trace: Trace) -> dict[str, object]:
    tools = [asdict(tool) for tool in trace.tool_calls]
    return {
        "id": trace.id,
        "task_id": trace.task_id,
        "episode_id": trace.episode_id,
        "agent": trace.agent,
        "session_id": trace.session_id,
        "first_seq": trace.first_seq,
        "last_seq": trace.last_seq,
        "turn_seq": trace.turn_seq,
        "step": trace.step,
        "at": trace.at_ms,
        "window": trace.window,
        "user_text": trace.user_text,
        "agent_text": trace.agent_text,
        "thinking": trace.thinking,
        "summary": trace.summary,
        "tool_calls": _json(tools),
        "reflection": trace.reflection,
        "priority": trace.priority,
        "tags": _json(trace.tags),
        "signatures": _json(trace.signatures),
        "failed": int(trace.failed),
        "digest": digest_of(trace.user_text, trace.agent_text, tools),
        "provenance": trace.provenance,
    }


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)
