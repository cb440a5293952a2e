"""Taking steps into the record.

Where the record of the original system differs: a step that was taken is recognised by its place in the transcript and
not by an action signature; a summary never costs a call of its own, so that there is no 8-second fallback; vectors and
retries belong to the job of the window (`test_reflection.py`), and nothing emits events.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.learning.records import ToolUse
from reverie.learning.steps.capture import LIGHTWEIGHT_TAG, Captured
from tests.integration.learning.traces_world import Home, open_home
from tests.learning_rows import T0
from tests.unit.learning.said import agent, result, user

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.learning.said import SaidMessage


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """An empty home with an open task and episode."""
    async with open_home(tmp_path) as opened:
        yield opened


CLEANING = [
    user(1, "Clean the roaster"),
    agent(2, "I look.", 'c1 bash {"command":"ls /roaster"}'),
    result(3, "c1", "ls: /roaster: No such file or directory"),
    agent(4, "There is none."),
]


@pytest.mark.anyio
async def test_a_step_is_kept_with_all_that_is_known_of_it(home: Home) -> None:
    """A new trace has value 0, α 0 and priority 0.5; its words are found at once, without any vector."""
    captured = await home.take(CLEANING)
    call, reply = captured.traces
    assert (captured.through_seq, captured.open_steps) == (4, 0)
    assert home.traces() == (call, reply)
    assert (call.first_seq, call.last_seq, call.turn_seq, call.step, call.at_ms, call.window) == (
        1,
        3,
        1,
        0,
        T0 + 3_000,
        1,
    )
    assert call.tool_calls == (
        ToolUse(
            "bash",
            '{"command":"ls /roaster"}',
            "ls: /roaster: No such file or directory",
            "NO_SUCH_FILE",
            "c1",
            "I look.",
        ),
    )
    assert (call.summary, call.tags, call.failed) == ("Clean the roaster", ("bash", "such", "file"), True)
    assert call.signatures == ("ls: /roaster: No such file or directory",)
    assert (call.provenance, reply.provenance) == ("untrusted", "agent")
    assert (reply.first_seq, reply.turn_seq, reply.step, reply.agent_text) == (4, 1, 1, "There is none.")
    assert (call.value, call.alpha, call.priority, call.usable, call.r_human) == (0.0, 0.0, 0.5, None, None)
    assert (call.vec_summary, call.vec_action) == (None, None)
    found = home.sql("SELECT ref FROM learned_words WHERE learned_words MATCH 'roaster'")
    assert found == [(call.id,)]


@pytest.mark.anyio
async def test_what_was_taken_is_not_taken_twice(home: Home) -> None:
    """The same messages again change nothing; ids are made of the place in the transcript."""
    first = await home.take(CLEANING)
    before = home.everything()
    assert (await home.take(CLEANING)).traces == ()
    assert home.everything() == before
    assert len({trace.id for trace in first.traces}) == 2


@pytest.mark.anyio
async def test_an_exchange_goes_on_over_turns(home: Home) -> None:
    """A client runs the tool and comes back with its result: the steps are numbered on."""
    assert (await home.take(CLEANING[:2])).open_steps == 1
    assert len((await home.take(CLEANING[:3])).traces) == 1
    (reply,) = (await home.take(CLEANING[3:])).traces
    assert (reply.turn_seq, reply.step) == (1, 1)


@pytest.mark.anyio
async def test_instants_are_unique_and_in_order(home: Home) -> None:
    """Also when everything happened in one millisecond, or a clock went back."""
    calls = [f"c{number} x {number}" for number in range(5)]
    said = [user(1, "go"), agent(2, "", *calls), *(result(3, f"c{number}", "ok") for number in range(5))]
    await home.take([*said, agent(9, "done")])
    instants = [trace.at_ms for trace in home.traces()]
    assert instants == [T0 + 3_000 + number for number in range(5)] + [T0 + 9_000]


@pytest.mark.anyio
async def test_300_calls_of_one_exchange_are_300_steps_in_25_windows(home: Home) -> None:
    """Each window of twelve is closed as it is full, and its reflection asked for in the same commit."""
    said = [user(1, "go")]
    for number in range(300):
        said += [agent(2 + 2 * number, "", f"c{number} x {number}"), result(3 + 2 * number, f"c{number}", "ok")]
    captured = await home.take([*said, agent(700, "done")])
    assert [trace.step for trace in captured.traces] == list(range(301))
    assert home.sql("SELECT number, steps, state FROM reflection_windows ORDER BY number") == [
        *((number, 12, "closed") for number in range(1, 26)),
        (26, 1, "open"),
    ]
    keys = home.sql("SELECT key FROM job_requests ORDER BY requested_at, key")
    assert sorted(keys) == sorted((f"window:ep_1:{number}",) for number in range(1, 26))


@pytest.mark.anyio
async def test_the_last_window_is_closed_with_its_episode(home: Home) -> None:
    """Once; an episode without steps has none."""
    assert await home.close_window() is False
    await home.take(CLEANING)
    assert await home.close_window() is True
    assert await home.close_window() is False
    assert home.sql("SELECT kind, key, lane, agent, episode_id, task_id, payload FROM job_requests") == [
        ("window", "window:ep_1:1", "background", "main", "ep_1", "ta_1", '{"episode_id": "ep_1", "window": 1}')
    ]
    await home.take([user(5, "more"), agent(6, "yes")])
    assert home.sql("SELECT number, steps, state FROM reflection_windows") == [(1, 2, "closed"), (2, 1, "open")]


@pytest.mark.anyio
async def test_at_the_end_of_an_episode_everything_is_taken(home: Home) -> None:
    """An open call without its result; a result that comes after it belongs to the next episode's first step."""
    captured = await home.take(CLEANING[:2], final=True)
    assert [(trace.user_text, trace.tool_calls[0].output) for trace in captured.traces] == [("Clean the roaster", "")]
    home.sql("UPDATE episodes SET state = 'closed'")
    home.seed("episodes", id="ep_2", task_id="ta_1", continues_id="ep_1", state="open")
    late, reply = (await home.take(CLEANING[2:], episode_id="ep_2")).traces
    assert (late.turn_seq, late.step, late.tool_calls[0].name, late.failed) == (1, 1, "unknown_tool", True)
    assert (reply.turn_seq, reply.step, reply.window) == (1, 2, 1)


@pytest.mark.anyio
async def test_a_question_that_nobody_answered_is_dropped(home: Home) -> None:
    """At the end of its episode; when it is all there was, it is kept as a step."""
    await home.take(CLEANING)
    assert (await home.take([user(5, "hm")], final=True)).traces == ()
    home.sql("UPDATE episodes SET state = 'closed'")
    home.seed("episodes", id="ep_2", task_id="ta_1", state="open")
    (alone,) = (await home.take([user(6, "anyone?")], final=True, episode_id="ep_2")).traces
    assert (alone.user_text, alone.agent_text) == ("anyone?", "")


@pytest.mark.anyio
async def test_a_late_reply_keeps_its_question(home: Home) -> None:
    """It came after its episode had ended without one: the question was done with, and is found in the transcript."""
    home.seed("sessions", id="s1", key="agent:main:main", agent="main", origin="live", started_at=T0,
              last_interaction_at=T0, updated_at=T0)  # fmt: skip
    for each in [*CLEANING, user(5, "hm"), user(6, "and the grinder?"), agent(7, "Clean.")]:
        home.seed("messages", session_id="s1", seq=each.seq, role=each.role, text=each.text, fingerprint=b"",
                  created_at=each.at_ms)  # fmt: skip
    home.seed("episode_spans", first_seq=1, last_seq=7, episode_id="ep_1")
    await home.take(CLEANING)
    assert (await home.take([user(5, "hm"), user(6, "and the grinder?")], final=True)).traces == ()
    (late,) = (await home.take([agent(7, "Clean.")])).traces
    assert (late.user_text, late.agent_text, late.turn_seq, late.step) == ("hm\n\nand the grinder?", "Clean.", 5, 0)
    (call,) = (await home.take([agent(8, "", "c9 x 1"), result(9, "c9", "ok")])).traces
    assert (call.turn_seq, call.step) == (5, 1)
    assert await home.take([agent(10, "", "c10 x 1")]) == Captured((), 9, 1)


@pytest.mark.anyio
async def test_an_exchange_that_repeats_is_kept_once(home: Home) -> None:
    """Right after itself; not when something else came between, and never a call that was made again."""
    said = [user(1, "hi"), agent(2, "hello"), user(3, "hi"), agent(4, "hello"), user(5, "bye"), agent(6, "bye")]
    await home.take([*said, user(7, "hi"), agent(8, "hello")])
    assert [trace.first_seq for trace in home.traces()] == [1, 5, 7]
    again = [
        user(9, "go"),
        agent(10, "", "c1 x 1"),
        result(11, "c1", "no"),
        agent(12, "", "c1 x 1"),
        result(13, "c1", "no"),
    ]
    await home.take([*again, agent(14, "it fails")])
    assert [trace.first_seq for trace in home.traces()] == [1, 5, 7, 9, 12, 14]


@pytest.mark.anyio
async def test_nothing_said_is_no_step(home: Home) -> None:
    """An empty reply after a call; the step after it is numbered as if it had not been."""
    await home.take([*CLEANING[:3], agent(4, " "), agent(5, "So.")])
    assert [(trace.first_seq, trace.step) for trace in home.traces()] == [(1, 0), (5, 1)]


@pytest.mark.anyio
async def test_chinese_is_kept_and_found(home: Home) -> None:
    """Cut by characters, found by three of them."""
    await home.take([user(1, "请清洗烘豆机。" + "很脏" * 3_000), agent(2, "好的,已经清洗干净。")])
    (trace,) = home.traces()
    assert (trace.summary, len(trace.user_text)) == ("请清洗烘豆机。", 4_000)
    assert home.sql("SELECT count(*) FROM learned_words WHERE learned_words MATCH '烘豆机'") == [(1,)]


@pytest.mark.anyio
async def test_lightweight_keeps_one_trace_for_each_exchange(home: Home) -> None:
    """With a tag that says so; it waits until the reply is there."""
    home.set(mode="lightweight")
    assert (await home.take(CLEANING[:3])).traces == ()
    (trace,) = (await home.take(CLEANING)).traces
    assert (trace.user_text, trace.agent_text, len(trace.tool_calls)) == ("Clean the roaster", "There is none.", 1)
    assert trace.tags[0] == LIGHTWEIGHT_TAG


KINDS = ["ask", "ask again", "reply", "empty", "call", "call", "result", "stray"]


def _said(kinds: list[str]) -> list[SaidMessage]:
    said: list[SaidMessage] = []
    for seq, kind in enumerate(kinds, start=1):
        match kind:
            case "ask" | "ask again":
                said.append(user(seq, kind))
            case "reply" | "empty":
                said.append(agent(seq, "so" if kind == "reply" else ""))
            case "call":
                said.append(agent(seq, "", f"c{seq} x 1", f"d{seq} x 2"))
            case _:
                made = [each for each in said if each.tool_calls]
                prefix = "c" if kind == "result" else "d"
                said.append(result(seq, f"{prefix}{made[-1].seq}" if made else "none", "ok"))
    return said


@given(st.lists(st.sampled_from(KINDS), max_size=20), st.lists(st.integers(0, 20), max_size=5), st.booleans())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_chunks_give_the_same_traces(
    tmp_path_factory: pytest.TempPathFactory,
    kinds: list[str],
    cuts: list[int],
    lightweight: bool,  # noqa: FBT001 (drawn)
) -> None:
    """A transcript read at once and one read as it grows leave the same rows: ids, numbers, instants and windows."""
    said = _said(kinds)

    async def rows(ends: list[int]) -> list[tuple[Any, ...]]:
        async with open_home(tmp_path_factory.mktemp("home")) as home:
            home.set(mode="lightweight" if lightweight else "full", window_steps=3)
            through = 0
            for end in ends:
                captured = await home.take([each for each in said[:end] if each.seq > through])
                through = max(through, captured.through_seq)
            return [*home.sql("SELECT * FROM traces ORDER BY at"), *home.sql("SELECT * FROM reflection_windows")]

    async def compare() -> None:
        assert await rows(sorted({*(cut for cut in cuts if cut < len(said)), len(said)})) == await rows([len(said)])

    anyio.run(compare)
