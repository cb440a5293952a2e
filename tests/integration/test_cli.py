"""The commands on a real home, without a server."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import filelock
import httpx2
import pytest
from typer.testing import CliRunner

from reverie.app import open_app
from reverie.cli.main import app
from reverie.cli.sample_memory import QUESTION, copy_sample
from reverie.cli.talk import Answer, HttpTalk, LocalTalk, UsedMemory
from reverie.config import Home, load_config
from reverie.errors import ReverieError, UnknownModelError
from reverie.gateway.server import create_gateway
from reverie.testing import ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from typer.testing import Result

    from reverie.app import App

SERVICE = "MEMORY.md#L5-L8"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """A home with the sample memory, searched by words alone to be quick."""
    home = Home(tmp_path / "home")
    home.path.mkdir()
    home.config_file.write_text('[memory]\nembedder = "none"\nwatch = false\n', encoding="utf-8")
    copy_sample(home.path / "agents" / "main" / "workspace")
    return home


def run(home: Home, *arguments: str, stdin: str = "") -> Result:
    """Run a command on a home."""
    return CliRunner().invoke(app, [*arguments, "--home", str(home.path)], input=stdin)


def run_json(home: Home, *arguments: str, stdin: str = "") -> Any:
    """Run a command that must work, and its one object."""
    result = run(home, *arguments, "--json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def ignore(_: str) -> None:
    """Pieces of a reply that nobody looks at."""


def taken(home: Home) -> filelock.FileLock:
    """The home as if another process had it."""
    return filelock.FileLock(home.lock_file)


class TestSearch:
    def test_found(self, home: Home) -> None:
        """A hit is its score, its place, its date, and the words that answer."""
        result = run(home, "search", QUESTION, "--limit", "1")

        lines = result.stdout.splitlines()
        assert lines[0] == f" 1  1.00  {SERVICE}"
        assert lines[1].startswith(
            "    The roaster is serviced every six months. Its next service is due on 14 January"
        )

    def test_json(self, home: Home) -> None:
        """With --json a hit has its place, its text and what its score is made of."""
        found = run_json(home, "search", "hazelnut", "--source", "memory")

        assert found["query"] == "hazelnut"
        by_words = [hit for hit in found["hits"] if hit["parts"]["lexical"] > 0]
        assert [hit["citation"] for hit in by_words] == ["MEMORY.md#L10-L13", "memory/2026-09-23.md#L1-L5"]

    def test_explained(self, home: Home) -> None:
        """With --explain each hit says why it is there."""
        result = run(home, "search", "hazelnut", "--explain")

        assert "lexical" in result.stdout
        assert "weights:" in result.stdout

    def test_nothing(self, home: Home) -> None:
        """Nothing found is said, and is no failure."""
        result = run(home, "search", "xylophone")

        assert (result.exit_code, result.stdout) == (0, "Nothing found.\n")

    def test_changed_meanwhile(self, home: Home) -> None:
        """What was written since the last time is found."""
        run(home, "search", "plumber")
        (home.path / "agents" / "main" / "workspace" / "MEMORY.md").write_text(
            "The plumber is Brown.\n", encoding="utf-8"
        )

        assert [hit["path"] for hit in run_json(home, "search", "plumber")["hits"]] == ["MEMORY.md"]

    def test_beside_another_process(self, home: Home) -> None:
        """While another process has the home, its index is searched as it is."""
        run(home, "search", "hazelnut")

        with taken(home):
            assert run_json(home, "search", "hazelnut")["hits"]

    def test_no_home(self, tmp_path: Path) -> None:
        """A home that is not there is not made by looking into it."""
        result = run(Home(tmp_path / "nowhere"), "search", "x")

        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: there is no Reverie home at {tmp_path / 'nowhere'}")
        assert not (tmp_path / "nowhere").exists()

    def test_unknown_agent(self, home: Home) -> None:
        """An agent that does not exist is refused, and those that do are named."""
        result = run(home, "search", "x", "--agent", "work")

        assert result.exit_code == 2
        assert "one of this home's agents (main)" in result.stderr


class TestIndex:
    def test_report(self, home: Home) -> None:
        """Indexing counts what it did; the second time there is nothing to do."""
        first, second = run_json(home, "index"), run_json(home, "index")

        assert first["files"]["main"] == {
            "added": 7, "changed": 0, "renamed": 0, "removed": 0, "unchanged": 0, "skipped": [], "broken": [],
        }  # fmt: skip
        assert second["files"]["main"]["unchanged"] == 7
        assert second["passages"] == first["passages"] > 7

    def test_for_people(self, home: Home) -> None:
        """People get sentences."""
        result = run(home, "index")

        assert result.stdout.startswith("main: 7 note files added, 0 changed, 0 renamed, 0 removed, 0 unchanged\n")

    def test_rebuilt(self, home: Home) -> None:
        """A rebuild reads everything again into another file, which then is the index; nothing is embedded again."""
        run(home, "index")

        assert run_json(home, "index", "--rebuild")["files"]["main"]["added"] == 7
        assert sorted(path.name for path in home.path.glob("index*.db")) == ["index.2.db"]
        assert run_json(home, "index")["files"]["main"] | {"skipped": []} == {
            "added": 0, "changed": 0, "removed": 0, "renamed": 0, "unchanged": 7, "skipped": [], "broken": [],
        }  # fmt: skip

    def test_a_rebuild_that_costs_money(self, home: Home) -> None:
        """Nobody's texts go to a paid server unasked: the number is told, and only --yes begins."""
        run(home, "index")
        home.config_file.write_text(
            '[memory]\nembedder = "openai"\nembedder_base_url = "http://127.0.0.1:9/v1"\n', encoding="utf-8"
        )
        refused = run(home, "index", "--rebuild")
        begun = run(home, "index", "--rebuild", "--yes")

        passages = run_json(home, "status")["index"]["chunks"]
        told = f"error: about {passages} of {passages} texts are not in the cache and would be sent to text-embedding-3"
        assert (refused.exit_code, refused.stderr.startswith(told)) == (1, True), refused.stderr
        assert begun.exit_code == 1
        assert "127.0.0.1:9" in begun.stderr
        assert [path.name for path in home.path.glob("index*.db")] == ["index.db"]

    def test_damaged(self, home: Home) -> None:
        """A damaged index is put aside, and everything is read again."""
        run(home, "index")
        (home.path / "index.db").write_bytes(b"not a database")

        assert run_json(home, "index")["files"]["main"]["added"] == 7
        assert (home.path / "damaged-index.db").read_bytes() == b"not a database"

    @pytest.mark.parametrize("arguments", [("index",), ("index", "--rebuild")])
    def test_home_in_use(self, home: Home, arguments: tuple[str, ...]) -> None:
        """Only one process indexes."""
        run(home, "index")
        before = (home.path / "index.db").read_bytes()

        with taken(home):
            result = run(home, *arguments)

        assert result.exit_code == 1
        assert "is in use by another Reverie" in result.stderr
        assert (home.path / "index.db").read_bytes() == before

    def test_broken_file(self, home: Home) -> None:
        """A file with broken characters is indexed, and named."""
        note = home.path / "agents" / "main" / "workspace" / "memory" / "old.md"
        note.write_bytes(b"caf\xe9 plumber\n")

        result = run(home, "index")

        assert "memory/old.md: some bytes are not UTF-8 and were replaced" in result.stderr


def test_status(home: Home) -> None:
    """Status shows what a home holds; looking changes nothing."""
    run(home, "index")

    status = run_json(home, "status")

    assert status["home"] == str(home.path)
    assert status["server"] is None
    assert status["upstream"] == {"url": None, "model": "offline", "problem": ""}
    assert status["databases"].keys() == {"state.db", "index.db", "embeddings.db"}
    assert status["totals"] == {"sessions": 0, "messages": 0, "turns": {}}
    assert (status["index"]["memory_documents"], status["index"]["vectors_state"]) == (7, "off")
    assert run(home, "status").stdout.splitlines()[0] == f"home       {home.path}"


def test_status_of_a_dead_upstream(home: Home) -> None:
    """A model's server that does not answer is shown as not reachable, with the cause."""
    run(home, "config", "set", "upstream.base_url", "http://127.0.0.1:9/v1")

    status = run_json(home, "status")

    assert status["upstream"]["url"] == "http://127.0.0.1:9/v1"
    assert "cannot connect" in status["upstream"]["problem"]
    assert "NOT reachable" in run(home, "status").stdout


class TestDoctor:
    def test_repaired(self, home: Home) -> None:
        """An error ends with code 1 and its remedy; after --fix the code is 0, and the second run has no finding."""
        home.path.chmod(0o700)
        run(home, "index")
        (home.path / "index.db").write_bytes(b"not a database")
        (home.path / "agents" / "main" / "workspace" / "MEMORY.md").write_text(
            "The plumber is Brown.\n", encoding="utf-8"
        )

        seen = run(home, "doctor")
        assert seen.exit_code == 1
        assert "  error    index.db is damaged  [database.index_damaged]\n" in seen.stdout
        assert seen.stdout.endswith("1 error; `reverie doctor --fix` repairs 1 of them.\n")

        mended = run_json(home, "doctor", "--fix")
        assert [each["check"] for each in mended["findings"] if each["fixed"]] == ["database.index_damaged"]
        assert [hit["path"] for hit in run_json(home, "search", "plumber")["hits"]] == ["MEMORY.md"]
        run(home, "doctor", "--fix")
        assert run(home, "doctor").stdout.endswith("Nothing is wrong.\n")

    def test_a_new_home_is_private(self, tmp_path: Path) -> None:
        """A home that begins with a setting is nobody else's."""
        home = Home(tmp_path / "new")
        run(home, "config", "set", "memory.watch", "false")

        assert home.path.stat().st_mode & 0o777 == 0o700

    def test_wrong_setting(self, home: Home) -> None:
        """A setting that is not valid is a finding here, not the end."""
        home.config_file.write_text("[gateway]\nport = -1\n", encoding="utf-8")

        result = run(home, "doctor")

        assert result.exit_code == 1
        assert "error    the configuration is not valid  [home.config]" in result.stdout

    def test_no_home(self, tmp_path: Path) -> None:
        """Where there is no home there is nothing to examine."""
        assert run(Home(tmp_path / "nowhere"), "doctor").exit_code == 1


class TestRemember:
    def test_remembered(self, home: Home) -> None:
        """A note is written into today's file and can be found."""
        note = run_json(home, "remember", "The plumber is Brown.")

        assert note["path"].startswith("memory/")
        assert note["citation"] == f"{note['path']}#L3"
        assert [hit["path"] for hit in run_json(home, "search", "plumber")["hits"]] == [note["path"]]

    def test_blank(self, home: Home) -> None:
        """A note needs some text."""
        result = run(home, "remember", "  ")

        assert (result.exit_code, result.stderr) == (1, "error: a note needs some text\n")

    def test_beside_another_process(self, home: Home) -> None:
        """While another process has the home, the note is written; that process indexes it."""
        with taken(home):
            assert run(home, "remember", "The plumber is Brown.").exit_code == 0


class TestImport:
    def test_imported_and_found(self, home: Home, tmp_path: Path) -> None:
        """A file of conversations is imported, counted and found, with the speaker and the date."""
        turns = [
            {"session": "S1", "speaker": "Vera", "text": "My bicycle is green.", "when": "2025-12-24"},
            {"session": "S1", "speaker": "assistant", "text": ""},
        ]
        file = tmp_path / "chats.jsonl"
        file.write_text(json.dumps({"name": "talk", "turns": turns}), encoding="utf-8")

        report = run_json(home, "import", "conversation", str(file))

        assert report == {
            "histories": 1,
            "sessions": 1,
            "messages_added": 1,
            "messages_present": 0,
            "skipped": {"no text": 1},
            "indexed_by_server": False,
            "messages_indexed": 1,
            "vectors": 0,
        }
        (hit,) = run_json(home, "search", "green bicycle", "--source", "sessions")["hits"]
        assert (hit["speaker"], hit["when"], hit["start_line"]) == ("Vera", "2025-12-24", 1)
        again = run(home, "import", "conversation", str(file)).stdout
        assert "messages added" in again
        assert "left out: no text" in again

    def test_beside_another_process(self, home: Home, tmp_path: Path) -> None:
        """While another process has the home, that one indexes what is imported."""
        file = tmp_path / "chats.jsonl"
        file.write_text('{"turns": [{"text": "My bicycle is green."}]}\n', encoding="utf-8")

        with taken(home):
            result = run(home, "import", "conversation", str(file))

        assert result.exit_code == 0
        assert "The running server makes it searchable within seconds." in result.stdout

    def test_broken_file(self, home: Home, tmp_path: Path) -> None:
        """A file that is none of ours ends with code 1, naming the line."""
        file = tmp_path / "chats.jsonl"
        file.write_text("{}\n", encoding="utf-8")

        result = run(home, "import", "conversation", str(file))

        assert result.exit_code == 1
        assert result.stderr.startswith(f"error: {file} line 1 is not a conversation: expected an object")


class TestChat:
    def test_question_about_the_sample(self, home: Home) -> None:
        """The first question has an answer from memory, with its place, and shows the memories that were used."""
        answer = run_json(home, "chat", stdin=f"{QUESTION}\n")

        assert answer["session"] == "agent:main:main"
        assert "14 January 2027; Petra from Halden Thermal does it." in answer["text"]
        assert f"[{SERVICE}]" in answer["text"]
        assert SERVICE in [memory["citation"] for memory in answer["memories"]]

    def test_several_messages(self, home: Home) -> None:
        """Each line is a message; /new begins another conversation, /quit ends."""
        result = run(home, "chat", "--json", stdin=f"\n{QUESTION}\n/new\n{QUESTION}\n/quit\nnever asked\n")

        answers = [json.loads(line) for line in result.stdout.splitlines()]
        assert [answer["session"].rpartition(":")[0] for answer in answers] == ["agent:main", "agent:main:chat"]

    def test_for_people(self, home: Home) -> None:
        """Without --json the answer is text, followed by the places of the memories."""
        result = run(home, "chat", stdin=f"{QUESTION}\n")

        assert result.stdout.startswith("No model is connected")
        assert f"\n  {SERVICE}  ## Machines - The roaster is serviced" in result.stdout

    def test_failing_model(self, home: Home) -> None:
        """When the last message gets no answer, the command ends with code 1 and the cause."""
        run(home, "config", "set", "upstream.base_url", "http://127.0.0.1:9/v1")
        run(home, "config", "set", "upstream.retries_max", "0")

        result = run(home, "chat", stdin="hello\n")

        assert result.exit_code == 1
        assert result.stderr.startswith("error: cannot connect to the model's server")

    def test_no_server_at_the_url(self, home: Home) -> None:
        """A server that is not there ends with code 1."""
        result = run(home, "chat", "--url", "http://127.0.0.1:9", stdin="hello\n")

        assert result.exit_code == 1
        assert result.stderr.startswith("error: the server at http://127.0.0.1:9 broke off")


class TestTalk:
    """Both ways to talk give the same."""

    pytestmark = pytest.mark.anyio

    @pytest.fixture
    async def served(self, home: Home) -> AsyncGenerator[App]:
        """An application with a model that says what it was told."""
        copies = ScriptedModel(otherwise=lambda _: "Petra does it, on 14 January [MEMORY.md#L5-L8].")
        config = await asyncio.to_thread(load_config, home)
        async with open_app(home, config, model=copies, embedder=None) as opened:
            await opened.open.memory.settle()
            await opened.open.memory.sync_workspace("main")
            yield opened

    async def test_here_and_through_a_server(self, served: App) -> None:
        """The reply comes in pieces; memories are those that recall surfaced for the turn."""
        transport = httpx2.ASGITransport(app=create_gateway(served))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            through = HttpTalk(client, None, served.open.state, "the server")
            answers: list[Answer] = []
            for talk in (LocalTalk(served, None), through):
                said: list[str] = []
                answers.append(await talk.ask("agent:main:test", QUESTION, said.append))
                assert "".join(said) == answers[-1].text

        here, there = answers
        assert here.text == there.text == "Petra does it, on 14 January [MEMORY.md#L5-L8]."
        assert here.memories[0].citation == there.memories[0].citation == SERVICE
        assert here.memories[0].excerpt.startswith("## Machines - The roaster is serviced every six months.")

    async def test_a_server_elsewhere(self, served: App) -> None:
        """Of a server elsewhere only the places named in its reply are known."""
        transport = httpx2.ASGITransport(app=create_gateway(served))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            answer = await HttpTalk(client, None, None, "the server").ask("agent:main:test", QUESTION, ignore)

        assert answer.memories == (UsedMemory(SERVICE),)

    async def test_unknown_agent(self, served: App) -> None:
        """An agent that does not exist is refused in the same words."""
        transport = httpx2.ASGITransport(app=create_gateway(served))
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            with pytest.raises(UnknownModelError) as here:
                await LocalTalk(served, "work").ask("key", "hello", ignore)
            with pytest.raises(ReverieError) as there:
                await HttpTalk(client, "work", None, "the server").ask("key", "hello", ignore)

        assert str(here.value) == str(there.value) == "The agent 'work' does not exist. Agents: main."
