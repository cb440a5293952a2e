"""Forgetting, in a home where words have left their traces everywhere."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.dreaming.forgetting import Options
from reverie.errors import RebuildRunsError, RequestError, SessionBusyError, UnknownSessionError
from reverie.importers.conversations import PastSession, import_conversations, import_session
from reverie.memory.passages import embedding_key
from reverie.sessions.restore import restore
from reverie.sessions.retention import archive
from reverie.sessions.store import PastMessage
from reverie.testing import reply
from reverie.types import Message, SessionKey, ThreadBinding, ToolCall, TurnRequest
from tests.integration.dreaming.forgetting_world import (
    DAY,
    KEPT,
    MAIN,
    NOTE,
    SECRET,
    promoted_entry,
    search_call,
    traces,
    world,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.dreaming.forgetting_world import World

pytestmark = pytest.mark.anyio

DIARY = f"""# Dream Diary

<!-- openclaw:dreaming:diary:start -->
---

*December 31, 2025, 3:00 AM*

A quiet night, and {KEPT}.

---

*January 1, 2026, 3:00 AM*

I dreamt of a {SECRET} that would not close.

<!-- openclaw:dreaming:diary:end -->
"""


async def everywhere(here: World) -> str:
    """Leave traces of a conversation everywhere; returns its id."""
    await here.say(f"We decided that the {SECRET} valve is closed at noon.", answer=f"The {SECRET} valve, at noon.")
    await here.say(f"Remember: the {SECRET} valve belongs to Petra.", answer="It does.")
    await here.say(f"The {KEPT} is in the cellar.")
    session = await here.session()
    await here.settle()
    here.model.add(search_call("Who owns the valve?"), reply("Petra does."))
    await here.turn(Message("user", "Who owns the valve that we spoke of?"), key="agent:main:other")
    await here.compacted()
    await here.say("And now?")
    await here.settle()
    place = f"sessions/{session.id}:1-1"
    entry = promoted_entry(f"memory:{place.replace('-1', ':1')}", f"The {SECRET} valve is closed at noon.", place)
    section = f"# Long-Term Memory\n\nMine: {KEPT}.\n\n## Promoted From Short-Term Memory ({DAY})\n\n{entry}"
    await here.write("MEMORY.md", section)
    await here.write(f"memory/dreaming/light/{DAY}.md", light_report(f"The {SECRET} valve is closed at noon.", place))
    await here.write("DREAMS.md", DIARY)
    await changed(here, "c1", section)
    await changed(here, "c2", f"Mine: {KEPT}.\n")
    return session.id


def light_report(text: str, place: str) -> str:
    """A report of light sleep with this passage and another one."""
    return (
        "## Light Sleep\n<!-- openclaw:dreaming:light:start -->\n"
        f"- Candidate: {text}\n  - confidence: 0.80\n  - evidence: {place}\n  - recalls: 3\n  - status: staged\n"
        f"- Candidate: {KEPT}\n  - confidence: 0.80\n  - evidence: memory/2025-12-31.md:1-1\n  - recalls: 3\n"
        "  - status: staged\n<!-- openclaw:dreaming:light:end -->\n"
    )


async def changed(here: World, change_id: str, before: str) -> None:
    """A change of MEMORY.md on record, with what stood there before."""
    row = {"id": change_id, "agent": "main", "path": "MEMORY.md", "kind": "promotion", "before": before.encode()}
    digests = {"before_digest": b"x", "after_digest": b"y", "details": "{}", "at": 1}
    state = here.app.open.state
    await state.write(lambda tx: tx.execute("plan_memory_change", **row, **digests))
    await state.write(lambda tx: tx.execute("end_memory_change", id=change_id, state="applied", at=1))


async def test_a_forgotten_session_is_in_no_file_any_more(tmp_path: Path) -> None:
    """Not in the databases, their logs, the notes, the reports, or MEMORY.md; what was not of it stays."""
    async with world(tmp_path) as here:
        session_id = await everywhere(here)
        before = await asyncio.to_thread(traces, tmp_path)
        planned = await here.plan(session=MAIN)
        unchanged = await asyncio.to_thread(traces, tmp_path)
        done = await here.forget(session=MAIN)
        after = await asyncio.to_thread(traces, tmp_path)
        kept = (
            await here.read("MEMORY.md"),
            await here.read(f"memory/dreaming/light/{DAY}.md"),
            await here.read("DREAMS.md"),
        )
        note = await here.read(NOTE)
        gone = await here.found(f"{SECRET} valve noon Petra")
        changes = await here.rows("SELECT id, kind, before IS NULL FROM memory_changes ORDER BY planned_at, id")
        again = await here.forget(session=session_id)

    assert {name.partition("/")[0] for name in before} == {"agents", "index.db-wal", "state.db-wal"}
    assert unchanged == before
    assert after == {}
    assert planned.counts == done.counts == {
        "sessions": 1, "messages": 8, "summaries": 1, "paragraphs": 3, "entries": 5, "hits": 6, "quotes": 1,
        "passages": 8, "vectors": 7, "promoted": 1, "changes": 1, "reports": 1, "diary": 1,
    }  # fmt: skip
    assert kept == (
        f"# Long-Term Memory\n\nMine: {KEPT}.\n",
        light_report("x", "y").replace(
            light_report("x", "y").split(f"- Candidate: {KEPT}")[0].split("start -->\n")[1], ""
        ),
        DIARY.split("---\n\n*January 1", maxsplit=1)[0] + "<!-- openclaw:dreaming:diary:end -->\n",
    )
    assert note == f"# {DAY}\n"
    assert not any(session_id in citation for citation in gone)
    assert [(kind, bare) for _, kind, bare in changes] == [("promotion", 1), ("promotion", 0), ("forgetting", 1)]
    assert again.counts == {}


async def test_a_dry_run_shows_every_change_of_a_file(tmp_path: Path) -> None:
    """As a unified diff; the same diffs come back when it is done."""
    async with world(tmp_path) as here:
        await everywhere(here)
        planned, done = await here.plan(session=MAIN), await here.forget(session=MAIN)

    diffs = {edit.path: edit.diff for edit in planned.traces.edits}
    assert diffs == {edit.path: edit.diff for edit in done.traces.edits}
    assert list(diffs) == ["MEMORY.md", "DREAMS.md", f"memory/dreaming/light/{DAY}.md", NOTE]
    assert diffs["DREAMS.md"] == (
        "--- a/DREAMS.md\n+++ b/DREAMS.md\n@@ -7,10 +7,4 @@\n \n A quiet night, and marmalade.\n \n----\n-\n"
        f"-*January 1, 2026, 3:00 AM*\n-\n-I dreamt of a {SECRET} that would not close.\n-\n"
        " <!-- openclaw:dreaming:diary:end -->\n"
    )


async def test_the_next_message_under_the_key_begins_anew(tmp_path: Path) -> None:
    """Nothing is left of the old session; a client that still has its history does not bring it back."""
    async with world(tmp_path) as here:
        await here.say(f"The {SECRET} is blue.", answer=f"Blue {SECRET}, noted.")
        old = await here.session()
        await here.forget(session=old.id)
        here.model.add(reply("Hello."))
        history = (
            Message("user", f"The {SECRET} is blue."),
            Message("assistant", f"Blue {SECRET}, noted."),
            Message("user", f"The {KEPT} is red."),
            Message("assistant", "So it is."),
        )
        await here.turn(*history, Message("user", "Hello?"))
        new = await here.session()
        asked = here.model.requests[-1].messages
        found = await asyncio.to_thread(traces, tmp_path)
        texts = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]

    assert new.id != old.id
    assert texts == [f"The {KEPT} is red.", "So it is.", "Hello?", "Hello."]
    assert not any(SECRET in message.text for message in asked)
    assert {name: count for name, count in found.items() if name != "state.db-wal"} == {}


async def test_no_native_thread_is_gone_on_with(tmp_path: Path) -> None:
    """Each of the agent's threads may have been told it: the next turn begins another, in whatever conversation."""
    async with world(tmp_path) as here:
        await here.say(f"The {SECRET} is blue.")
        await here.say("Another one.", "agent:main:other")
        other = await here.session("agent:main:other")
        bindings = here.app.open.bindings
        assert await bindings.bind(await bindings.acquire(other.id), ThreadBinding("thr_1", other.id))
        await here.forget(session=MAIN)
        rows = await here.rows("SELECT session_id, state, thread_id, cleared_for FROM thread_bindings")

    assert rows == [(other.id, "cleared", None, "forgotten")]


async def test_what_the_model_wrote_down_goes_with_its_conversation(tmp_path: Path) -> None:
    """Paragraphs that it noted stand in the day's note no more; a person's own, and mixed ones, stay."""
    async with world(tmp_path) as here:
        await here.write(NOTE, f"# {DAY}\n\nMine: {KEPT}.\n")
        note = ToolCall("c1", "memory_append", json.dumps({"text": f"The {SECRET} valve belongs to Petra of Halden."}))
        here.model.add(reply(calls=[note]), reply("Noted."))
        await here.turn(Message("user", "Please note whose it is."))
        written = await here.read(NOTE)
        await here.forget(session=MAIN)
        after = await here.read(NOTE)

    assert written == f"# {DAY}\n\nMine: {KEPT}.\n\nThe {SECRET} valve belongs to Petra of Halden.\n"
    assert after == f"# {DAY}\n\nMine: {KEPT}.\n"
    assert await asyncio.to_thread(traces, tmp_path) == {}


class TestParticipants:
    """What one person said, in conversations of several."""

    async def test_only_their_messages_and_the_answers_go(self, tmp_path: Path) -> None:
        """The others stay, each with its number; the next prompt is made of what is left."""
        async with world(tmp_path) as here:
            await here.say(f"I keep the {SECRET} at home.", name="Jonas", answer=f"Your {SECRET}, I see.")
            await here.say(f"And I the {KEPT}.", name="Ayo", answer=f"The {KEPT}, fine.")
            await here.settle()
            planned = await here.plan(participant="  jonas ")
            done = await here.forget(participant="Jonas")
            await here.say("Who keeps what?")
            asked = [m.text for m in here.model.requests[-1].messages if m.role != "system"]
            rows = await here.rows("SELECT seq, text, extra, remember FROM messages ORDER BY seq")
            found = await here.found(f"{SECRET} {KEPT}")
            bytes_ = await here.rows("SELECT transcript_bytes FROM sessions")
            session = await here.session()

        forgotten = '{"forgotten":true}'
        assert planned.counts == done.counts
        assert (done.counts["messages"], done.counts["answers"], done.counts["passages"]) == (1, 1, 2)
        assert rows[:3] == [
            (1, "", forgotten, 0),
            (2, "", forgotten, 0),
            (3, f"And I the {KEPT}.", '{"name":"Ayo"}', 1),
        ]
        assert asked == [f"And I the {KEPT}.", f"The {KEPT}, fine.", "Who keeps what?"]
        assert {f"sessions/{session.id}#L3", f"sessions/{session.id}#L4"} <= set(found)
        assert not {f"sessions/{session.id}#L1", f"sessions/{session.id}#L2"} & set(found)
        assert bytes_ == [(sum(len(text.encode()) for _, text, *_ in rows),)]
        assert await asyncio.to_thread(traces, tmp_path) == {}

    async def test_a_replayed_history_does_not_bring_them_back(self, tmp_path: Path) -> None:
        """A client that resends everything is recognised, also where the end of what it knows was forgotten."""
        async with world(tmp_path) as here:
            await here.say(f"The {KEPT} is red.", name="Ayo", answer="Red.")
            await here.say(f"The {SECRET} is blue.", name="Jonas", answer="Blue.")
            await here.forget(participant="Jonas")
            here.model.add(reply("Yes."))
            history = (
                Message("user", f"The {KEPT} is red.", name="Ayo"), Message("assistant", "Red."),
                Message("user", f"The {SECRET} is blue.", name="Jonas"), Message("assistant", "Blue."),
            )  # fmt: skip
            await here.turn(*history, Message("user", "Is it?"))
            texts = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]

        assert texts == [f"The {KEPT} is red.", "Red.", "", "", "Is it?", "Yes."]

    async def test_a_summary_that_may_quote_them_goes(self, tmp_path: Path) -> None:
        """The session shows its transcript again, and its extract is cut out of the daily note."""
        async with world(tmp_path) as here:
            await here.say(f"We decided that the {SECRET} is closed at noon.", name="Jonas")
            await here.say(f"We decided that the {KEPT} stays in the cellar.", name="Ayo")
            await here.compacted()
            await here.say("Go on.", name="Ayo")
            standing = await here.rows("SELECT compaction_id IS NOT NULL, history_start FROM sessions")
            await here.forget(participant="Jonas")
            await here.say("And?", name="Ayo")
            asked = [m.text for m in here.model.requests[-1].messages if m.role != "system"]
            after = await here.rows("SELECT compaction_id, history_start FROM sessions")
            summaries = await here.rows("SELECT state, summary, focus FROM compactions")
            note = await here.read(NOTE)

        assert standing[0][0] == 1
        assert standing[0][1] > 1
        assert (after, summaries) == ([(None, 1)], [("stale", "", "")])
        assert asked[0] == f"We decided that the {KEPT} stays in the cellar."
        assert note == f"# {DAY}\n"
        assert await asyncio.to_thread(traces, tmp_path) == {}

    async def test_a_session_that_followed_is_told_nothing_of_it(self, tmp_path: Path) -> None:
        """What its prompts quoted of the one before goes."""
        async with world(tmp_path) as here:
            await here.say(f"The {SECRET} is blue.", name="Jonas")
            await here.app.reset_session("main")
            await here.say("Hello?")
            told = here.model.requests[-1].messages[0].text
            await here.forget(participant="Jonas")
            await here.say("Hello again?")
            now = here.model.requests[-1].messages[0].text

        assert (SECRET in told, "earlier_conversation" in now) == (True, False)
        assert await asyncio.to_thread(traces, tmp_path) == {}

    async def test_nobody_of_that_name_is_no_error(self, tmp_path: Path) -> None:
        """Nothing is found, and nothing changes."""
        async with world(tmp_path) as here:
            await here.say("Hello?")
            done = await here.forget(participant="Jonas")

        assert (done.counts, done.traces.edits) == ({}, [])


class TestTime:
    """What was said and written within a time."""

    async def test_messages_and_whole_days_of_notes(self, tmp_path: Path) -> None:
        """From the first instant on, before the second; a day that is not wholly within it stays."""
        async with world(tmp_path) as here:
            await here.write("memory/2025-12-31.md", f"The {KEPT} of yesterday.\n")
            await here.write("memory/2026-01-02.md", f"The {SECRET} of tomorrow.\n")
            await here.say(f"Before: {KEPT}.")
            since = here.clock.now_ms()
            await here.say(f"Within: {SECRET}.", answer=f"A {SECRET}.")
            here.clock.advance(days=3)
            until = here.clock.now_ms()
            await here.say(f"After: {KEPT}.")
            await here.settle()
            done = await here.forget(Options(delete_files=True), since_ms=since, until_ms=until)
            texts = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]

        assert texts == [f"Before: {KEPT}.", "Noted.", "", "", f"After: {KEPT}.", "Noted."]
        assert (done.counts["messages"], done.counts["notes"]) == (2, 1)
        assert [edit.path for edit in done.traces.edits] == ["memory/2026-01-02.md"]
        assert await asyncio.to_thread(traces, tmp_path) == {}

    async def test_an_answer_goes_with_its_question(self, tmp_path: Path) -> None:
        """Also where it came after the time was over."""
        async with world(tmp_path) as here:
            here.model.add(search_call(SECRET), reply(f"The {SECRET}."))
            await here.turn(Message("user", f"Where is the {SECRET}?"))
            asked = await here.rows("SELECT created_at FROM messages WHERE seq = 1")
            done = await here.forget(since_ms=asked[0][0], until_ms=asked[0][0] + 1)

        assert (done.counts["messages"] + done.counts.get("answers", 0), done.counts["searches"]) == (4, 1)
        assert await asyncio.to_thread(traces, tmp_path) == {}


class TestNotes:
    """A note that is forgotten."""

    async def test_a_file_that_stays_is_no_memory_any_more(self, tmp_path: Path) -> None:
        """Neither found nor read by the tools; what is written into it afterwards is."""
        async with world(tmp_path) as here:
            await here.write(NOTE, f"# {DAY}\n\nThe {SECRET} is blue.\n\nThe {SECRET} is heavy.\n")
            await here.settle()
            await here.app.open.recalls.record("main", "blue?", (await search(here, "blue")))
            done = await here.forget(source=NOTE)
            excerpt = await here.app.open.memory.get("main", NOTE)
            await here.write(NOTE, f"# {DAY}\n\nThe {SECRET} is blue.\n\nThe {KEPT} is red.\n")
            found = await here.found(f"{SECRET} {KEPT} blue red")
            left = await asyncio.to_thread(traces, tmp_path)

        assert done.counts == {"notes": 1, "entries": 1, "passages": 1, "vectors": 1}
        assert done.traces.remarks == [
            f"The file {NOTE} stays on disk (--delete-file deletes it); it is not memory any more."
        ]
        assert SECRET not in excerpt.text
        assert found == [f"{NOTE}#L5"]
        assert list(left) == [f"agents/main/workspace/{NOTE}"]

    async def test_a_file_is_deleted_and_stays_away(self, tmp_path: Path) -> None:
        """Its content is shown once more; written again, what stood in it stays out of memory."""
        text = f"# {DAY}\n\nThe {SECRET} is blue.\n"
        async with world(tmp_path) as here:
            await here.write(NOTE, text)
            done = await here.forget(Options(delete_files=True), source=NOTE)
            there = await here.read(NOTE)
            gone = await asyncio.to_thread(traces, tmp_path)
            await here.write(NOTE, f"{text}\nThe {KEPT} is red.\n")
            found = await here.found(f"{SECRET} blue {KEPT} red")

        assert done.traces.edits[0].diff == (
            f"--- a/{NOTE}\n+++ /dev/null\n@@ -1,3 +0,0 @@\n-# {DAY}\n-\n-The {SECRET} is blue.\n"
        )
        assert (there, gone) == ("", {})
        assert found == [f"{NOTE}#L5"]

    async def test_a_text_that_stands_elsewhere_keeps_its_vector(self, tmp_path: Path) -> None:
        """Only vectors of texts that stand nowhere any more leave the cache."""
        async with world(tmp_path) as here:
            await here.write("memory/a.md", f"The {KEPT} is red.\n")
            await here.write("memory/b.md", f"The {KEPT} is red.\n\n# Other\n\nThe {SECRET} is blue.\n")
            await here.settle()
            done = await here.forget(source="memory/b.md")
            kept = await here.app.open.memory.cache.count_of_texts([embedding_key(f"The {KEPT} is red.")])

        assert (done.counts["passages"], done.counts["vectors"], kept) == (2, 1, 1)

    async def test_the_same_note_of_another_agent_stays(self, tmp_path: Path) -> None:
        """Agents do not touch each other: not their notes, evidence, passages nor conversations."""
        async with world(tmp_path, agents=("main", "ayo")) as here:
            for agent in ("main", "ayo"):
                await here.write(NOTE, f"The {KEPT} of {agent}.\n", agent)
                await here.say(f"The {KEPT} is red.", f"agent:{agent}:main")
                await here.app.open.recalls.record(agent, "q", await search(here, KEPT, agent))
            await here.settle()
            await here.forget(source=NOTE)
            await here.forget(session=MAIN)
            entries = await here.rows("SELECT DISTINCT agent FROM recall_entries")
            found = [bool(await here.found(KEPT, agent)) for agent in ("main", "ayo")]
            with pytest.raises(UnknownSessionError):
                await here.forget(session="agent:ayo:main")

        assert (entries, found) == ([("ayo",)], [False, True])


async def search(here: World, words: str, agent: str = "main") -> Any:
    """The hits of a search, of notes alone."""
    from reverie.memory.index import SearchQuery

    return (await here.app.open.memory.search(SearchQuery(words, agent, sources=("memory",)))).hits


class TestImports:
    """What was forgotten is not taken in again."""

    async def test_a_history_stays_away(self, tmp_path: Path) -> None:
        """All of it, also sessions of it that were never imported; another history comes in."""
        async with world(tmp_path) as here:
            first = await imported(here, tmp_path, "book", ["1"])
            await here.forget(source="book")
            second = await imported(here, tmp_path, "book", ["1", "2"])
            third = await imported(here, tmp_path, "diary", ["1"])
            keys = await here.rows("SELECT key FROM sessions")

        assert (first.messages_added, second.messages_added, second.skipped) == (2, 0, {"forgotten": 4})
        assert third.messages_added == 2
        assert keys == [("agent:main:import:diary:1",)]

    async def test_a_file_of_nameless_histories_is_a_source(self, tmp_path: Path) -> None:
        """By the file's name; a history whose name only begins like it stays."""
        async with world(tmp_path) as here:
            await imported(here, tmp_path, None, ["1"])
            await imported(here, tmp_path, "talk.jsonl-old", ["1"])
            await here.forget(source="talk.jsonl")
            keys = await here.rows("SELECT key FROM sessions")

        assert keys == [("agent:main:import:talk.jsonl-old:1",)]

    async def test_single_messages_stay_away(self, tmp_path: Path) -> None:
        """The same file again adds nothing, and the rest is where it was; so it is after the session was deleted."""
        async with world(tmp_path) as here:
            await imported(here, tmp_path, "book", ["1"])
            await here.forget(participant="Jonas")
            again = await imported(here, tmp_path, "book", ["1"])
            texts = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]
            session = await here.session("agent:main:import:book:1")
            from reverie.sessions.retention import discard

            await discard(here.app.open.state, session.id)
            anew = await imported(here, tmp_path, "book", ["1"])
            after = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]

        assert (again.messages_added, again.messages_present, again.sessions) == (0, 2, 1)
        assert texts == after == ["", f"The {KEPT} in 1."]
        assert anew.messages_added == 2
        assert await asyncio.to_thread(traces, tmp_path / "agents") == {}

    async def test_a_name_may_be_used_for_another_conversation(self, tmp_path: Path) -> None:
        """Of a session that was forgotten; that one stays away."""
        first, other = past(f"The {SECRET}."), past(f"The {KEPT}.")
        async with world(tmp_path) as here:
            sessions = here.app.open.sessions
            await import_session(sessions, "main", "library", first)
            await here.forget(session="agent:main:import:library:chat")
            kept_out = await import_session(sessions, "main", "library", first)
            taken = await import_session(sessions, "main", "library", other)
            keys = await here.rows("SELECT key FROM sessions")

        assert kept_out is None
        assert taken is not None
        assert keys == [("agent:main:import:library:chat~2",)]

    async def test_an_exported_session_stays_away(self, tmp_path: Path) -> None:
        """It does not come in; of one of which single messages were forgotten, the others do."""
        async with world(tmp_path / "home") as here:
            await here.say(f"The {SECRET} is blue.", name="Jonas", answer="Blue.")
            await here.say(f"The {KEPT} is red.", name="Ayo", answer="Red.")
            session = await here.session()
            state = here.app.open.state
            file = await archive(state, tmp_path / "kept", session.key, session.id)
            await here.forget(participant="Jonas")
            partly = await archive(state, tmp_path / "partly", session.key, session.id)
            from reverie.sessions.retention import discard

            await discard(state, session.id)
            whole = await restore(state, file, now_ms=1)
            texts = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]
            await discard(state, session.id)
            again = await restore(state, partly, now_ms=1)
            same = [row[0] for row in await here.rows("SELECT text FROM messages ORDER BY seq")]
            await here.forget(session=session.id)
            gone = await restore(state, file, now_ms=1)
            left = await here.rows("SELECT count(*) FROM sessions")

        assert (whole.added, again.added) == (4, 4)
        assert texts == same == ["", "", f"The {KEPT} is red.", "Red."]
        assert (gone.forgotten, gone.added, left) == (True, 0, [(0,)])

    async def test_files_of_the_archive_are_named_and_deleted_if_asked(self, tmp_path: Path) -> None:
        """A session that is only there can be forgotten, too; what stays cannot be imported."""
        async with world(tmp_path / "home") as here:
            await here.say(f"The {SECRET} is blue.", name="Jonas")
            session = await here.session()
            file = await archive(here.app.open.state, tmp_path / "home/archive", session.key, session.id)
            named = await here.plan(participant="Jonas")
            await here.forget(session=session.id)
            kept = await here.forget(session=session.id)
            refused = await restore(here.app.open.state, file, now_ms=1)
            done = await here.forget(Options(delete_archives=True), session=MAIN)

        assert named.traces.archives == kept.traces.archives == done.traces.archives == [str(file)]
        assert (refused.forgotten, file.exists()) == (True, False)
        assert any("stays" in remark for remark in kept.traces.remarks)


def past(text: str) -> PastSession:
    """A session of one message."""
    return PastSession("chat", (PastMessage("user", text, "Ann", "", 1),))


async def imported(here: World, folder: Path, history: str | None, sessions: list[str]) -> Any:
    """Import a file with a history: in each session Jonas and Ayo say something."""
    turns = [
        {"session": session, "speaker": who, "text": f"The {what} in {session}."}
        for session in sessions
        for who, what in (("Jonas", SECRET), ("Ayo", KEPT))
    ]
    value: dict[str, Any] = {"turns": turns} | ({"name": history} if history else {})
    file = folder / "talk.jsonl"
    await asyncio.to_thread(file.write_text, json.dumps(value))
    try:
        return await import_conversations(file, here.app.open.sessions, agent="main", now_ms=here.clock.now_ms())
    finally:
        await asyncio.to_thread(file.unlink)


class TestRefusals:
    """What is not done."""

    async def test_a_busy_session_is_left_alone(self, tmp_path: Path) -> None:
        """Neither looked for nor touched while a turn of it runs or waits; afterwards it can be forgotten."""
        import anyio

        async with world(tmp_path) as here:
            gate = anyio.Event()
            here.model.add(reply(f"The {SECRET}, ", gate, "done."))
            feed = await here.app.submit(
                TurnRequest("t1", SessionKey("main", MAIN), (Message("user", f"The {SECRET}?"),))
            )
            with pytest.raises(SessionBusyError, match="is busy"):
                await here.plan(session=MAIN)
            with pytest.raises(SessionBusyError, match="is busy"):
                await here.forget(session=MAIN)
            with pytest.raises(SessionBusyError, match="is busy"):
                await here.forget(since_ms=0)
            gate.set()
            _ = [event async for event in feed.follow()]
            done = await here.forget(session=MAIN)

        assert done.counts["messages"] == 2
        assert await asyncio.to_thread(traces, tmp_path) == {}

    async def test_nothing_is_forgotten_while_the_index_is_rebuilt(self, tmp_path: Path) -> None:
        """It might have been read into the new one already."""
        async with world(tmp_path) as here:
            await here.say("Hello?")
            async with here.app.open.memory.without_rebuild():
                with pytest.raises(RebuildRunsError):
                    await here.forget(session=MAIN)
            await here.forget(session=MAIN)

    @pytest.mark.parametrize(
        ("selection", "param"),
        [
            ({}, "session"),
            ({"session": "main", "source": "book"}, "source"),
            ({"source": NOTE, "participant": "Jonas"}, "source"),
            ({"source": "MEMORY.md"}, "source"),
            ({"source": "../x.md"}, "source"),
            ({"since_ms": 5, "until_ms": 5}, "until"),
            ({"session": "nothing"}, None),
        ],
    )
    async def test_what_makes_no_sense_is_refused(
        self, tmp_path: Path, selection: dict[str, Any], param: str | None
    ) -> None:
        """With the name of the field; an unknown session is told as such."""
        async with world(tmp_path) as here:
            with pytest.raises(RequestError) as refused:
                await here.plan(**selection)

        assert refused.value.param == param
