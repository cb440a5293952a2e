"""A home in which a policy is about to become a skill: its task, its steps, and everything that the jobs need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import apsw

from reverie.config import LearningConfig
from reverie.jobs.request import Job
from reverie.learning.records import Skill, skill_of
from reverie.learning.skills.crystallisation import SkillJob
from reverie.learning.skills.files import SkillFiles
from reverie.learning.skills.skills import Skills
from reverie.learning.skills.trials import TrialsJob
from reverie.storage import STATE, Database
from reverie.testing import FakeClock, FakeEmbedder
from reverie.testing.scripted_asks import ScriptedAsks
from tests.learning_rows import seed, unit

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.types import JsonObject

OP = "skill.crystallize"
POLICY = "po_1"
DRAFT: dict[str, Any] = {
    "name": "release_notes",
    "display_title": "Release notes",
    "summary": "Use when a release of the roaster firmware is to be announced.",
    "parameters": [{"name": "version", "description": "of the release"}],
    "preconditions": ["The changelog is up to date."],
    "steps": [
        {"title": "Collect", "body": "Read the changelog since the last release of the firmware."},
        {"title": "Publish", "body": "Write the notes and publish the release."},
    ],
    "examples": ["Notes for 1.4"],
    "tools": ["read_file", "publish"],
    "decision_guidance": {"preference": ["Name what changed for users."], "anti_pattern": ["Do not list commits."]},
    "tags": ["release"],
}


@dataclass
class SkillWorld:
    """One agent's workspace and database, with the jobs on them."""

    home: Path
    database: Database
    clock: FakeClock
    asks: ScriptedAsks
    embedder: FakeEmbedder
    files: SkillFiles
    skills: Skills
    config: LearningConfig

    @property
    def workspace(self) -> Path:
        """The agent's folder."""
        return self.home / "workspace"

    def path(self, name: str = "release-notes") -> Path:
        """The file of a skill."""
        return self.workspace / "skills" / name / "SKILL.md"

    def seed(self, table: str, **columns: Any) -> None:
        """Write a row."""
        seed(self.home / "state.db", table, **columns)

    def seed_steps(self, task: str, *, value: float = 0.8, count: int = 2, policy: str = POLICY) -> None:
        """A task of steps that follow a policy."""
        self.seed("tasks", id=task, state="scored", r_human=0.8)
        self.seed("episodes", id=f"ep_{task}", task_id=task)
        for number in range(count):
            call = {"name": ("read_file", "publish")[number % 2], "input": "{}", "output": "done"}
            self.seed(
                "traces", id=f"tr_{task}_{number}", task_id=task, episode_id=f"ep_{task}", value=value,
                user_text="Announce the firmware release", agent_text="Published the release notes of the firmware",
                tool_calls=[call], vec_summary=unit(1, 0), digest=f"{task}{number}",
            )  # fmt: skip
            self.seed("trace_policy_links", trace_id=f"tr_{task}_{number}", policy_id=policy, episode_id=f"ep_{task}",
                      task_id=task)  # fmt: skip

    def seed_policy(self, **columns: Any) -> None:
        """The policy that is about to become a skill."""
        given = {"id": POLICY, "title": "Announce releases", "trigger_text": "A release is due", "support": 1,
                 "gain": 0.16, "gain_known": 1, "vec": unit(1, 0), **columns}  # fmt: skip
        self.seed("policies", **given)

    async def build(self, policy: str = POLICY, key: str = "skill:po_1:a") -> JsonObject:
        """Run the job for a policy."""
        job = Job(key, "skill", "idle", {"policy_id": policy}, agent="main")
        return await self.skill_job().handle(job)

    def skill_job(self) -> SkillJob:
        """The job, as the table of jobs has it."""
        return SkillJob(self.database, self.clock, self.config, self.asks, self.files, self.embedder)

    async def try_task(self, task: str) -> JsonObject:
        """Run the trials of a task."""
        job = Job(f"trials:{task}:x", "trials", "background", {"task_id": task}, agent="main")
        return await TrialsJob(self.database, self.clock, self.config, self.files).handle(job)

    async def skill(self, name: str = "release-notes") -> Skill:
        """A skill by its name."""
        row = await self.database.read(lambda tx: tx.row("find_skill_named", agent="main", name=name))
        assert row is not None, f"there is no skill {name}"
        return skill_of(row)

    def change(self, sql: str, *values: Any) -> None:
        """Change rows as another stage would."""
        connection = apsw.Connection(str(self.home / "state.db"))
        connection.set_busy_timeout(5_000)
        connection.execute(sql, values)
        connection.close()

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query gives."""
        connection = apsw.Connection(str(self.home / "state.db"))
        found = list(connection.execute(sql, values))
        connection.close()
        return found

    def trail(self) -> list[tuple[str, str]]:
        """Outcomes and reasons, in order."""
        return [(each[0], each[1]) for each in self.rows("SELECT outcome, reason FROM learning_trail ORDER BY id")]


async def open_world(home: Path, **settings: Any) -> SkillWorld:
    """An empty workspace and database. `settings` are those of skills."""
    (home / "workspace").mkdir(exist_ok=True)
    clock = FakeClock()
    config = LearningConfig.model_validate({"skills": settings})
    database = await Database.open(home / "state.db", STATE, now_ms=clock.now_ms())
    embedder = FakeEmbedder(dims=2)
    files = SkillFiles(database, clock, {"main": home / "workspace"}, embedder)
    skills = Skills(database, clock, config.skills, files)
    return SkillWorld(home, database, clock, ScriptedAsks(), embedder, files, skills, config)
