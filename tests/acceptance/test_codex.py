"""An agent on the real Codex, behind the real server: its memory over MCP, kills, callers who leave."""

from __future__ import annotations

import json
import threading
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from reverie.testing.fake_responses import Answer, FakeResponses, FunctionCall, serve_in_thread
from tests.acceptance.servers import Server, sdk, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(find_spec("codex_cli_bin") is None, reason="the extra `codex` is not installed")

TOKEN = "a-token-of-test"
SEARCH = FunctionCall("memory_search", json.dumps({"query": "roaster drum"}), namespace="mcp__reverie")
NOTE = FunctionCall("memory_append", json.dumps({"text": "Gretel is the roaster in Bremen."}), namespace="mcp__reverie")


@dataclass
class OnCodex:
    """A server whose agent runs on Codex, and the model's server behind it."""

    server: Server
    responses: FakeResponses

    def children(self) -> list[int]:
        """The processes that the server has started."""
        listed = Path(f"/proc/{self.server.pid}/task").glob("*/children")
        return [int(child) for file in listed for child in file.read_text().split()]


def runs(pid: int) -> bool:
    """Whether a process is there and has not ended."""
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())
    except OSError:
        return False


@pytest.fixture
def codex(server: Server) -> Iterator[OnCodex]:
    """Not started yet."""
    responses = FakeResponses(otherwise=lambda request: Answer(f"answer {request.number}"))
    with serve_in_thread(responses.app) as address:
        server.home.mkdir()
        settings = f"""
[agents.main]
runtime = "codex"
[agents.main.codex]
base_url = "{address}/v1"
model = "fake-model"
[memory]
embedder = "none"
recall_hits = 0
watch = false
"""
        (server.home / "config.toml").write_text(settings)
        yield OnCodex(server, responses)


def test_memory_is_a_tool_of_codex(codex: OnCodex) -> None:
    """It searches and adds to our memory over MCP, with the server's token; what it found is evidence."""
    server = codex.server
    server.environment |= {"REVERIE_GATEWAY__AUTH": "token", "REVERIE_TOKEN": TOKEN}
    note = server.home / "agents" / "main" / "workspace" / "memory" / "2026-10-12.md"
    note.parent.mkdir(parents=True)
    note.write_text("# Roaster\n\nThe drum squeaked; Petra greased the front bearing.\n")
    server.start()
    codex.responses.then(Answer("", calls=(SEARCH,)), Answer("", calls=(NOTE,)), Answer("It was the bearing."))
    answer = server.chat("What was wrong with the drum?", headers={"Authorization": f"Bearer {TOKEN}"})

    assert answer.text == "It was the bearing."
    first, second, third = codex.responses.requests
    offered = next(tool for tool in first.tools if tool.get("name") == "mcp__reverie")["tools"]
    assert sorted(tool["name"] for tool in offered) == ["memory_append", "memory_get", "memory_search"]
    assert "Petra greased the front bearing" in second.input[-1]["output"]
    assert '"appended":true' in third.input[-1]["output"].replace(" ", "")
    assert [role for role, _ in server.transcript()] == ["user", "assistant", "tool", "assistant", "tool", "assistant"]
    notes = [file.read_text() for file in note.parent.glob("*.md")]
    assert any("Gretel is the roaster in Bremen." in each for each in notes)
    assert server.recall_kinds() == ["tool"]
    assert TOKEN not in "".join(file.read_text() for file in (server.home / "codex").rglob("*.toml"))


def test_killed_and_started_again_the_thread_is_warm(codex: OnCodex) -> None:
    """Kill -9 ends Codex too; the next process resumes the thread, and the model reads an identical beginning."""
    server = codex.server
    server.start()
    client = sdk(server)
    said = client.chat.completions.create(model="reverie", user="main", messages=[{"role": "user", "content": "one"}])
    assert said.choices[0].message.content == "answer 1"
    assert said.usage is not None
    assert said.usage.prompt_tokens == codex.responses.requests[0].prompt_tokens
    children = codex.children()
    server.kill()
    until(lambda: not [pid for pid in children if runs(pid)], "Codex has ended")
    server.start()

    assert server.chat("two").text == "answer 2"
    one, two = codex.responses.requests
    assert two.repeated.identical_bytes == one.repeated.prompt_bytes
    assert two.texts()[-1] == "two"
    assert server.transcript() == [
        ("user", "one"),
        ("assistant", "answer 1"),
        ("user", "two"),
        ("assistant", "answer 2"),
    ]


def test_killed_within_a_turn_the_next_one_is_right(codex: OnCodex) -> None:
    """The turn that ran is failed; the thread goes on, and nothing of what was said is missing or doubled."""
    server = codex.server
    server.start()
    server.chat("one")
    codex.responses.then(Answer("Never ever.", chunks=2, held_by=threading.Event()))
    with suppress(OSError):
        stream = {"model": "reverie", "user": "main", "stream": True, "messages": [{"role": "user", "content": "two"}]}
        asked = urllib.request.Request(
            f"{server.url}/v1/chat/completions", json.dumps(stream).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            while b"Never" not in answer.readline():
                pass
            server.kill()
    server.start()

    assert server.chat("three").text == "answer 3"
    assert server.turn_states() == ["answered", "failed", "answered"]
    assert len({request.thread for request in codex.responses.requests}) == 1
    last = codex.responses.requests[-1]
    assert last.texts()[-1] == "three"
    assert sum(text == "two" for text in last.texts()) == 1
    assert last.repeated.changed_bytes == 0


def test_a_caller_who_leaves_does_not_lose_the_turn(codex: OnCodex) -> None:
    """It goes on in Codex, and its answer is in the transcript."""
    server = codex.server
    server.start()
    held = threading.Event()
    codex.responses.then(Answer("Here it is.", chunks=2, held_by=held))
    stream = {"model": "reverie", "user": "main", "stream": True, "messages": [{"role": "user", "content": "one"}]}
    asked = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(stream).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=20) as answer:
        while b"Here" not in answer.readline():
            pass
    held.set()
    until(lambda: server.turn_states() == ["answered"], "the turn is answered")
    assert server.transcript() == [("user", "one"), ("assistant", "Here it is.")]


def test_a_program_that_is_not_there_is_named(codex: OnCodex) -> None:
    """The server starts; a turn is refused with the reason."""
    codex.server.environment["REVERIE_AGENTS__MAIN__CODEX__BINARY"] = "/no/such/codex"
    codex.server.start()
    refused = codex.server.chat("one")
    assert refused.status == 503
    assert refused.error["code"] == "codex_unavailable"
    assert "/no/such/codex" in refused.error["message"]
