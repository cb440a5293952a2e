"""The tour shows what happens: its functions exist, its prompt is what is sent, its rows are those that are written."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import pytest

from reverie.app import open_app
from reverie.cli.sample_memory import copy_sample
from reverie.config import Home, load_config
from reverie.sessions.events import ContextAssembled
from reverie.storage import EMBEDDINGS, INDEX, STATE
from reverie.testing import ScriptedModel, reply
from reverie.types import Message, SessionKey, TurnRequest
from tests.docs.pages import ROOT, blocks, on_one_line, prose, read

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.app import App
    from reverie.types import PromptContext

pytestmark = pytest.mark.anyio

TOUR = read("docs/tour.md")
QUESTION = "When did the drum of the roaster squeak, and what was wrong?"
WRITES = re.compile(r"\s*(?:INSERT(?: OR REPLACE)? INTO|UPDATE) (\w+)")


def test_modules_and_functions_of_the_tour_exist() -> None:
    """What is named in code marks after a link to a module is defined in it, or is one of its words."""
    steps = re.findall(r"\]\(\.\./(src/[\w/]+\.py)\)((?:[^\[]|\[(?!`))*)", prose(TOUR))
    missing: list[str] = []
    for path, told in steps:
        text = (ROOT / path).read_text(encoding="utf-8")
        first = re.match(r"\s+((?:`[\w.]+`(?:, | and )?)+)", told)
        for name in re.findall(r"`([\w.]+)`", first[1]) if first else ():
            missing += [f"{path}: {part}" for part in name.split(".") if not re.search(rf"(def|class) {part}\b", text)]

    assert len(steps) > 20
    assert missing == []


def test_the_sentence_of_the_tour_is_the_code() -> None:
    """`run_turn` reads as the page shows it."""
    (shown,) = blocks(TOUR, "python")
    code = (ROOT / "src/reverie/agent/turn.py").read_text(encoding="utf-8")

    assert on_one_line(shown) in on_one_line(code)


async def assembled(app: App, text: str) -> PromptContext:
    """Run one turn to its end; the prompt that was made for it."""
    key = SessionKey("main", "agent:main:main")
    feed = await app.submit(TurnRequest(f"chatcmpl_{len(text)}", key, (Message("user", text),)))
    contexts = [event.context async for event in feed.follow() if isinstance(event, ContextAssembled)]
    return contexts[0]


async def test_the_prompt_and_the_rows_of_the_tour(tmp_path: Path) -> None:
    """The turn of the page, on the sample notes, has that prompt and writes those tables, no more and no fewer."""
    home = Home(tmp_path)
    patient = {"memory": {"recall_ms_max": 10_000, "watch": False}}
    config = await asyncio.to_thread(load_config, home, patient)
    await asyncio.to_thread(copy_sample, home.workspace(config, "main"))
    written: set[str] = set()

    def trace(sql: str, _bindings: object) -> None:
        if found := WRITES.match(sql):
            written.add(found[1])

    with ScriptedModel(reply("On 12 October [memory/2026-10-12.md#L1-L6]."), reply("You are welcome.")) as model:
        async with open_app(home, config, model=model, tracer=trace) as app:
            await app.open.memory.settle()
            written.clear()
            context = await assembled(app, QUESTION)
            await app.open.memory.settle()
            tables = set(written)
            second = await assembled(app, "Thank you.")

    _check_prompt(context)
    assert tables == _tables_of_the_page()
    assert [piece.origin for piece in second.pieces if piece.origin.startswith("history")] == ["history:1", "history:2"]
    assert _prefix(second) == _prefix(context)
    assert (context.epoch_reason, second.epoch) == ("the session is new", context.epoch)


def _check_prompt(context: PromptContext) -> None:
    """Every origin of the page's example, in order, and every stretch of text between its ellipses."""
    (_, example) = blocks(TOUR, "text", "sh")
    lines = [line for line in example.splitlines() if not line.startswith("─")]
    origins = [line.split()[0] for line in lines if not line.startswith(" ")]
    shown = on_one_line(" ".join(line if line.startswith(" ") else line.partition(" ")[2] for line in lines))
    sent = on_one_line(" ".join(piece.message.text for piece in context.pieces))

    assert [piece.origin for piece in context.pieces] == origins
    assert [part.strip() for part in shown.split("…") if part.strip() not in sent] == []


def _tables_of_the_page() -> set[str]:
    """The tables that the page says are written."""
    section = TOUR.partition("## What is written, and when")[2].partition("\n## ")[0]
    schemas = "\n".join(m.sql for schema in (STATE, INDEX, EMBEDDINGS) for m in schema.migrations())
    known = set(re.findall(r"CREATE (?:VIRTUAL )?TABLE (\w+)", schemas))
    return known & set(re.findall(r"`(\w+)`", section))


def _prefix(context: PromptContext) -> list[Message]:
    """The stable prefix of a prompt; estimates of its size may have been corrected by the model's own counts."""
    return [piece.message for piece in context.pieces[: context.stable_pieces]]
