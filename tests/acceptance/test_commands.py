"""The commands around a running server: starting, stopping, and working beside it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from reverie.cli.sample_memory import QUESTION
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread
from tests.acceptance.servers import WAIT_S_MAX, WITHOUT_MEMORY, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.servers import Answer, Server, WithUpstream

SERVICE = "14 January 2027; Petra from Halden Thermal does it."
OLLAMA_PORT = 11434


@pytest.fixture
def plain(server: Server) -> Server:
    """A server without memory, which starts faster."""
    server.environment |= WITHOUT_MEMORY
    return server


# -- start -----------------------------------------------------------------------------------------------------------


def test_banner(plain: Server) -> None:
    """It says where it listens, on which home, with which model, and shows a request that works when pasted."""
    plain.start()

    until(lambda: "stops it." in plain.log, "the banner")
    shown = plain.log
    assert f"is listening on {plain.url}\n" in shown
    assert f"home    {plain.home}\n" in shown
    assert "model   none connected" in shown
    command = shown[shown.index("  curl ") : shown.index("\n\nCtrl-C stops it.")]
    answer = subprocess.run(["sh", "-c", f"{command} --silent"], capture_output=True, text=True, check=True, timeout=20)
    assert json.loads(answer.stdout)["choices"][0]["message"]["content"].startswith("No model is connected")


def test_banner_as_json(plain: Server) -> None:
    """With --json the start is one object, and the log is JSON too."""
    plain.arguments.append("--json")
    plain.start()

    until(lambda: plain.log, "the first line")
    listening = json.loads(plain.log.splitlines()[0])
    assert (listening["event"], listening["url"], listening["model"]) == ("listening", plain.url, "offline")
    plain.stop()
    assert all(json.loads(line) for line in plain.log.splitlines())


def test_sample(server: Server) -> None:
    """A new home receives the sample once, and the first question is answered with a citation."""
    server.arguments.append("--sample")
    server.start()

    text = server.chat(QUESTION).text
    assert SERVICE in text
    assert "[MEMORY.md#L5-L8]" in text

    server.stop()
    (server.workspace / "MEMORY.md").write_text("mine\n", encoding="utf-8")
    server.start()
    assert (server.workspace / "MEMORY.md").read_text(encoding="utf-8") == "mine\n"


# -- stop ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop(plain: Server, number: int) -> None:
    """SIGTERM and Ctrl-C end it with code 0, and nothing says any more that it runs."""
    plain.start()

    assert plain.stop(with_signal=number) == 0
    assert not (plain.home / "server.json").exists()
    assert plain.run("status", "--json").returncode == 0


def test_stop_before_it_listens(plain: Server) -> None:
    """A stop that comes while it starts ends it too."""
    plain.spawn()
    until((plain.home / "reverie.pid").exists, "the home is taken")

    assert plain.stop() == 0


def slow_answer(both: WithUpstream) -> tuple[threading.Thread, list[Answer]]:
    """A streamed turn of about a second that is under way when this returns."""
    both.upstream.plan = Plan(text="one two three four", chunks=4, chunk_delay_s=0.25)
    answers: list[Answer] = []
    thread = threading.Thread(target=lambda: answers.append(both.server.chat("hello", stream=True)))
    thread.start()
    until(lambda: both.asked, "the model is asked")
    return thread, answers


def test_running_turns_finish(connected: WithUpstream) -> None:
    """A turn that runs when it is told to stop is answered whole, and recorded."""
    thread, answers = slow_answer(connected)

    assert connected.server.stop() == 0
    thread.join(WAIT_S_MAX)

    said = [json.loads(line[6:]) for line in answers[0].body.decode().splitlines() if line.startswith("data: {")]
    deltas = [chunk["choices"][0]["delta"].get("content", "") for chunk in said if chunk["choices"]]
    assert "".join(deltas) == "one two three four"
    assert connected.server.transcript() == [("user", "hello"), ("assistant", "one two three four")]


def test_second_signal_ends_at_once(connected: WithUpstream) -> None:
    """Told twice, it does not wait for the turn; the turn is recorded as interrupted at the next start."""
    connected.upstream.plan = Plan(delay_s=8.0)
    server = connected.server
    thread = threading.Thread(target=_ask_until_cut, args=(server,))
    thread.start()
    until(lambda: connected.asked, "the model is asked")
    assert server.process is not None

    server.process.send_signal(signal.SIGTERM)
    until(lambda: "server_stopping" in server.log, "it begins to stop")
    assert server.stop() == 1
    thread.join(WAIT_S_MAX)
    server.start()

    assert server.turn_states() == ["failed"]


def _ask_until_cut(server: Server) -> None:
    with contextlib.suppress(OSError):
        server.chat("hello")


# -- beside it -------------------------------------------------------------------------------------------------------


def test_commands_beside_a_server(server: Server) -> None:
    """Search, status, remember, import and chat work while the server runs; it indexes what they write."""
    server.arguments.append("--sample")
    server.start()

    status = json.loads(server.run("status", "--json").stdout)
    assert status["server"] == {"pid": server.pid, "url": server.url}
    assert SERVICE in server.run("search", QUESTION).stdout
    answer = json.loads(server.run("chat", "--json", stdin=f"{QUESTION}\n").stdout)
    assert SERVICE in answer["text"]
    assert "MEMORY.md#L5-L8" in [memory["citation"] for memory in answer["memories"]]
    assert ("user", QUESTION) in server.transcript()

    note = json.loads(server.run("remember", "The plumber is called Brown.", "--json").stdout)
    until(lambda: note["path"] in server.run("search", "plumber", "--json").stdout, "the note is found")
    chats = server.home.parent / "chats.jsonl"
    chats.write_text('{"turns": [{"session": "1", "speaker": "Vera", "text": "My bicycle is green."}]}\n')
    assert json.loads(server.run("import", "conversation", str(chats), "--json").stdout)["indexed_by_server"]
    until(lambda: "bicycle is green" in server.run("search", "bicycle", "--json").stdout, "the import is found")


def test_doctor_beside_a_server(server: Server) -> None:
    """The doctor examines a home that is served; it repairs only what nobody has, and says who has it."""
    server.arguments.append("--sample")
    server.start()
    server.chat(QUESTION)
    until(lambda: 0 < server.figure("vectors") == server.figure("indexed_chunks"), "everything is embedded")

    done = server.run("doctor", "--json")
    seen = json.loads(done.stdout)
    found = {each["check"]: each["what"] for each in seen["findings"]}
    assert (done.returncode, seen["ok"]) == (0, True)
    assert found["home.server"] == f"a server runs at {server.url} (process {server.pid})"
    assert found["cache.hit_rate"].endswith("texts were there since the server's start")
    assert [each for each in seen["findings"] if each["severity"] in {"warning", "error"}] == []

    server.home.chmod(0o755)
    refused = server.run("doctor", "--fix")
    assert refused.returncode == 1
    assert "nothing was repaired; --fix would see to home.permissions" in refused.stdout
    assert f"is in use by process {server.pid}" in refused.stdout
    assert server.home.stat().st_mode & 0o777 == 0o755

    server.stop()
    assert "fixed    others may look into the home" in server.run("doctor", "--fix").stdout
    assert server.home.stat().st_mode & 0o777 == 0o700


def test_index_beside_a_server(plain: Server) -> None:
    """Only one process indexes: the server."""
    plain.start()

    refused = plain.run("index")

    assert refused.returncode == 1
    assert f"is in use by another Reverie (process {plain.pid})" in refused.stderr


# -- a model on this machine -----------------------------------------------------------------------------------------


@pytest.fixture
def ollama() -> Iterator[FakeUpstream]:
    """A model's server on the port where Ollama usually is; skipped when something is there already."""
    upstream = FakeUpstream(Plan(text="I am local.", models=("local-model",)))
    try:
        with serve_in_thread(upstream.app, port=OLLAMA_PORT):
            yield upstream
    except OSError:
        pytest.skip(f"port {OLLAMA_PORT} is taken")


def test_local_model_is_named(plain: Server, ollama: FakeUpstream) -> None:
    """Where nobody can be asked, it says that a model runs here and how to use it."""
    plain.environment["REVERIE_UPSTREAM__DETECT"] = "true"
    plain.start()

    command = f"reverie serve --home {plain.home} --upstream http://127.0.0.1:{OLLAMA_PORT}/v1 --model local-model"
    assert command in plain.log
    assert plain.chat("hello").text.startswith("No model is connected")


def test_local_model_is_offered(plain: Server, ollama: FakeUpstream) -> None:
    """On a terminal it asks; with yes it uses the model, and remembers it when told to."""
    plain.environment["REVERIE_UPSTREAM__DETECT"] = "true"
    terminal, inner = pty.openpty()
    with os.fdopen(terminal, "rb", buffering=0), os.fdopen(inner, "rb", buffering=0):
        plain.process = subprocess.Popen(
            plain.command("serve", "--home", str(plain.home), "--port", "0"),
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env={**os.environ, **plain.environment},
        )
        _answer(terminal, "Use it? [Y/n]", "\n")
        _answer(terminal, "config.toml? [y/N]", "y\n")
        announced = plain.home / "server.json"
        until(announced.exists, "it listens")
        plain.url = json.loads(announced.read_text(encoding="utf-8"))["url"]

        assert plain.chat("hello").text == "I am local."
    assert ollama.requests
    saved = (plain.home / "config.toml").read_text(encoding="utf-8")
    assert saved == f'[upstream]\nbase_url = "http://127.0.0.1:{OLLAMA_PORT}/v1"\n'


def _answer(terminal: int, question: str, reply: str) -> None:
    shown = b""
    while question.encode() not in shown:
        shown += os.read(terminal, 4096)
    os.write(terminal, reply.encode())


def test_a_rebuild_beside_a_server(server: Server) -> None:
    """The server builds the new index itself, and finds the same afterwards, also after it was killed."""
    server.start()
    server.run("remember", "The boat is called Alba.")
    until(lambda: "Alba" in server.run("search", "boat", "--json").stdout, "the note in the index")
    done = server.run("index", "--rebuild", "--json")

    assert (done.returncode, json.loads(done.stdout)["generation"]) == (0, "index.2.db"), done.stderr
    assert [path.name for path in server.home.glob("index*.db")] == ["index.2.db"]
    server.kill()
    server.start()
    assert "The boat is called Alba." in server.run("search", "boat", "--json").stdout
