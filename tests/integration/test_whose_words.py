"""Whose words messages and notes are, by every door through which they come in."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from reverie.cli.main import app as command_line
from reverie.dreaming.recording import claim_hash
from reverie.errors import UpstreamUnreachableError
from reverie.importers.conversations import PastSession, import_session
from reverie.memory.tool_contracts import Asker
from reverie.sessions.export import export_jsonl
from reverie.sessions.restore import restore
from reverie.sessions.store import PastMessage
from reverie.storage import STATE, Database
from reverie.testing import reply
from reverie.types import Message, SearchHit, ToolCall
from tests.planted import FIRST_DAY_MS, MAIN, PAGE, TODAY, World, append_call, compacted, open_world

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio

GROUP = "agent:main:telegram:group:7"
KILN = "The kiln is serviced in May by Mr. Abara."


async def said(world: World, key: str = MAIN) -> list[tuple[str, str]]:
    """Role and provenance of every message of a session."""
    lines = await world.app.open.sessions.read_lines(await world.session_of(key), 1, 100)
    return [(line.role, line.provenance) for line in lines]


async def whose_notes(world: World, path: str = TODAY) -> dict[str, str]:
    """The lines of a note that say something, with whose they are."""
    text = await world.read(path)
    whose = await world.app.open.origins.of_lines("main", text)
    return {line: each for line, each in zip(text.splitlines(), whose, strict=True) if line.strip()}


# -- turns -----------------------------------------------------------------------------------------------------------


async def test_a_conversation_of_the_owner_and_the_agent(tmp_path: Path) -> None:
    """His words are his, and the agent's its own, also on a memory of theirs that its own tools show."""
    async with open_world(tmp_path) as world:
        await world.write("memory/2026-03-01.md", f"# Kiln\n\n{KILN}\n")
        search = reply("Let me look. ", calls=[ToolCall("s1", "memory_search", '{"query": "kiln"}')])
        await world.say("When is the kiln serviced?", answers=(search, "In May."))

        assert await said(world) == [
            ("user", "owner"),
            ("assistant", "agent"),
            ("tool", "agent"),
            ("assistant", "agent"),
        ]


async def test_a_page_makes_its_turn_a_strangers_and_no_other(tmp_path: Path) -> None:
    """What was said before the result came is the agent's; what repeats the page afterwards is not."""
    async with open_world(tmp_path) as world:
        await world.browse(PAGE, "It says that you should pay.")
        await world.say("Thanks. The kiln is hot.", answers=("I will mind the kiln.",))
        await world.say("And?", answers=("Always send all invoices to them.",))

        assert await said(world) == [
            ("user", "owner"), ("assistant", "agent"), ("tool", "untrusted"), ("assistant", "untrusted"),
            ("user", "owner"), ("assistant", "agent"),
            ("user", "owner"), ("assistant", "untrusted"),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "source", "whose"),
    [
        (GROUP, "", ("untrusted", "untrusted")),
        (MAIN, "cron:daily", ("system", "system")),
        ("agent:main:telegram:direct:7", "telegram", ("owner", "agent")),
    ],
)
async def test_others_and_programs(tmp_path: Path, key: str, source: str, whose: tuple[str, str]) -> None:
    """An answer is trusted no more than what it answers."""
    async with open_world(tmp_path) as world:
        await world.say("The kiln is hot.", session=key, source=source)

        assert [each for _, each in await said(world, key)] == list(whose)


async def test_an_untrusted_memory_that_is_quoted_exposes_its_turn(tmp_path: Path) -> None:
    """The prompt says whose words it quotes."""
    async with open_world(tmp_path) as world:
        await world.import_lines({"role": "user", "content": KILN})
        await world.say("When is the kiln serviced?", answers=("In May.",))

        assert 'from="untrusted"' in world.model.requests[-1].messages[-1].text
        assert await said(world) == [("user", "owner"), ("assistant", "untrusted")]


async def test_what_was_said_of_a_turn_that_broke_off_is_nobodys(tmp_path: Path) -> None:
    """Nobody looked into what it rests on."""
    async with open_world(tmp_path) as world:
        await world.say("Hello.", answers=(reply("Good", UpstreamUnreachableError("the line went dead")),))

        assert await said(world) == [("user", "owner"), ("assistant", "untrusted")]


async def test_an_answer_that_a_client_brings_is_nobodys(tmp_path: Path) -> None:
    """One that was given here is recognised, and stays what it was."""
    async with open_world(tmp_path) as world:
        await world.say("one", answers=("Two.",))
        await world.say("one", Message("assistant", "Two."), "three", answers=("Four.",))
        await world.say("five", Message("assistant", "Six."), "seven", session="agent:main:new", answers=("Eight.",))

        assert [each for _, each in await said(world)] == ["owner", "agent", "owner", "agent"]
        assert [each for _, each in await said(world, "agent:main:new")] == ["owner", "untrusted", "owner", "agent"]


# -- notes -----------------------------------------------------------------------------------------------------------


async def test_notes_of_a_turn_are_judged_when_they_are_made(tmp_path: Path) -> None:
    """Before a stranger's text came into the turn it is the agent's note; after it, the stranger's."""
    async with open_world(tmp_path) as world:
        await world.import_lines({"role": "user", "content": PAGE})
        search = reply(calls=[ToolCall("s1", "memory_search", '{"query": "invoices billing"}')])
        first, second = append_call("The kiln is hot today."), append_call("The studio is closed.")
        await world.say("Note the kiln.", answers=(first, search, second, "Done."))
        shown = json.loads(next(m.text for m in world.model.requests[-2].messages[::-1] if m.role == "tool"))

        assert await whose_notes(world) == {
            "# 2026-04-01": "owner", "The kiln is hot today.": "agent", "The studio is closed.": "untrusted",
        }  # fmt: skip
        assert [each["provenance"] for each in shown["results"]] == ["untrusted"]


@pytest.mark.parametrize(("trust", "whose"), [("untrusted", "untrusted"), ("agent", "agent")])
async def test_notes_of_other_callers_are_as_the_settings_say(tmp_path: Path, trust: str, whose: str) -> None:
    """Over MCP and HTTP; nobody knows what they had read."""
    async with open_world(tmp_path, memory={"append_trust": trust}) as world:
        await world.add_note(KILN, Asker("main", "api"))

        assert (await whose_notes(world))[KILN] == whose


async def test_what_the_owner_wrote_stays_his_when_somebody_repeats_it(tmp_path: Path) -> None:
    """A note that stands there already is not written again, and nobody else's because of that."""
    async with open_world(tmp_path) as world:
        await world.write(TODAY, f"# Day\n\n{KILN}\n")
        answer = await world.add_note(KILN, Asker("main"))

        assert (answer["appended"], (await whose_notes(world))[KILN]) == (False, "owner")


async def test_lasting_memory_takes_no_strangers_note(tmp_path: Path) -> None:
    """Whatever `memory.append` allows; the answer says why and what else there is."""
    async with open_world(tmp_path, memory={"append": "any"}) as world:
        refused = await world.add_note(KILN, Asker("main"), "MEMORY.md")
        other = await world.add_note(KILN, Asker("main"), "memory/kiln.md")
        await world.say("Keep it.", answers=(append_call(KILN, path="MEMORY.md"), "Kept."))

        assert (refused["appended"], "memory.append_trust" in refused["error"]) == (False, True)
        assert other["appended"]
        assert KILN not in await world.read("MEMORY.md")  # it is known as a stranger's by now


async def test_the_agents_own_note_may_be_lasting(tmp_path: Path) -> None:
    """Where its owner allows it, and nothing of a stranger's can be behind it."""
    async with open_world(tmp_path, memory={"append": "any"}) as world:
        await world.say("Keep it.", answers=(append_call(KILN, path="MEMORY.md"), "Kept."))

        assert KILN in await world.read("MEMORY.md")


async def test_an_extract_is_its_least_trusted_speakers(tmp_path: Path) -> None:
    """Of a conversation with an answer on a page a stranger's; of one without, the agent's."""
    async with open_world(tmp_path) as world:
        await compacted(world)
        exposed = await whose_notes(world)
        lines = [line for line in exposed if line.startswith("- user") and "kiln must never" in line]

        assert {exposed[line] for line in lines} == {"untrusted"}
    async with open_world(tmp_path / "other") as world:
        await world.say("The kiln must never be opened hot.", answers=("Agreed: never.",))
        await world.say("One more thing.")
        await world.app.request_compaction(MAIN)
        while (await world.app.compactions_of(MAIN))[0].state in {"preparing", "flushed"}:
            await asyncio.sleep(0.005)
        own = await whose_notes(world)

        assert {whose for line, whose in own.items() if line.startswith("- ")} == {"agent"}


# -- imports ---------------------------------------------------------------------------------------------------------


async def test_the_owner_vouches_for_an_import(tmp_path: Path) -> None:
    """At once or later; what is there is raised, and so is what is known of it as recalled; nothing is lowered."""
    messages: Any = ({"role": "user", "content": KILN}, {"role": "assistant", "content": "Noted: Mr. Abara, in May."})
    async with open_world(tmp_path) as world:
        await world.import_lines(*messages)
        await world.recall("kiln Abara")
        (key,) = [row.key for row in await world.app.open.sessions.list_sessions() if row.origin == "import"]
        before = (await said(world, key), {each.provenance for each in await world.entries("Abara")})
        await world.import_lines(*messages, mine=True)
        after = (await said(world, key), [each.provenance for each in await world.entries("Abara")])
        await world.import_lines(*messages)

        assert before == ([("user", "untrusted"), ("assistant", "untrusted")], {"untrusted"})
        assert after == ([("user", "owner"), ("assistant", "agent")], ["owner", "agent"])
        assert await said(world, key) == after[0]


async def test_what_is_foreign_is_not_vouched_for(tmp_path: Path) -> None:
    """Of a conversation that is vouched for, others in a group and answers after a tool stay strangers."""
    past = PastSession("talk", (
        PastMessage("user", "one", "user", "", 1), PastMessage("assistant", "two", "assistant", "", 2, foreign=True),
    ))  # fmt: skip
    async with open_world(tmp_path) as world:
        for mine in (False, True, True):
            imported = await import_session(world.app.open.sessions, "main", "old", past, mine=mine)
            assert imported is not None
        lines = await world.app.open.sessions.read_lines(imported[0], 1, 9)

        assert [line.provenance for line in lines] == ["owner", "untrusted"]


async def test_an_exported_session_comes_back_without_trust_until_it_is_vouched_for(tmp_path: Path) -> None:
    """What it says of whose words are whose is kept to the byte, and counts once the owner says so."""
    async with open_world(tmp_path) as world:
        await world.say(KILN, answers=("Noted: Abara in May.",))
        session_id, pieces = await world.session_of(MAIN), list[bytes]()
        await export_jsonl(world.app.open.state, session_id, pieces.append)
        told = await said(world)
    file = tmp_path / "main.jsonl"
    await asyncio.to_thread(file.write_bytes, b"".join(pieces))
    async with open_world(tmp_path / "other") as world:
        state, again, world.turns = world.app.open.state, list[bytes](), 10
        await restore(state, file, now_ms=FIRST_DAY_MS)
        await world.say("And what now?", answers=("Mr. Abara comes.",))
        await export_jsonl(state, session_id, again.append)
        lowered = await said(world)
        added = (await restore(state, file, now_ms=FIRST_DAY_MS, mine=True)).added

        assert told == [("user", "owner"), ("assistant", "agent")]
        assert lowered == [("user", "untrusted"), ("assistant", "untrusted"), ("user", "owner"), ("assistant", "agent")]
        assert added == 0
        assert await said(world) == [*told, ("user", "owner"), ("assistant", "agent")]
        assert b"".join(again).splitlines()[1:4] == b"".join(pieces).splitlines()[1:4]


def test_the_command_line_vouches(tmp_path: Path) -> None:
    """`--mine` of the three imports; without it everything is a stranger's."""
    chats, folder = tmp_path / "chats.jsonl", tmp_path / "openclaw" / "agents" / "main" / "sessions"
    chats.write_text(json.dumps({"name": "old", "messages": [{"role": "user", "content": KILN}]}), encoding="utf-8")
    folder.mkdir(parents=True)
    message = {"type": "message", "message": {"role": "user", "content": "The boat is red and lies in Ghent."}}
    (folder / "a.jsonl").write_text(json.dumps(message), encoding="utf-8")
    home = tmp_path / "home"
    commands = (("import", "conversation", str(chats)), ("import", "openclaw", str(tmp_path / "openclaw")))

    def run(*arguments: str) -> None:
        result = CliRunner().invoke(command_line, [*arguments, "--home", str(home)])
        assert result.exit_code == 0, result.output

    for command in commands:
        run(*command)
    before = provenances(home)
    for command in commands:
        run(*command, "--mine")
    raised = provenances(home)
    session = CliRunner().invoke(command_line, ["sessions", "list", "--json", "--home", str(home)]).stdout
    name = next(row["id"] for row in json.loads(session)["data"] if ":import:old:" in row["key"])
    run("sessions", "export", name, "--output", str(tmp_path / "one.jsonl"))
    home = tmp_path / "elsewhere"
    run("sessions", "import", str(tmp_path / "one.jsonl"))
    restored = provenances(home)
    run("sessions", "import", str(tmp_path / "one.jsonl"), "--mine")

    assert (before, raised, restored, provenances(home)) == (
        ["untrusted", "untrusted"], ["owner", "owner"], ["untrusted"], ["owner"],
    )  # fmt: skip


def provenances(home: Path) -> list[str]:
    """Whose words the messages of a home are."""

    async def read() -> list[str]:
        state = await Database.open(home / "state.db", STATE, now_ms=1)
        rows = await state.read(lambda tx: tx.rows("messages_after", position=0, limit=100))
        await state.aclose()
        return [row["provenance"] for row in rows]

    return asyncio.run(read())


# -- evidence --------------------------------------------------------------------------------------------------------


async def test_evidence_asks_where_messages_stand(tmp_path: Path) -> None:
    """Not the index: what a search says of a message counts for nothing; of one that is gone nobody knows."""
    async with open_world(tmp_path) as world:
        await world.say(KILN, answers=("Noted: Abara in May.",))
        path = f"sessions/{await world.session_of(MAIN)}"
        hits = [
            SearchHit("sessions", path, 1, 1, KILN, 0.9, provenance="untrusted"),
            SearchHit("sessions", path, 1, 2, f"{KILN} Noted.", 0.9, provenance="untrusted"),
            SearchHit("sessions", path, 9, 9, "The kiln is gone.", 0.9, provenance="owner"),
        ]
        await world.app.open.recalls.record("main", "kiln", hits)

        assert [each.provenance for each in await world.entries()] == ["owner", "agent", "untrusted"]


async def test_evidence_of_a_note_never_rises_while_it_says_the_same(tmp_path: Path) -> None:
    """By another search or another file; words that changed are judged anew."""
    hit = SearchHit("memory", TODAY, 3, 3, KILN, 0.9)
    async with open_world(tmp_path) as world:
        recalls = world.app.open.recalls
        for whose in ("owner", "untrusted", "owner"):
            await recalls.record("main", "kiln", [replace(hit, provenance=whose)])
        (entry,) = await world.entries()
        later = replace(entry, provenance="owner", last_recalled_at_ms=entry.last_recalled_at_ms + 1)
        await recalls.take_in("main", [later], updated_at_ms=1)
        kept = [each.provenance for each in await world.entries()]
        await recalls.record("main", "kiln", [replace(hit, text="The kiln is new.")])

        assert (entry.provenance, kept) == ("untrusted", ["untrusted"])
        assert [each.provenance for each in await world.entries()] == ["owner"]


async def test_evidence_knows_what_programs_wrote_though_the_index_does_not(tmp_path: Path) -> None:
    """And so does an import of OpenClaw's store."""
    async with open_world(tmp_path) as world:
        await world.app.open.origins.register("main", KILN, "untrusted")
        await world.app.open.recalls.record("main", "kiln", [SearchHit("memory", TODAY, 3, 3, KILN, 0.9)])
        await world.import_recalls(startLine=7, endLine=7, snippet=KILN, claimHash=claim_hash(KILN))

        assert [each.provenance for each in await world.entries()] == ["untrusted", "untrusted"]
