"""The whole chain, on a real job engine: conversations become steps, scores, a policy, a world model and a skill."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest

from reverie.testing.learning_answers import LearningAnswers
from tests.integration.learning.learning_world import learning_world

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.learning.learning_world import LearningWorld

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]

NEW = "New task: run the checks of the parser."
FAILED = "FAILED tests/test_parser.py::test_empty - IndexError"


async def one_task(here: LearningWorld, session: str) -> None:
    """A task of three steps: a tool call, the reply to it, and the reply to a follow-up; then its session ends."""
    key = f"agent:main:{session}"
    await here.used_tool(
        f"{NEW} For the branch {session}, please.",
        "bash",
        '{"command": "pytest tests/test_parser.py"}',
        "3 passed",
        key=key,
    )
    await here.say("And list which of the checks are slow.", key=key)
    await here.app.reset_session(key)


async def test_two_tasks_alike_become_a_policy_a_world_model_and_a_skill(tmp_path: Path) -> None:
    """Every figure on the way is what the formulas say, and nothing was asked twice."""
    async with learning_world(tmp_path, LearningAnswers(alpha=0.5, axes=(1.0, 0.5, 0.8))) as here:
        for session in ("one", "two"):
            await one_task(here, session)
        await here.settled()

        rewards = await here.rows("SELECT state, round(r_human, 6) FROM tasks ORDER BY started_at")
        assert rewards == [("scored", 0.8), ("scored", 0.8)]  # 0.45·1 + 0.30·0.5 + 0.25·0.8
        # V3 = 0.8; V2 = 0.5·0.8 + 0.5·0.9·0.8 = 0.76; V1 = 0.5·0.8 + 0.5·0.9·0.76 = 0.742
        steps = await here.rows("SELECT round(alpha, 6), round(value, 6) FROM traces ORDER BY task_id, at")
        assert steps == [(0.5, 0.742), (0.5, 0.76), (0.5, 0.8)] * 2
        # 0.742 - (4·0.78 + 5·0.5) / 9 of the steps with a tool; 0.8 - (4·0.751 + 5·0.5) / 9 of the last replies
        policies = await here.rows("SELECT signature, status, support, round(gain, 6) FROM policies ORDER BY signature")
        assert policies == [("_|_|_|_", "active", 2, 0.188444), ("python|testing|bash|_", "active", 2, 0.117556)]
        assert await here.rows("SELECT status, confidence FROM world_models") == [("active", 0.6), ("active", 0.6)]
        # η begins with 0.5 · gain + 0.5 · min(1, support)
        skills = await here.rows("SELECT name, status, round(eta, 6) FROM skills ORDER BY eta")
        assert [skill[1:] for skill in skills] == [("candidate", 0.558778), ("candidate", 0.594222)]
        for name, _, _ in skills:
            file = here.app.open.workspaces["main"] / "skills" / name / "SKILL.md"
            assert (await asyncio.to_thread(file.read_text)).startswith("---\n")
        asked = [op for op, _ in here.asked]
        assert asked.count("reward.r_human") == 2
        keys = [(op, json.dumps(shown, sort_keys=True)) for op, shown in here.asked]
        assert len(keys) == len(set(keys))
        dead = await here.rows("SELECT key, error FROM job_requests WHERE state = 'dead'")
        assert dead == []
