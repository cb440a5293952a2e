"""Every stage of learning dies before every one of its writes: after a new start everything is there exactly once.

A home is brought to the point at which one job of a stage is due, and copied. One copy is worked on undisturbed. In
each other one the process dies before another write; then a new process takes over what it finds. Both end with the
same rows. Only a call of a model whose answer was not on disk yet is made again.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from reverie.config import LearningConfig
from reverie.learning.feedback.feedback import Submission
from reverie.learning.feedback.targets import Target
from reverie.learning.skills.skills import note_use
from reverie.testing import FakeClock
from reverie.testing.learning_answers import LearningAnswers
from tests.integration.learning.learning_process import (
    AskedModel,
    Conversations,
    LearningProcess,
    MortalDatabase,
    ProcessDied,
    ToolRound,
    open_process,
)
from tests.learning_rows import seed

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

STAGES = ("classify", "window", "reward", "associate", "induce", "abstract", "skill", "trials", "feedback", "repair")
ASKING = frozenset(STAGES) - {"associate", "trials"}
CONFIG = LearningConfig.model_validate({"jobs": {"idle_quiet_s": 0}, "reward": {"feedback_window_s": 1}})
PARKED_MS = 9_000_000_000_000
PARK = """
CREATE TRIGGER parks AFTER INSERT ON job_requests {when} BEGIN
  UPDATE job_requests SET not_before = 9000000000000 WHERE key = NEW.key;
END
"""
KEPT = {
    "tasks": "*",
    "episodes": "*",
    "episode_spans": "*",
    "routings": "*",
    "traces": "*",
    "reflection_windows": "*",
    "policies": "*",
    "trace_policy_links": "*",
    "l2_candidates": "*",
    "world_models": "*",
    "skills": "*",
    "skill_events": "skill_id, at, kind, session_id, turn_id, task_id, outcome, detail",
    "feedback": "*",
    "decision_repairs": "*",
    "learning_marks": "*",
    "learning_cursors": "*",
    "model_calls": "key, kind, op, job_key, state, answer, error",
    "job_requests": "key, kind, lane, payload, state, attempts, not_before",
}
"""What must be the same in the end: not the numbers of rows of histories, nor how often a run began."""
TOLD = {
    "learned": "SELECT stage, ref, reason, detail FROM learning_trail WHERE outcome = 'learned'",
    "changed": "SELECT DISTINCT stage, ref, reason FROM learning_trail WHERE outcome = 'changed'",
}
"""Of the trail. It also says when a job looked once more and found that all was done."""
EFFECTS = {
    "classify": ("routings", "'llm'"),
    "window": ("reflection_windows", "'reflected'"),
    "reward": ("tasks", "'scored'"),
    "associate": ("l2_candidates", "cand_"),
    "induce": ("policies", "'procedural'"),
    "abstract": ("world_models", "'active'"),
    "skill": ("skills", "skill.crystallize"),
    "trials": ("skill_events", "'trial'"),
    "feedback": ("feedback", "applied"),
    "repair": ("decision_repairs", "'bash'"),
}
"""In which table each stage leaves what."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a home ended: all that is kept, its skills' files, the calls of the model, and the writes it took."""

    rows: dict[str, list[tuple[Any, ...]]]
    files: dict[str, str]
    calls: int
    writes: int


def model() -> AskedModel:
    """A model that answers."""
    return AskedModel(LearningAnswers(alpha=0.5, axes=(1.0, 0.5, 0.8)))


async def talk(process: LearningProcess, home: Conversations) -> None:
    """Two conversations alike, with failures, a correction, a thumb, and a skill that was used."""
    failed = ToolRound("bash", '{"command": "pytest"}', "Traceback (most recent call last): ModuleNotFoundError: uv")
    worked = ToolRound("bash", '{"command": "pytest tests/test_parser.py"}', "3 passed")
    seed(home.home / "state.db", "skills", id="sk_checks", name="checks", description="Run checks.", guide="Run them.",
         eta=0.5, file_state="none")  # fmt: skip
    for session in ("one", "two"):
        rounds = [[failed]] * 3 if session == "two" else []
        turn = home.say(session, f"New task: run the checks of the parser for {session}.", tools=[*rounds, [worked]])
        await process.database.write(
            lambda tx, turn=turn, session=session: note_use(tx, "main", "sk_checks", turn, session, home.clock.now_ms())
        )
        process.clock.advance(seconds=30)
        home.say(session, "The parser deserves a table that lists which of its checks are slow", tools=[[worked]])
        process.clock.advance(seconds=30)
        await process.follow()
    await process.feedbacks.submit(
        Submission(Target("session", "one"), "negative", text="Use uv instead of pip.", key="thumb")
    )
    home.end("one")
    home.end("two")
    await process.follow()


async def until_asked(process: LearningProcess, home: Conversations, stage: str) -> str:
    """Work until a job of a stage waits, which is not begun; its key."""
    for _ in range(200):
        await process.follow()
        await process.work()
        key = home.value(
            "SELECT key FROM job_requests WHERE kind = ? AND state = 'waiting'"
            """ AND payload NOT LIKE '%"feedback_id": null%' ORDER BY rowid LIMIT 1""",
            stage,
        )
        if key is not None:
            return key
        due = home.value("SELECT min(not_before) FROM job_requests WHERE state = 'waiting'")
        process.clock.advance(ms=max(1, due - process.clock.now_ms()))
    raise AssertionError(f"no {stage} was asked for")


async def brought_to(path: Path, stage: str) -> int:
    """A home in which one job of a stage is due and nothing else is, now or ever; the time there."""
    clock = FakeClock()
    process = await open_process(path, clock, model(), CONFIG)
    home = Conversations(path, clock)
    home.change(PARK.format(when=f"WHEN NEW.kind = '{stage}'"))
    await process.recover()
    await talk(process, home)
    key = await until_asked(process, home, stage)
    home.change("DROP TRIGGER parks")
    home.change(PARK.format(when=""))
    home.change("UPDATE job_requests SET not_before = ? WHERE state = 'waiting'", PARKED_MS)
    home.change("UPDATE job_requests SET not_before = ? WHERE key = ?", clock.now_ms(), key)
    home.close()
    await process.aclose()
    return clock.now_ms()


async def worked_on(path: Path, now_ms: int, dies_before: int | None, *, recovers: bool = False) -> tuple[Ended, int]:
    """The end of a home, and how many calls of the model were under way when its process died."""
    asked, clock = model(), FakeClock(now_ms)
    process = await open_process(path, clock, asked, CONFIG, kind=MortalDatabase)
    mortal = process.database
    assert isinstance(mortal, MortalDatabase)
    mortal.dies_before, open_calls = dies_before, 0
    if recovers:
        await process.recover()
    if dies_before is None:
        await process.work()
    else:
        with pytest.raises(ProcessDied):
            await process.work()
    writes = mortal.written
    await process.aclose()
    home = Conversations(path, clock)
    if dies_before is not None:
        open_calls = home.value("SELECT count(*) FROM model_calls WHERE state = 'reserved'")
        process = await open_process(path, clock, asked, CONFIG)
        await process.recover()
        await process.work()
        await process.aclose()
    rows = {
        table: sorted(home.rows(f"SELECT {columns} FROM {table}"), key=repr)  # noqa: S608 (our names)
        for table, columns in KEPT.items()
    }
    rows |= {outcome: sorted(home.rows(sql)) for outcome, sql in TOLD.items()}
    ledger = home.rows("SELECT sum(calls), sum(tokens) FROM learning_spend WHERE span = 'day' AND kind = ''")
    calls = home.rows("SELECT sum(calls), sum(tokens_in + tokens_out + tokens_reserved) FROM model_calls")
    assert ledger == calls
    home.close()
    return Ended(rows, await asyncio.to_thread(files_of, path), len(asked.calls), writes), open_calls


def files_of(path: Path) -> dict[str, str]:
    """The files of the skills of a home."""
    return {file.parent.name: file.read_text() for file in path.glob("workspace/skills/*/SKILL.md")}


@pytest.mark.parametrize("stage", STAGES)
async def test_stage_dies_before_each_of_its_writes(tmp_path: Path, stage: str) -> None:
    """Wherever it dies the rows are the same in the end, and no answer that was on disk is asked for again."""
    now_ms = await brought_to(tmp_path / "origin", stage)
    usual, _ = await worked_on(copy_of(tmp_path, "undisturbed"), now_ms, None)
    assert (usual.calls > 0) == (stage in ASKING)
    table, effect = EFFECTS[stage]
    assert effect in repr(usual.rows[table])
    repeated: list[int] = []
    for number in range(usual.writes):
        path = copy_of(tmp_path, f"dies-{number}")
        ended, open_calls = await worked_on(path, now_ms, number)
        assert ended.rows == usual.rows, f"died before write {number} of {usual.writes}"
        assert ended.files == usual.files, f"died before write {number} of {usual.writes}"
        assert ended.calls == usual.calls + open_calls, f"died before write {number} of {usual.writes}"
        repeated.append(open_calls)
        await asyncio.to_thread(shutil.rmtree, path)
    assert repeated[-1] == 0, "after the stage's transaction nothing is asked again"
    assert max(repeated) <= 1
    assert (max(repeated) == 1) == (stage in ASKING), "one of the deaths came between a call and its answer on disk"


KILLED = """
import asyncio, os, signal, sys
from pathlib import Path
from tests.integration.learning import learning_process as double, test_stages_killed as stages

class Killed(double.MortalDatabase):
    async def write(self, work):
        if self.written == int(sys.argv[3]):
            os.kill(os.getpid(), signal.SIGKILL)
        return await super().write(work)

async def main():
    clock = double.FakeClock(int(sys.argv[2]))
    process = await double.open_process(Path(sys.argv[1]), clock, stages.model(), stages.CONFIG, kind=Killed)
    await process.work()

asyncio.run(main())
"""


async def test_process_that_is_killed_in_truth(tmp_path: Path) -> None:
    """A real process ends by SIGKILL while it makes a skill; the next one finishes it as if nothing had been."""
    now_ms = await brought_to(tmp_path / "origin", "skill")
    usual, _ = await worked_on(copy_of(tmp_path, "undisturbed"), now_ms, None)
    for number in (usual.writes // 2, usual.writes - 2):
        path = copy_of(tmp_path, f"killed-{number}")
        given = [sys.executable, "-c", KILLED, str(path), str(now_ms), str(number)]
        root = Path(__file__).parents[3]
        ended = await asyncio.to_thread(
            subprocess.run, given, cwd=root, env={**os.environ, "PYTHONPATH": f"{root / 'src'}:{root}"}, check=False
        )
        assert ended.returncode == -signal.SIGKILL
        after, _ = await worked_on(path, now_ms, None, recovers=True)
        assert (after.rows, after.files) == (usual.rows, usual.files)


def copy_of(folder: Path, name: str) -> Path:
    """A copy of the home that was brought to a point."""
    shutil.copytree(folder / "origin", folder / name)
    return folder / name
