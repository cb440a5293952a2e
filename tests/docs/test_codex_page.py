"""The page about Codex: its configuration answers, on the real program; what it says is off is off; its codes exist."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import tomllib
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from reverie.app import open_app
from reverie.config import Home, load_config
from reverie.testing import FakeEmbedder
from reverie.testing.fake_responses import Answer, FakeResponses, serve
from reverie.types import Message, SessionKey, TurnRequest
from tests.docs.pages import ROOT, blocks, read

if TYPE_CHECKING:
    from pathlib import Path

PAGE = read("docs/howto/codex.md")
INSTALLED = pytest.mark.skipif(find_spec("codex_cli_bin") is None, reason="the extra `codex` is not installed")


@INSTALLED
@pytest.mark.anyio
async def test_the_configuration_of_the_page_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model and the key of the page reach the server, and what is set for Codex itself is in its file."""
    configured, theirs = blocks(PAGE, "toml")
    responses = FakeResponses(Answer("Hello."))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-test")
    async with serve(responses.app) as address:
        text = configured.replace("https://api.openai.com", address) + theirs.replace("tickets-mcp", "true")
        home = Home(tmp_path / "home")
        config = await asyncio.to_thread(load_config, home, tomllib.loads(text))
        async with open_app(home, config, embedder=FakeEmbedder()) as app:
            key = SessionKey("main", "agent:main:main")
            feed = await app.submit(TurnRequest("t1", key, (Message("user", "hello"),)))
            answer = await feed.result()
        written = await asyncio.to_thread((home.codex("main") / "config.toml").read_text)

    (asked,) = responses.requests
    assert answer.text == "Hello."
    assert (asked.headers["authorization"], asked.body["model"]) == ("Bearer sk-of-test", "gpt-5-codex")
    made = tomllib.loads(written)
    assert (made["web_search"], made["mcp_servers"]["tickets"]) == ("live", {"command": "true"})
    assert "sk-of-test" not in written


@INSTALLED
def test_the_login_of_the_page_is_a_command(tmp_path: Path) -> None:
    """It finds the program, and that program has such a command, with a home as the page names it."""
    lines = next(block for block in blocks(PAGE, "sh") if "login" in block).splitlines()
    home = re.fullmatch(r"export CODEX_HOME=~/\.reverie/(.+)", lines[0])
    assert home is not None
    assert tmp_path / home[1] == Home(tmp_path).codex("main")
    path = f"{ROOT / '.venv' / 'bin'}:{os.environ['PATH']}"
    asked = subprocess.run(
        ["/bin/sh", "-c", f"{lines[1]} --help"],
        env={"PATH": path, "CODEX_HOME": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "--device-auth" in asked.stdout


def test_the_codes_of_the_page_are_codes() -> None:
    """Each stands in the reference of the HTTP API, and all of Codex's have a line."""
    table = PAGE[PAGE.index("## When something goes wrong") :]
    codes = set(re.findall(r"^\| `(\w+)`", table, re.MULTILINE))
    known = set(re.findall(r"^\| \d{3} \| `(\w+)`", read("docs/reference/http.md"), re.MULTILINE))

    assert codes <= known
    assert {code for code in known if code.startswith("codex_")} - codes == {"codex_error"}
