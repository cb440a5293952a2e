"""One turn through everything but the wire: queue, transcript, memory, prompt, model, tools."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.app import App, open_app
from reverie.config import Home, load_config
from reverie.errors import ContextTooLongError, HomeInUseError, UpstreamRefusedError
from reverie.memory.index import SearchQuery
from reverie.sessions.events import ContextAssembled, ReplyDelta, ToolFinished, ToolStarted, TurnFinished
from reverie.testing import FakeEmbedder, ScriptedModel, reply
from reverie.types import Message, SessionKey, ToolCall, TurnRequest

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.sessions.events import TurnEvent

pytestmark = pytest.mark.anyio

SEARCH = ToolCall("c1", "memory_search", '{"query":"kiln"}')
WEATHER: dict[str, Any] = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


@asynccontextmanager
async def running(home: Path, *replies: Any, **sections: Any) -> AsyncGenerator[tuple[App, ScriptedModel]]:
    """An app on a scripted model and a fake embedder."""
    config = await asyncio.to_thread(load_config, Home(home), sections)
    with ScriptedModel(*replies) as model:
        async with open_app(Home(home), config, model=model, embedder=FakeEmbedder()) as app:
            yield app, model


def request(turn_id: str, *messages: Message | str, session: str = "agent:main:main", **changes: Any) -> TurnRequest:
    said = tuple(Message("user", m) if isinstance(m, str) else m for m in messages)
    return TurnRequest(turn_id, SessionKey("main", session), said, **changes)


async def turn(app: App, asked: TurnRequest) -> list[TurnEvent]:
    feed = await app.submit(asked)
    return [event async for event in feed.follow()]


async def roles(app: App) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in await app.open.sessions.messages_after(0, 100)]


async def test_the_second_turn_reads_the_first(tmp_path: Path) -> None:
    """History comes from the transcript, not from the client."""
    async with running(tmp_path, reply("Hello Ann."), reply("Ann.")) as (app, model):
        await turn(app, request("t1", "I am Ann."))
        events = await turn(app, request("t2", "Who am I?"))

        assert isinstance(events[-1], TurnFinished)
        assert [m.text for m in model.requests[1].messages[1:]] == ["I am Ann.", "Hello Ann.", "Who am I?"]


async def test_memory_is_quoted_at_the_tail_and_recorded_as_evidence(tmp_path: Path) -> None:
    """What the model was shown is on record, with its place."""
    async with running(tmp_path, reply("In May.")) as (app, model):
        note = app.open.workspaces["main"] / "memory" / "2026-01-02.md"
        await asyncio.to_thread(write, note, "# Kiln\n\nThe kiln is serviced in May by Mr. Abara.\n")
        await app.open.memory.sync_workspace("main")
        events = await turn(app, request("t1", "When is the kiln serviced?"))

        context = next(event.context for event in events if isinstance(event, ContextAssembled))
        assert context.recalled[0].citation.startswith("memory/2026-01-02.md#L")
        assert "<recalled_memory>" in model.requests[0].messages[-1].text
        assert "<recalled_memory>" not in model.requests[0].messages[0].text.split("\n- ")[0].split("inside ")[0]
        rows = await asyncio.to_thread(read_rows, tmp_path / "state.db", "SELECT kind, query FROM recall_events")
        assert rows == [("turn", "When is the kiln serviced?")]
        assert (await roles(app))[0] == ("user", "When is the kiln serviced?")


async def test_the_models_search_is_run_and_its_result_goes_back(tmp_path: Path) -> None:
    """Our tools are a round the client never sees."""
    async with running(tmp_path, reply("Let me look. ", calls=[SEARCH]), reply("It is in May.")) as (app, model):
        events = await turn(app, request("t1", "Kiln?"))

        kinds = [type(event) for event in events]
        assert kinds.index(ToolStarted) < kinds.index(ToolFinished)
        assert isinstance(events[-1], TurnFinished)
        assert (events[-1].text, events[-1].finish_reason) == ("Let me look. It is in May.", "stop")
        assert [m.role for m in model.requests[1].messages[-3:]] == ["user", "assistant", "tool"]
        assert "results" in json.loads(model.requests[1].messages[-1].text)
        assert [role for role, _ in await roles(app)] == ["user", "assistant", "tool", "assistant"]


async def test_a_replayed_answer_with_tool_rounds_is_recognised(tmp_path: Path) -> None:
    """The client resends what it saw: the whole text, without our rounds."""
    async with running(tmp_path, reply("A ", calls=[SEARCH]), reply("B"), reply("C")) as (app, _):
        await turn(app, request("t1", "one"))
        await turn(app, request("t2", "one", Message("assistant", "A B"), "two"))

        assert [text for role, text in await roles(app) if role == "user"] == ["one", "two"]


async def test_our_tools_are_bounded_and_the_last_round_must_answer(tmp_path: Path) -> None:
    """A model that only searches is made to answer."""
    replies = [reply(calls=[SEARCH]), reply(calls=[SEARCH]), reply("Enough.")]
    async with running(tmp_path, *replies, memory={"tool_rounds_max": 3}) as (app, model):
        events = await turn(app, request("t1", "go"))

        assert isinstance(events[-1], TurnFinished)
        assert [len(r.tools) for r in model.requests] == [3, 3, 0]


async def test_the_clients_tools_are_passed_through(tmp_path: Path) -> None:
    """Its call ends the turn; its result begins the next one, in the same session."""
    call = ToolCall("w1", "weather", '{"city":"Oslo"}')
    async with running(tmp_path, reply(calls=[call]), reply("Snow.")) as (app, model):
        first = (await turn(app, request("t1", "Weather?", client_tools=(WEATHER,))))[-1]
        asked = Message("assistant", "", tool_calls=(call,))
        result = Message("tool", "-3", tool_call_id="w1")
        second = (await turn(app, request("t2", "Weather?", asked, result, client_tools=(WEATHER,))))[-1]

        assert isinstance(first, TurnFinished)
        assert (first.finish_reason, first.tool_calls) == ("tool_calls", (call,))
        assert isinstance(second, TurnFinished)
        assert second.text == "Snow."
        assert [m.role for m in model.requests[1].messages] == ["system", "user", "assistant", "tool"]


async def test_calls_of_both_kinds_in_one_message(tmp_path: Path) -> None:
    """Ours are answered, theirs are handed out, and the model finds every result when it goes on."""
    call = ToolCall("w1", "weather", "{}")
    async with running(tmp_path, reply(calls=[SEARCH, call]), reply("Done.")) as (app, model):
        first = (await turn(app, request("t1", "Both", client_tools=(WEATHER,))))[-1]
        asked = Message("assistant", "", tool_calls=(call,))
        result = Message("tool", "-3", tool_call_id="w1")
        await turn(app, request("t2", "Both", asked, result, client_tools=(WEATHER,)))

        assert isinstance(first, TurnFinished)
        assert first.tool_calls == (call,)
        sent = model.requests[1].messages[1:]
        assert [(m.role, m.tool_call_id) for m in sent] == [
            ("user", None),
            ("assistant", None),
            ("tool", "c1"),
            ("tool", "w1"),
        ]


@pytest.mark.parametrize("choice", ["none", "required", {"type": "function", "function": {"name": "weather"}}])
async def test_our_tools_are_not_offered_where_the_client_decides(tmp_path: Path, choice: Any) -> None:
    """A forced or forbidden choice is about the client's tools alone."""
    async with running(tmp_path, reply("ok")) as (app, model):
        await turn(app, request("t1", "x", client_tools=(WEATHER,), tool_choice=choice))

        assert [t["function"]["name"] for t in model.requests[0].tools] == ["weather"]


async def test_a_server_without_tools_is_asked_again_without_ours(tmp_path: Path) -> None:
    """And is not offered them any more."""
    refused = UpstreamRefusedError(
        "does not support tools", upstream_status=400, status=400, kind="x", code="tools_unsupported", retry_after=None
    )
    async with running(tmp_path, refused, reply("ok"), reply("again")) as (app, model):
        await turn(app, request("t1", "x"))
        await turn(app, request("t2", "y"))

        assert [len(r.tools) for r in model.requests] == [3, 0, 0]


async def test_a_message_beyond_the_window_fails_its_turn_and_is_kept(tmp_path: Path) -> None:
    """The caller gets OpenAI's code; the text is in the transcript, and the session goes on."""
    async with running(tmp_path, reply("ok"), upstream={"context_tokens": 2_048, "output_tokens": 64}) as (app, _):
        feed = await app.submit(request("t1", "word " * 20_000))
        with pytest.raises(ContextTooLongError):
            await feed.result()
        await turn(app, request("t2", "short"))

        assert (await app.open.sessions.turn_state("t1") or ("",))[0] == "failed"
        assert [role for role, _ in await roles(app)] == ["user", "user", "assistant"]


async def test_a_finished_turn_is_found_from_another_session(tmp_path: Path) -> None:
    """Transcripts are indexed in the background, moments after the turn."""
    async with running(tmp_path, reply("Noted."), reply("ok")) as (app, model):
        await turn(app, request("t1", "The boat is called Halcyon.", session="s1"))
        await app.open.memory.settle()
        await turn(app, request("t2", "What is the boat called?", session="s2"))

        assert "Halcyon" in model.requests[1].messages[-1].text


async def test_what_is_in_view_is_not_quoted_again(tmp_path: Path) -> None:
    """Recall adds what the prompt lacks: not the transcript in view, not the files of the prefix."""
    async with running(tmp_path, reply("Noted."), reply("ok")) as (app, model):
        await asyncio.to_thread(write, app.open.workspaces["main"] / "MEMORY.md", "# Boat\n\nThe boat is red.\n")
        await app.open.memory.sync_workspace("main")
        await turn(app, request("t1", "The boat is called Halcyon."))
        await app.open.memory.settle()
        await turn(app, request("t2", "What is the boat called?"))

        assert model.requests[1].messages[-1].text == "What is the boat called?"


async def test_an_edited_workspace_file_begins_a_new_epoch(tmp_path: Path) -> None:
    """The next turn reads it, and says why the prefix changed."""
    async with running(tmp_path, reply("a"), reply("b"), reply("c")) as (app, model):
        first = await turn(app, request("t1", "x"))
        await asyncio.to_thread(write, app.open.workspaces["main"] / "MEMORY.md", "# Memory\n\nPrefers tea.\n")
        second = await turn(app, request("t2", "y"))
        third = await turn(app, request("t3", "z"))

        epochs = [e.context for events in (first, second, third) for e in events if isinstance(e, ContextAssembled)]
        assert [context.epoch for context in epochs] == [1, 2, 2]
        assert epochs[1].epoch_reason == "MEMORY.md added"
        assert "Prefers tea." in model.requests[1].messages[0].text


async def test_replies_stream_as_they_come(tmp_path: Path) -> None:
    """Each delta of the model is an event."""
    async with running(tmp_path, reply("one ", "two")) as (app, _):
        events = await turn(app, request("t1", "x", stream=True))

        assert [event.text for event in events if isinstance(event, ReplyDelta)] == ["one ", "two"]


async def test_a_home_belongs_to_one_process(tmp_path: Path) -> None:
    """The second one is told who has it."""
    async with running(tmp_path) as (app, _):
        with pytest.raises(HomeInUseError, match=r"\(process \d+\)"):
            async with open_app(Home(tmp_path), app.config, model=ScriptedModel(), embedder=None):
                pass


async def test_an_older_state_restored_from_a_backup_is_indexed_anew(tmp_path: Path) -> None:
    """What is gone is not found any more, and what is said from then on is."""
    state, backup = tmp_path / "state.db", tmp_path / "backup.db"
    async with running(tmp_path, reply("ok"), reply("ok")) as (app, _):
        await turn(app, request("t1", "The cat is called Pixel."))
        await app.open.memory.settle()
        await asyncio.to_thread(copy_database, state, backup)
        await turn(app, request("t2", "The dog is called Biscuit."))
        await app.open.memory.settle()
    await asyncio.to_thread(backup.replace, state)

    async with running(tmp_path, reply("ok")) as (app, _):
        await turn(app, request("t3", "The parrot is called Admiral."))
        await app.open.memory.settle()
        found = [
            (await app.open.memory.search(SearchQuery(text=name, agent="main", semantic=False))).hits
            for name in ("Pixel", "Biscuit", "Admiral")
        ]

    assert [bool(hits) for hits in found] == [True, False, True]


async def test_questions_asked_before_do_not_crowd_out_the_answer(tmp_path: Path) -> None:
    """However often and in whatever words something was asked, what was told is what is quoted."""
    asked = [f"Where {verb} I {done} the spare key?" for verb in ("did", "have") for done in ("put", "hidden", "left")]
    async with running(tmp_path, *[reply("Hm.")] * 8) as (app, model):
        await turn(app, request("t0", "The spare key is under the third flowerpot.", session="s0"))
        for number, question in enumerate(asked):
            await turn(app, request(f"q{number}", question, session=f"q{number}"))
            await app.open.memory.settle()
        await turn(app, request("t9", "Where is the spare key?", session="s9"))

        quoted = model.requests[-1].messages[-1].text
        assert "flowerpot" in quoted
        assert not any(question in quoted for question in asked)


def copy_database(source: Path, target: Path) -> None:
    connection = apsw.Connection(str(source))
    connection.execute("VACUUM INTO ?", (str(target),))
    connection.close()


def read_rows(path: Path, sql: str) -> list[Any]:
    connection = apsw.Connection(str(path))
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class _Broken(FakeEmbedder):
    """An embedder with a defect: it raises what no embedder should."""

    async def embed_query(self, text: str) -> Any:
        raise ZeroDivisionError(text)


async def test_a_defect_in_memory_costs_the_turn_its_recall_only(tmp_path: Path) -> None:
    """The question is answered all the same."""
    config = await asyncio.to_thread(load_config, Home(tmp_path))
    with ScriptedModel(reply("fine")) as model:
        async with open_app(Home(tmp_path), config, model=model, embedder=_Broken()) as app:
            finished = (await turn(app, request("t1", "Anything?")))[-1]

    assert isinstance(finished, TurnFinished)
    assert finished.text == "fine"
