"""Compaction with real SQLite and a scripted model: prepared behind the turns, adopted between them, never lossy."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.app import App, open_app
from reverie.config import Home, load_config
from reverie.context.compaction.audit import HEADINGS
from reverie.context.compaction.summary import INSTRUCTIONS
from reverie.errors import (
    ContextTooLongError,
    NothingToCompactError,
    ToolLoopError,
    UpstreamRefusedError,
    UpstreamUnreachableError,
)
from reverie.sessions.compactions import Planned
from reverie.sessions.events import TurnFailed, TurnFinished
from reverie.testing import FakeClock, FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, ToolCall, TurnRequest, Usage

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from pathlib import Path

    from reverie.llm.client import ModelRequest
    from reverie.sessions.compactions import Compaction
    from reverie.sessions.events import TurnEvent
    from reverie.testing.scripted_model import ScriptedReply

pytestmark = pytest.mark.anyio

KEY = "agent:main:main"
WINDOW = 8_192
LONG = "The lease of the mill in Aldern was decided on 2026-03-04: 1,250 a month, ticket 88412377. " * 8
GOOD = "\n".join(f"{heading}\n- the lease of the mill, 1,250 a month, ticket 88412377" for heading in HEADINGS)
SEARCH = ToolCall("c1", "memory_search", '{"query":"mill"}')
READ = ToolCall("c1", "memory_get", '{"path":"MEMORY.md"}')


@dataclass
class Script:
    """A model that answers turns at once, and summaries as told."""

    summary: Callable[[ModelRequest], ScriptedReply | str] = lambda _: GOOD
    turn: Callable[[ModelRequest], ScriptedReply | str] | None = None
    counts: bool = True
    turns: list[ModelRequest] = field(default_factory=list)
    summaries: list[ModelRequest] = field(default_factory=list)

    def __call__(self, asked: ModelRequest) -> ScriptedReply | str:
        if asked.messages[0].text == INSTRUCTIONS:
            self.summaries.append(asked)
            return self.summary(asked)
        self.turns.append(asked)
        if self.turn is not None:
            return self.turn(asked)
        return reply(f"Answer {len(self.turns)}. {LONG}", usage=usage(asked) if self.counts else None)


def usage(asked: ModelRequest) -> Usage:
    tokens = sum(len(message.text) for message in asked.messages) // 4
    return Usage(tokens, 10, tokens + 10)


@asynccontextmanager
async def running(home: Path, script: Script, clock: FakeClock | None = None, **sections: Any) -> AsyncGenerator[App]:
    sections = {
        "upstream": {"context_tokens": WINDOW, "output_tokens": 512},
        "memory": {"tools": False, "recall_hits": 0, "watch": False},
        **sections,
    }
    config = await asyncio.to_thread(load_config, Home(home), sections)
    model = ScriptedModel(otherwise=script)
    async with open_app(Home(home), config, model=model, embedder=FakeEmbedder(), clock=clock) as app:
        yield app


def request(turn_id: str, text: str, key: str = KEY) -> TurnRequest:
    return TurnRequest(turn_id, SessionKey("main", key), (Message("user", text),))


async def turn(app: App, turn_id: str, text: str = "", key: str = KEY) -> TurnEvent:
    feed = await app.submit(request(turn_id, text or f"Question {turn_id}? {LONG}", key))
    return [event async for event in feed.follow()][-1]


async def until(app: App, state: str, count: int = 1) -> list[Compaction]:
    """The session's compactions, once `count` of them are in a state."""
    with anyio.fail_after(20):
        while True:
            found = await app.compactions_of(KEY)
            if sum(each.state == state for each in found) >= count:
                return found
            await asyncio.sleep(0.01)


async def until_made(app: App) -> None:
    """Wait until a summary is ready; on a busy machine a turn may have taken it up by the time that is seen."""
    with anyio.fail_after(20):
        while not any(each.state in {"ready", "adopted"} for each in await app.compactions_of(KEY)):
            await asyncio.sleep(0.01)


async def turns_until_ready(app: App, script: Script) -> int:
    """Talk until a summary is ready; how many turns that took. It is held while turns run: none takes it up."""
    seen, answer = anyio.Event(), script.summary
    script.summary = lambda asked: held_back(seen, answer(asked))
    for number in range(1, 60):
        assert isinstance(await turn(app, f"t{number}"), TurnFinished)
        await asyncio.sleep(0.02)
        if script.summaries:
            seen.set()
            await until_made(app)
            return number
    raise AssertionError("no summary was ever ready")


def held_back(by: anyio.Event, answer: ScriptedReply | str) -> ScriptedReply:
    """An answer that comes only when somebody says so."""
    return reply(by, answer) if isinstance(answer, str) else replace(answer, steps=(by, *answer.steps))


def memory_text(app: App) -> str:
    folder = app.open.workspaces["main"] / "memory"
    return "".join(path.read_text(encoding="utf-8") for path in sorted(folder.glob("????-??-??.md")))


async def test_a_summary_is_prepared_behind_the_turns_and_adopted_by_the_next(tmp_path: Path) -> None:
    """No turn waits; the next one shows the summary instead of what it stands for, and the tail word for word."""
    script = Script()
    async with running(tmp_path, script) as app:
        count = await turns_until_ready(app, script)
        ready = (await app.compactions_of(KEY))[0]
        await turn(app, "next", "What was decided?")
        adopted = (await app.compactions_of(KEY))[0]

        shown = script.turns[-1].messages
        assert ready.flushed_to
        assert (adopted.state, adopted.cause in {"threshold", "preflight"}) == ("adopted", True)
        assert "<conversation_summary" in shown[0].text
        assert "the lease of the mill" in shown[0].text
        assert len(shown) < 2 * count
        assert shown[1].role == "user"
        assert shown[-1].text == "What was decided?"
        assert "ticket 88412377" in await asyncio.to_thread(memory_text, app)


async def test_turns_run_while_a_summary_is_being_written(tmp_path: Path) -> None:
    """A model that takes its time over the summary holds nobody up."""
    release = anyio.Event()
    script = Script(summary=lambda _: reply(release, GOOD))
    async with running(tmp_path, script) as app:
        for number in range(1, 30):
            await turn(app, f"t{number}")
            if script.summaries:
                break
        for number in range(3):
            assert isinstance(await turn(app, f"while{number}", "And now?"), TurnFinished)
        assert (await app.compactions_of(KEY))[0].state == "flushed"
        release.set()
        await until(app, "ready")
        await turn(app, "after", "Go on.")
        assert (await app.compactions_of(KEY))[0].state == "adopted"


async def test_the_prompt_after_adoption_is_stable(tmp_path: Path) -> None:
    """One new epoch, for a reason that is recorded; from then on the beginning is the same, byte for byte."""
    script = Script()
    async with running(tmp_path, script) as app:
        await turns_until_ready(app, script)
        for number in range(3):
            await turn(app, f"after{number}", "Short.")
        sessions = await app.open.sessions.list_sessions()

        first, second, third = (asked.messages for asked in script.turns[-3:])
        assert second[: len(first)] == first
        assert third[: len(second)] == second
        assert sessions[0].epoch == 2


async def test_a_summary_made_on_another_state_is_stale(tmp_path: Path) -> None:
    """Compare-and-set: whoever adopts first wins, the other is put aside and the history stands."""
    script = Script()
    async with running(tmp_path, script) as app:
        await turns_until_ready(app, script)
        ready = (await app.compactions_of(KEY))[0]
        planned = Planned(ready.session_id, "overflow", None, 1, 4, None)
        won = await app.compactions.adopt_now(
            planned, "By rule.", audit={}, flushed_to="memory/x.md", tokens_after=None
        )
        lost = await app.compactions.adopt_now(
            planned, "By rule.", audit={}, flushed_to="memory/x.md", tokens_after=None
        )

        states = {each.id: each.state for each in await app.compactions_of(KEY)}
        assert won is not None
        assert lost is None
        assert states == {ready.id: "stale", won.id: "adopted"}


async def test_a_restart_goes_on_where_the_preparation_stopped(tmp_path: Path) -> None:
    """Stopped between the extract and the summary: the extract is not written twice, the summary is made."""
    script = Script(summary=lambda _: reply(anyio.Event(), GOOD))
    async with running(tmp_path, script) as app:
        for number in range(1, 30):
            await turn(app, f"t{number}")
            if script.summaries:
                break
        await until(app, "flushed")
        noted = await asyncio.to_thread(memory_text, app)
    script.summary = lambda _: GOOD
    async with running(tmp_path, script) as app:
        await until(app, "ready")
        assert await asyncio.to_thread(memory_text, app) == noted
        await turn(app, "after", "Go on.")
        assert (await app.compactions_of(KEY))[0].state == "adopted"


async def test_a_failing_model_leaves_the_history_alone(tmp_path: Path) -> None:
    """The try is counted with its cause; the next turn has everything word for word."""
    script = Script(summary=lambda _: reply(UpstreamUnreachableError("no route")))
    async with running(tmp_path, script) as app:
        for number in range(1, 30):
            await turn(app, f"t{number}")
            if script.summaries:
                break
        with anyio.fail_after(10):
            while not (await app.compactions_of(KEY))[0].attempts:
                await asyncio.sleep(0.01)
        await turn(app, "after", "Go on.")
        missed = (await app.compactions_of(KEY))[0]

        assert (missed.state, missed.attempts, missed.error) == ("flushed", 1, "no route")
        assert script.turns[-1].messages[1].text.startswith("Question t1?")


async def test_the_third_failure_ends_a_compaction_and_the_session_is_left_alone(tmp_path: Path) -> None:
    """Bounded: a model that cannot summarise is not asked with every turn."""
    clock = FakeClock()
    script = Script(summary=lambda _: reply(UpstreamUnreachableError("no route")))
    async with running(tmp_path, script, clock) as app:
        for number in range(1, 30):
            await turn(app, f"t{number}")
            if script.summaries:
                break
        for attempt in (1, 2):
            with anyio.fail_after(10):
                while (await app.compactions_of(KEY))[0].attempts < attempt:
                    await asyncio.sleep(0.01)
            clock.advance(seconds=40)
            await app.compactor.work()
        failed = await until(app, "failed")
        await turn(app, "more")
        await asyncio.sleep(0.1)
        assert len(script.summaries) == 3
        assert [each.state for each in await app.compactions_of(KEY)] == ["failed"]

        clock.advance(seconds=700)
        script.summary = lambda _: GOOD
        await turn(app, "later")
        found = await until(app, "ready")
        assert [each.state for each in found] == ["ready", "failed"]
        assert found[0].first_seq == failed[0].first_seq


async def test_the_extract_is_durable_before_a_summary_is_asked_for(tmp_path: Path) -> None:
    """When the model is called, memory has the stretch already."""
    release = anyio.Event()
    script = Script(summary=lambda _: reply(release, GOOD))
    async with running(tmp_path, script) as app:
        for number in range(1, 30):
            await turn(app, f"t{number}")
            if script.summaries:
                break
        noted = await asyncio.to_thread(memory_text, app)
        under_way = (await app.compactions_of(KEY))[0]

        assert (under_way.state, under_way.flushed_to is not None) == ("flushed", True)
        assert "## Conversation agent:main:main, messages 1 to" in noted
        assert "<!-- reverie:compaction " in noted
        release.set()


async def test_a_summary_that_lacks_something_is_asked_for_again_and_then_mended(tmp_path: Path) -> None:
    """The second question names what was missing; what is missing still is put in by rule."""
    script = Script(summary=lambda _: "## Decisions\n- something")
    async with running(tmp_path, script) as app:
        await turns_until_ready(app, script)
        made = (await app.compactions_of(KEY))[0]

        assert len(script.summaries) == made.audit["calls"]
        assert ["A first try lacked" in asked.messages[1].text for asked in script.summaries[-2:]] == [False, True]
        assert made.audit["passed"] is False
        assert "88412377" in made.audit["missing_identifiers"]
        assert "88412377" in made.summary
        assert [line for line in made.summary.splitlines() if line in HEADINGS] == list(HEADINGS)


async def test_a_memory_that_cannot_be_written_lets_nothing_be_adopted(tmp_path: Path) -> None:
    """The flush comes first on every way; without it turns go on as they can, and the transcript is whole."""
    clock = FakeClock()
    script = Script(counts=False)
    async with running(tmp_path, script, clock) as app:
        note = app.open.workspaces["main"] / "memory" / "2026-01-01.md"
        await asyncio.to_thread(note.symlink_to, tmp_path / "elsewhere.md")
        for number in range(40):
            assert isinstance(await turn(app, f"t{number}"), TurnFinished)
        found = await app.compactions_of(KEY)

        assert {each.state for each in found} <= {"preparing", "failed"}
        assert "symbolic link" in (found[0].error or "")
        assert "<conversation_summary" not in script.turns[-1].messages[0].text
        assert not (tmp_path / "elsewhere.md").exists()


async def test_a_later_summary_is_made_of_the_one_before(tmp_path: Path) -> None:
    """The record is distilled anew, not strung together; each says which messages it stands for."""
    script = Script()
    async with running(tmp_path, script) as app:
        for number in range(60):
            await turn(app, f"t{number}")
            await asyncio.sleep(0.01)
            if sum(each.state == "adopted" for each in await app.compactions_of(KEY)) == 2:
                break
        second, first = [each for each in await app.compactions_of(KEY) if each.state == "adopted"]

        assert (second.base_id, first.base_id, first.first_seq) == (first.id, None, 1)
        assert second.first_seq == first.last_seq + 1
        assert "<earlier_record>" in script.summaries[-1].messages[1].text


async def test_expansion_returns_the_messages_exactly(tmp_path: Path) -> None:
    """What a summary stands for is still there, word for word, page by page."""
    script = Script()
    async with running(tmp_path, script) as app:
        await turns_until_ready(app, script)
        await turn(app, "after", "Go on.")
        made = (await app.compactions_of(KEY))[0]
        page = await app.expand_compaction(made, 0)
        said = [(seq, message) for seq, message, _ in page.messages]

        lines = await app.open.sessions.read_lines(made.session_id, made.first_seq, len(said))
        assert said == [(line.seq, Message(line.role, line.text)) for line in lines]
        assert not page.more
        assert (await app.expand_compaction(made, made.last_seq - 1)).messages == page.messages[-1:]


async def test_a_person_asks_for_a_compaction(tmp_path: Path) -> None:
    """It goes down to the last turn, keeps their wish in mind, and asked again it is the same one."""
    release = anyio.Event()
    script = Script(summary=lambda _: reply(release, GOOD))
    async with running(tmp_path, script) as app:
        with pytest.raises(NothingToCompactError):
            await app.request_compaction(KEY)
        await turn(app, "t1", "The mill is leased.")
        with pytest.raises(NothingToCompactError):
            await app.request_compaction(KEY)
        await turn(app, "t2", "And the boat?")
        asked = await app.request_compaction(KEY, "the boat")
        again = await app.request_compaction(KEY)
        release.set()
        await until(app, "ready")
        await turn(app, "t3", "Go on.")

        assert (asked.cause, asked.first_seq, asked.last_seq, again.id) == ("manual", 1, 2, asked.id)
        assert "above all: the boat" in script.summaries[0].messages[1].text
        assert next(m.text for m in script.turns[-1].messages[1:]) == "And the boat?"


async def test_history_without_room_gives_way_to_a_summary_by_rule(tmp_path: Path) -> None:
    """No time to ask a model: what leaves the prompt is extracted and summarised by rule first, in the same turn."""
    script = Script(summary=lambda _: reply(anyio.Event(), GOOD), counts=False)
    async with running(tmp_path, script) as app:
        for number in range(40):
            assert isinstance(await turn(app, f"t{number}"), TurnFinished)
        made = [each for each in await app.compactions_of(KEY) if each.state == "adopted"]

        assert made
        assert {each.cause for each in made} == {"preflight"}
        assert all(each.flushed_to for each in made)
        assert "<conversation_summary" in script.turns[-1].messages[0].text
        assert "1,250 a month" in script.turns[-1].messages[0].text
        assert "messages 1 to" in await asyncio.to_thread(memory_text, app)


def refusal(message: str) -> UpstreamRefusedError:
    return UpstreamRefusedError(
        f"the model's server at x answered HTTP 400: {message}",
        upstream_status=400, status=400, kind="invalid_request_error", code=None, retry_after=None,
    )  # fmt: skip


async def test_a_refused_prompt_is_made_smaller_and_sent_again(tmp_path: Path) -> None:
    """The limit the server names is believed; the message stands once in the transcript; the session is the same."""
    script = Script()

    def answer(asked: ModelRequest) -> ScriptedReply | str:
        size = sum(len(message.text) for message in asked.messages) // 4
        if size > 3_000:
            return reply(refusal(f"This model's maximum context length is 3000 tokens, you requested {size} tokens."))
        return reply("Fine. " + LONG, usage=usage(asked))

    async with running(tmp_path, script, compaction={"timeout_s": 5}) as app:
        script.turn = answer
        ends = [await turn(app, f"t{number}") for number in range(20)]
        messages = await app.open.sessions.messages_after(0, 200)
        sessions = await app.open.sessions.list_sessions()

        assert all(isinstance(end, TurnFinished) for end in ends)
        assert [m.text for m in messages if m.role == "user"] == [f"Question t{n}? {LONG}" for n in range(20)]
        assert len(sessions) == 1
        assert any(each.state == "adopted" for each in await app.compactions_of(KEY))


async def test_a_prompt_that_stays_too_large_ends_in_a_clear_error(tmp_path: Path) -> None:
    """At most three further tries; nothing is reset, and the session goes on."""
    script = Script()
    async with running(tmp_path, script) as app:
        for number in range(6):
            await turn(app, f"t{number}")
        script.turn = lambda _: reply(refusal("prompt is too long"))
        before = len(script.turns)
        end = await turn(app, "large", "One more.")
        tries = len(script.turns) - before
        script.turn = None
        after = await turn(app, "after", "And now?")

        assert isinstance(end, TurnFailed)
        assert isinstance(end.error, ContextTooLongError)
        assert "Context overflow" in str(end.error)
        assert end.error.code == "context_length_exceeded"
        assert 2 <= tries <= 4
        assert isinstance(after, TurnFinished)
        assert len(await app.open.sessions.list_sessions()) == 1


async def test_large_tool_results_are_shortened_before_history_gives_way(tmp_path: Path) -> None:
    """What one turn's tools brought is cut for the model only; the transcript keeps it."""
    weather: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    call = ToolCall("w1", "weather", "{}")
    script = Script()

    def answer(asked: ModelRequest) -> ScriptedReply | str:
        if asked.messages[-1].role != "tool":
            return reply(calls=[call])
        return reply(refusal("prompt is too long")) if len(asked.messages[-1].text) > 5_000 else "Snow."

    async with running(tmp_path, script) as app:
        script.turn = answer
        first = TurnRequest("t1", SessionKey("main", KEY), (Message("user", "Weather?"),), client_tools=(weather,))
        feed = await app.submit(first)
        await feed.result()
        result = Message("tool", "cold " * 2_000, tool_call_id="w1")
        asked = Message("assistant", "", tool_calls=(call,))
        second = TurnRequest(
            "t2", SessionKey("main", KEY), (Message("user", "Weather?"), asked, result), client_tools=(weather,)
        )
        finished = await (await app.submit(second)).result()
        kept = [m.text for m in await app.open.sessions.messages_after(0, 50) if m.role == "tool"]

        assert finished.text == "Snow."
        assert kept == [result.text]
        assert await app.compactions_of(KEY) == []


async def test_the_same_tool_call_over_and_over_after_a_compaction_ends_the_turn(tmp_path: Path) -> None:
    """A model that lost its place is stopped with a clear error."""
    script = Script()
    sections: dict[str, Any] = {"memory": {"recall_hits": 0, "watch": False}}
    async with running(tmp_path, script, **sections) as app:
        await turn(app, "t1", "The mill is leased.")
        await turn(app, "t2", "And the boat?")
        await app.request_compaction(KEY)
        await until(app, "ready")
        script.turn = lambda _: reply(calls=[READ])
        end = await turn(app, "loop", "Look it up.")

        assert isinstance(end, TurnFailed)
        assert isinstance(end.error, ToolLoopError)
        assert end.error.code == "compaction_loop_persisted"


async def test_a_hundred_compactions_stay_within_bounds(tmp_path: Path) -> None:
    """Summaries of summaries: none grows, every one is adopted, every message stays, the spans leave no gap."""
    script = Script(summary=lambda asked: GOOD + f"\n- as of {len(asked.messages[1].text)}")
    async with running(tmp_path, script) as app:
        for number in range(102):
            await turn(app, f"t{number}", f"Note {number}: the mill is leased.")
            if number:
                asked = await app.request_compaction(KEY)
                with anyio.fail_after(20):
                    while (await app.find_compaction(asked.id)).state != "ready":  # type: ignore[union-attr]
                        await asyncio.sleep(0.002)
        await turn(app, "last", "Well?")
        found = list(await app.compactions_of(KEY))[::-1]

        assert len(found) == 100  # the page's bound; there are 101
        assert {each.state for each in found} == {"adopted"}
        assert all(after.first_seq == before.last_seq + 1 for before, after in itertools.pairwise(found))
        assert max(len(each.summary) for each in found) <= 3_276
        assert len(script.turns[-1].messages) <= 4
        count = len([m for m in await app.open.sessions.messages_after(0, 1_000) if m.role == "user"])
        assert count == 103


async def test_the_token_count_is_the_last_calls_prompt(tmp_path: Path) -> None:
    """Never the sum over a tool loop; a server that does not count leaves the figure, no longer fresh."""
    script = Script()
    counts = iter([Usage(700, 1, 701), Usage(900, 1, 901), None])
    replies = iter([True, False, False])

    def answer(_: ModelRequest) -> ScriptedReply:
        return reply("ok", calls=[SEARCH] if next(replies) else [], usage=next(counts))

    script.turn = answer
    async with running(tmp_path, script, memory={"recall_hits": 0, "watch": False}) as app:
        await turn(app, "t1", "Look it up.")
        session_id = (await app.open.sessions.list_sessions())[0].id
        counted = await app.compactions.load(session_id)
        await turn(app, "t2", "Again.")
        uncounted = await app.compactions.load(session_id)

        assert counted is not None
        assert counted.prompt_tokens == 900
        assert counted.bytes_since == len("ok")
        assert uncounted is not None
        assert uncounted.prompt_tokens is None


async def test_a_transcript_that_is_too_large_is_compacted_whatever_its_tokens(tmp_path: Path) -> None:
    """The byte trigger: off by default, and never a cut through a message."""
    script = Script()
    script.turn = lambda _: reply(LONG * 2, usage=Usage(50, 1, 51))
    async with running(tmp_path, script, compaction={"transcript_bytes_max": 20_000}) as app:
        for number in range(25):
            await turn(app, f"t{number}", f"Short {number}.")
        found = await until(app, "adopted")
        assert found[-1].cause == "bytes"


async def test_switched_off_nothing_is_compacted_by_itself(tmp_path: Path) -> None:
    """History that has no room leaves the prompt as ever, and a person may still ask."""
    script = Script()
    async with running(tmp_path, script, compaction={"enabled": False}) as app:
        for number in range(30):
            await turn(app, f"t{number}")
        assert await app.compactions_of(KEY) == []
        assert len(script.turns[-1].messages) < 40
        await app.request_compaction(KEY)
        await until(app, "ready")
