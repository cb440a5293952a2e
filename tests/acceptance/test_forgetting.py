"""Forgetting with the real server: it does it, what is busy is refused, and no file of the home holds the words."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.acceptance.servers import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.servers import Server, WithUpstream

WORD = "zanzibarium"


def holding(home: Path) -> list[str]:
    """The files of a home in which the word stands."""
    found = [path for path in home.rglob("*") if path.is_file() and WORD.encode() in path.read_bytes().lower()]
    return sorted(path.relative_to(home).as_posix() for path in found)


def test_a_conversation_is_forgotten_by_the_server(connected: WithUpstream) -> None:
    """The command asks the server, which has the index; other conversations go on, and the words are nowhere."""
    server = connected.server
    server.chat(f"The {WORD} stands in the cellar.", user="one")
    server.chat("The kettle is red.", user="two")
    until(lambda: search(server, "cellar"), "it is indexed")
    key = next(each for each in keys(server) if each.endswith("one"))
    planned = server.run("memory", "forget", "--session", key)
    before = holding(server.home)
    done = server.run("memory", "forget", "--session", key, "--apply", "--json")
    status = server.run("memory", "status", "--index", "--fix", "--json")

    assert planned.returncode == 0, planned.stderr
    assert "would be forgotten" in planned.stdout
    assert before
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["counts"]["sessions"] == 1
    assert holding(server.home) == []
    assert search(server, "cellar") == []
    assert search(server, "kettle")
    assert server.chat("And now?", user="two").status == 200
    assert json.loads(status.stdout)["agents"][0]["dirty"] is False
    server.stop()
    assert holding(server.home) == []


def search(server: Server, words: str) -> list[str]:
    """What the server finds, by citation."""
    answer = server.post("/v1/memory/search", {"query": words}).json
    return [hit["citation"] for hit in answer["results"] if words in json.dumps(hit).lower()]


def keys(server: Server) -> list[str]:
    """The keys of the sessions there are."""
    return [each["key"] for each in server.get("/v1/sessions").json["data"]]
