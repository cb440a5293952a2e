"""Without a server: talk, search, look and import at the terminal; then ask a server about it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.acceptance.servers import until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.acceptance.servers import Server

HISTORY = {
    "name": "harbour",
    "turns": [
        {"session": "spring", "speaker": "Mia", "text": "We sold the old dinghy to Tomas.", "when": "2024-04-02"},
        {"speaker": "Jonas", "text": "For how much?"},
        {"speaker": "Mia", "text": "For 450, and he paid at once."},
        {"session": "summer", "speaker": "Jonas", "text": "The new sail is red.", "when": "1:56 pm on 8 May, 2024"},
    ],
}
DIALOGUE = {
    "name": "kitchen",
    "messages": [
        {"role": "system", "content": "You are brief."},
        {"role": "user", "content": "How long does the rye bread rest?"},
        {"role": "assistant", "content": "The rye bread rests for eleven hours."},
    ],
}


def lines_of(printed: str) -> list[Any]:
    """JSON Lines as values."""
    return [json.loads(line) for line in printed.splitlines()]


def test_chat_at_the_terminal(server: Server) -> None:
    """Piped in line by line, a conversation is answered offline, and the next one remembers it with its place."""
    first = server.run("chat", "--json", stdin="My dentist is Dr. Okafor.\n")
    second = server.run("chat", "--json", "--session", "agent:main:other", stdin="Who is my dentist?\n\n/quit\n")
    (told,), (asked,) = lines_of(first.stdout), lines_of(second.stdout)

    assert (first.returncode, second.returncode) == (0, 0)
    assert told["session"] == "agent:main:main"
    assert "“My dentist is Dr. Okafor.” [sessions/" in asked["text"]
    (memory,) = asked["memories"]
    assert memory["citation"] in asked["text"]
    assert memory["excerpt"] == "My dentist is Dr. Okafor."
    assert server.transcript()[0] == ("user", "My dentist is Dr. Okafor.")


def test_chat_for_people(server: Server) -> None:
    """Without --json the answer comes as text, with the memories that were used below it."""
    server.run("remember", "The roaster's service is due in March.")
    shown = server.run("chat", stdin="When is the roaster's service due?\n")

    assert shown.returncode == 0
    assert shown.stderr == ""
    assert "“The roaster's service is due in March.” [memory/" in shown.stdout
    assert shown.stdout.rstrip().endswith("The roaster's service is due in March.")


def test_search_and_status_as_json(server: Server) -> None:
    """A note is found with its place, and the state of the home is one object."""
    server.environment["REVERIE_MEMORY__EMBEDDER"] = "none"
    note = json.loads(server.run("remember", "The boat is called Alba.", "--json").stdout)
    found = server.run("search", "What is the boat called?", "--json")
    nothing = server.run("search", "zeppelin", "--source", "sessions", "--json")
    status = json.loads(server.run("status", "--json").stdout)
    (hit,) = json.loads(found.stdout)["hits"]

    assert (found.returncode, found.stderr) == (0, "")
    assert (hit["path"], hit["source"]) == (note["path"], "memory")
    assert hit["text"].endswith("The boat is called Alba.")
    assert hit["citation"] == f"{note['path']}#L1-L3"
    assert 0 < hit["score"] <= 1
    assert json.loads(nothing.stdout)["hits"] == []
    assert status["home"] == str(server.home)
    assert status["server"] is None
    assert status["upstream"] == {"url": None, "model": "offline", "problem": ""}
    assert status["databases"].keys() == {"state.db", "index.db", "embeddings.db"}
    assert status["totals"] == {"sessions": 0, "messages": 0, "turns": {}}
    assert (status["index"]["memory_documents"], status["index"]["chunks"]) == (3, 1)  # two are empty as yet


def test_a_home_that_is_not_there(server: Server) -> None:
    """Looking does not make a home; one line says what does."""
    search, status = server.run("search", "boat"), server.run("status", "--json")

    assert (search.returncode, search.stdout) == (status.returncode, status.stdout) == (1, "")
    assert search.stderr.startswith(f"error: there is no Reverie home at {server.home}: `reverie serve` makes one")
    assert json.loads(status.stderr)["error"]["type"] == "HomeError"
    assert not server.home.exists()


def test_an_imported_conversation_is_cited(server: Server, tmp_path: Path) -> None:
    """Past conversations are imported once, with speakers and dates, and a server answers from them with citations."""
    file = tmp_path / "history.jsonl"
    file.write_text(f"{json.dumps(HISTORY)}\n\n{json.dumps(DIALOGUE)}\n", encoding="utf-8")
    first = json.loads(server.run("import", "conversation", str(file), "--json").stdout)
    again = json.loads(server.run("import", "conversation", str(file), "--json").stdout)
    server.start()
    dinghy = server.chat("Who bought the dinghy?").text
    sail = server.chat("What colour is the new sail?").text
    bread = server.chat("How long must rye bread rest?").text
    spring = "agent:main:import:harbour:spring"

    assert (first["histories"], first["sessions"], first["messages_added"]) == (2, 3, 6)
    assert first["skipped"] == {"instructions": 1}
    assert (again["messages_added"], again["messages_present"]) == (0, 6)
    assert server.transcript(spring)[0] == ("user", "We sold the old dinghy to Tomas.")
    assert f"“We sold the old dinghy to Tomas.” [sessions/{server.session_id(spring)}#L1] (Mia, 2024-04-02)" in dinghy
    assert "“The new sail is red.” [sessions/" in sail
    assert "(Jonas, 1:56 pm on 8 May, 2024)" in sail
    assert "The rye bread rests for eleven hours." in bread


def test_a_file_that_breaks_off(server: Server, tmp_path: Path) -> None:
    """A line that is no conversation is named; what stood before it is imported, and a mended file goes on."""
    server.environment["REVERIE_MEMORY__EMBEDDER"] = "none"
    file = tmp_path / "history.jsonl"
    file.write_text(f"{json.dumps(HISTORY)}\n{json.dumps(DIALOGUE)[:40]}\n", encoding="utf-8")
    broken = server.run("import", "conversation", str(file))
    file.write_text(f"{json.dumps(HISTORY)}\n{json.dumps(DIALOGUE)}\n", encoding="utf-8")
    mended = json.loads(server.run("import", "conversation", str(file), "--json").stdout)
    missing = server.run("import", "conversation", str(tmp_path / "nothing.jsonl"))

    assert broken.returncode == 1
    assert f"error: {file} line 2 is not JSON" in broken.stderr
    assert (mended["messages_added"], mended["messages_present"]) == (2, 4)
    assert missing.returncode == 1
    assert "nothing.jsonl cannot be read: No such file or directory" in missing.stderr


def test_an_import_beside_a_server_is_found(server: Server, tmp_path: Path) -> None:
    """The running server makes what is imported beside it searchable by itself, soon."""
    file = tmp_path / "history.jsonl"
    file.write_text(json.dumps(HISTORY), encoding="utf-8")
    server.start()
    report = json.loads(server.run("import", "conversation", str(file), "--json").stdout)
    until(lambda: server.figure("vectors") == 4, "it is indexed", within_s=10)

    assert report["indexed_by_server"]
    assert "“We sold the old dinghy to Tomas.” [sessions/" in server.chat("Who bought the dinghy?").text
