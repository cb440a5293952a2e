"""The examples of the documentation run, and give what the pages say they give."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
import typer.main

from reverie.cli.main import app
from reverie.config import Config
from reverie.importers.conversations import ImportReport, parse_history
from reverie.testing.fake_upstream import Plan
from tests.acceptance.servers import server_at, until, upstream_for
from tests.docs.pages import PAGES, ROOT, blocks, name_of, on_one_line, read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.acceptance.servers import Server

ADDRESS = "http://127.0.0.1:8377"
ID_OF_THE_README = "chatcmpl_12fb5423-0609-4aa7-be7c-63b70ea10185"
EVERY_PYTHON = [
    (name_of(page), number, code)
    for page in PAGES
    for number, code in enumerate(blocks(page.read_text(encoding="utf-8"), "python"))
]
PROGRAMS = [example for example in EVERY_PYTHON if "import" in example[2]]


def run(code: str, tmp_path: Path, address: str = ADDRESS) -> str:
    """What a program of a page prints, with a home and an address of the test's own."""
    code = code.replace(ADDRESS, address).replace("~/.reverie", str(tmp_path / "home"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=40, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def without_ids(text: str) -> str:
    """A text on one line, with ids of sessions and times left out."""
    text = re.sub(r"sessions/[0-9a-f]+-[0-9a-f]+", "sessions/ID", on_one_line(text))
    return re.sub(r"20\d\d-\d\d-\d\d \d\d:\d\d", "TIME", text)


@pytest.fixture
def sample(tmp_path: Path) -> Iterator[Server]:
    """What `make run` starts, on a home of its own and a free port."""
    with server_at(tmp_path / ".reverie-sample") as server:
        server.arguments.append("--sample")
        server.environment["REVERIE_MEMORY__RECALL_MS_MAX"] = "10000"  # whatever else this machine does meanwhile
        server.start()
        until(lambda: 0 < server.figure("vectors") == server.figure("indexed_chunks"), "the sample is embedded")
        yield server


# -- the README, in five minutes -------------------------------------------------------------------------------------


@pytest.mark.acceptance
def test_the_five_minutes_of_the_readme(sample: Server, tmp_path: Path) -> None:
    """Curl, the SDK, a kill, a restart and the question after it give the answers that the README shows."""
    page = read("README.md")
    curl = next(block for block in blocks(page, "sh") if block.startswith("curl"))
    first, second, _ = blocks(page, "text")
    program, question = (code for code in blocks(page, "python") if "say(" in code)
    same_lines = program[: program.index("print(say(")]
    done = subprocess.run(
        shlex.split(curl.replace("\\\n", " ").replace(ADDRESS, sample.url)),
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    run(program, tmp_path, sample.url)
    sample.kill()
    sample.start()
    answer = run(same_lines + question, tmp_path, sample.url)

    said = json.loads(done.stdout)["choices"][0]["message"]["content"]
    assert on_one_line(said).startswith(on_one_line(first.rstrip().removesuffix("…")))
    assert without_ids(answer) == without_ids(second)


@pytest.mark.acceptance
def test_the_busy_session_of_the_readme(tmp_path: Path) -> None:
    """The second message is answered with the headers and the body that the README shows; its reply comes by its id."""
    page = read("README.md")
    ask, fetch = [block for block in blocks(page, "sh") if block.startswith("curl")][1:]
    shown_headers, _, shown_body = blocks(page, "text")[2].partition("\n\n")
    with server_at(tmp_path / "home") as server, upstream_for(server, Plan(echo=True, delay_s=3)) as both:
        server.start()
        slow = threading.Thread(target=server.chat, args=("Something long, please.",), kwargs={"user": "main"})
        slow.start()
        until(lambda: both.asked, "the first turn runs")
        head, _, body = curl(ask, server.url).partition("\n\n")
        turn_id = json.loads(body)["id"]
        reply = json.loads(curl(fetch.replace(ID_OF_THE_README, turn_id), server.url))
        slow.join()

    headers = head.replace(turn_id, ID_OF_THE_README).splitlines()
    assert [line for line in shown_headers.splitlines() if line not in headers] == []
    parts = shown_body.strip().replace("chatcmpl_12fb5423-…", turn_id).split("…")
    assert [part for part in parts if part not in body] == []
    assert (reply["state"], reply["completion"]["choices"][0]["message"]["content"]) == (
        "answered",
        "And for how many people?",
    )


def curl(command: str, address: str) -> str:
    """What a curl of a page prints, at an address of the test's own."""
    words = shlex.split(command.replace("\\\n", " ").replace(ADDRESS, address))
    return subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.acceptance
def test_the_command_line_of_the_readme(sample: Server) -> None:
    """`reverie search` on the sample prints what the README shows."""
    (shown,) = blocks(read("README.md"), "console")
    command, _, printed = shown.partition("\n")
    words = shlex.split(command)[2:]
    sample.stop()
    done = sample.run(*words[: words.index("--home")])

    assert done.stdout == printed


# -- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "number", "code"),
    [example for example in PROGRAMS if "Memory.open" in example[2]],
    ids=lambda value: "" if "\n" in str(value) else str(value),
)
def test_the_library_examples_run(page: str, number: int, code: str, tmp_path: Path) -> None:
    """Every example of the library prints what it found."""
    printed = run(code, tmp_path)

    assert any(words in printed for words in ("14 January", "Where do we meet Ines?")), f"{page} {number}"


@pytest.mark.acceptance
def test_the_client_examples_run(sample: Server, tmp_path: Path) -> None:
    """The SDK's examples, plain and streaming, are answered from the sample memory."""
    plain, streaming = blocks(read("docs/howto/use-with-clients.md"), "python")

    assert "60 % Huila" in run(plain, tmp_path, sample.url)
    assert "From memory:" in run(streaming, tmp_path, sample.url)


@pytest.mark.acceptance
def test_the_example_of_the_memory_tools_runs(sample: Server, tmp_path: Path) -> None:
    """The MCP client adds a note and finds it; each address of plain HTTP that is shown answers."""
    page = read("docs/howto/use-memory-tools.md")
    (program,) = blocks(page, "python")
    paths = re.findall(r"8377(/v1/memory/\w+)", page)

    assert "The grinder was calibrated by Petra." in run(program, tmp_path, sample.url)
    assert len(paths) == 5
    assert 404 not in [sample.get(path).status for path in paths]


# -- commands, settings, files ---------------------------------------------------------------------------------------


def commands() -> Iterator[tuple[str, list[str]]]:
    """Every line that calls `reverie`, as words, with the page it stands on."""
    for page in PAGES:
        for block in blocks(page.read_text(encoding="utf-8"), "sh", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                found = re.match(r"(?:\$ )?(?:\w+=\S+ )*(?:\S*/)?reverie (.*)", line)
                if found is not None:
                    yield name_of(page), shlex.split(found[1], comments=True)


def test_commands_that_are_shown_exist() -> None:
    """Each command of a page is one, with options that it has."""
    wrong: list[str] = []
    for page, words in commands():
        command: Any = typer.main.get_command(app)
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        known = {option for parameter in command.params for option in parameter.opts}
        if hasattr(command, "commands") or not {word for word in words if word.startswith("--")} <= known:
            wrong.append(f"{page}: {words}")

    assert len(list(commands())) > 15
    assert wrong == []


def test_settings_that_are_shown_are_valid() -> None:
    """Each piece of `config.toml` on a page is one that Reverie takes, and so is each `reverie config set`."""
    shown = [block for page in PAGES for block in blocks(page.read_text(encoding="utf-8"), "toml")]
    settings = [words[2:] for _, words in commands() if words[:2] == ["config", "set"]]

    assert len(shown) >= 3
    assert [Config(**tomllib.loads(block)) is not None for block in shown] == [True] * len(shown)
    for key, value in settings:
        section, name = key.split(".")
        assert Config.model_validate({section: {name: value}})


def test_conversations_that_are_shown_can_be_imported() -> None:
    """Both forms of a history, as the how-to shows them, are read without leaving anything out."""
    shown = blocks(read("docs/howto/import-conversations.md"), "json")
    report = ImportReport()
    histories = [parse_history(on_one_line(line), 1, ROOT / "x.jsonl", 0, report) for line in shown]

    assert [len(session.messages) for history in histories for session in history.sessions] == [2, 2]
    assert report.skipped == {}
