"""`POST /v1/feedback`: what is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.learning.feedback.feedback import Submission, Verdict
from reverie.learning.feedback.targets import Target
from reverie.learning.surfaces.ports import GivenFeedback
from tests.unit.gateway.scripted_app import ScriptedApp, client_of

pytestmark = pytest.mark.anyio


async def sent(app: ScriptedApp, body: Any) -> tuple[int, str]:
    async with client_of(app, host="127.0.0.1") as client:
        answer = await client.post("/v1/feedback", json=body)
    return answer.status_code, answer.content.decode()


@pytest.mark.parametrize(
    ("body", "submission"),
    [
        ({"turn_id": "chatcmpl_1", "thumb": "up"}, Submission(Target("turn", "chatcmpl_1"), "positive")),
        ({"trace_id": "tr_1", "thumb": "down", "magnitude": 0.5}, Submission(Target("trace", "tr_1"), "negative", 0.5)),
        ({"session": "main", "score": -0.25, "text": "No.", "key": "k"},
         Submission(Target("session", "main"), "negative", 0.25, "No.", key="k")),
        ({"episode_id": "ep_1", "score": 0}, Submission(Target("episode", "ep_1"), "neutral", 0.0)),
        ({"task_id": "ta_1", "polarity": "mixed"}, Submission(Target("task", "ta_1"), "mixed")),
        ({"skill": "brew", "polarity": "positive", "magnitude": 1},
         Submission(Target("skill", "brew"), "positive", 1.0)),
        ({"world_model_id": "wm_1", "text": "It moved."}, Submission(Target("world_model", "wm_1"), text="It moved.")),
        ({"turn_id": "t", "prefer": "tea", "avoid": "coffee"},
         Submission(Target("turn", "t"), prefer="tea", avoid="coffee")),
        ({"turn_id": "t", "verdict": {"passed": 3, "total": 4, "reward": 0.5}},
         Submission(Target("turn", "t"), verdict=Verdict(3, 4, 0.5))),
    ],
)  # fmt: skip
async def test_taken(body: Any, submission: Submission) -> None:
    """It is answered at once with 202 and its id."""
    app = ScriptedApp()

    assert await sent(app, body) == (202, '{"object":"reverie.feedback","id":"fb_1","polarity":"positive"}')
    assert app.learning.asked == [(GivenFeedback(submission, "main"),)]


async def test_of_an_agent_that_is_named() -> None:
    """Then it may be about nobody else's things."""
    app = ScriptedApp()

    await sent(app, {"turn_id": "t", "thumb": "up", "agent": "main"})
    assert app.learning.asked == [(GivenFeedback(Submission(Target("turn", "t"), "positive"), "main", only=True),)]


TARGETS = "`turn_id`, `trace_id`, `episode_id`, `task_id`, `skill`, `world_model_id`, `session`"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"thumb": "up"}, f"Exactly one of {TARGETS} says what the feedback is about.", "turn_id"),
        ({"turn_id": "a", "skill": "b", "thumb": "up"},
         f"Exactly one of {TARGETS} says what the feedback is about.", "skill"),
        ({"turn_id": "a"}, "One of `polarity`, `thumb`, `score`, `text`, `verdict` says how it was.", "polarity"),
        ({"turn_id": "a", "text": "  "}, "One of `polarity`, `thumb`, `score`, `text`, `verdict` says how it was.",
         "polarity"),
        ({"turn_id": "a", "thumb": "up", "score": 1},
         "At most one of `polarity`, `thumb`, `score` says which way it points.", "score"),
        ({"turn_id": "a", "thumb": "sideways"}, "`thumb` is one of `up`, `down`.", "thumb"),
        ({"turn_id": "a", "polarity": 1}, "`polarity` is one of `positive`, `negative`, `neutral`, `mixed`.",
         "polarity"),
        ({"turn_id": "a", "score": 2}, "`score` must be a number from -1 to 1.", "score"),
        ({"turn_id": "a", "score": True}, "`score` must be a number from -1 to 1.", "score"),
        ({"turn_id": "a", "score": 1, "magnitude": 1}, "`score` says how strongly already.", "magnitude"),
        ({"turn_id": "a", "thumb": "up", "magnitude": -0.1}, "`magnitude` must be a number from 0 to 1.", "magnitude"),
        ({"turn_id": "", "thumb": "up"}, "`turn_id` must be a string of 1 to 512 characters.", "turn_id"),
        ({"turn_id": 7, "thumb": "up"}, "`turn_id` must be a string of 1 to 512 characters.", "turn_id"),
        ({"turn_id": "a", "thumb": "up", "text": "x" * 4001}, "`text` must be a string of 0 to 4000 characters.",
         "text"),
        ({"turn_id": "a", "verdict": 1}, "`verdict` must be an object with `passed` and `total`, or `reward`.",
         "verdict"),
        ({"turn_id": "a", "verdict": {"passed": -1}}, "`verdict.passed` must be a number from 0 to 1000000.",
         "verdict.passed"),
        ({"turn_id": "a", "verdict": {"reward": 2}}, "`verdict.reward` must be a number from -1 to 1.",
         "verdict.reward"),
        ({"turn_id": "a", "verdict": {"ok": 1}},
         "There is no field `ok` here. Fields: `passed`, `reward`, `total`.", "verdict.ok"),
        ({"turn_id": "a", "thumb": "up", "agent": 3}, "`agent` must be a string.", "agent"),
    ],
)  # fmt: skip
async def test_refused(body: Any, message: str, param: str) -> None:
    """As an error object that names the field; nothing is kept."""
    app = ScriptedApp()

    assert await sent(app, body) == (
        400,
        f'{{"error":{{"message":"{message}","type":"invalid_request_error","param":"{param}","code":null}}}}',
    )
    assert app.learning.asked == []


async def test_a_misspelt_field() -> None:
    """It is named, with those there are."""
    status, body = await sent(ScriptedApp(), {"turn": "a", "thumb": "up"})

    assert (status, '"There is no field `turn` here. Fields: `agent`, `avoid`, `episode_id`' in body) == (400, True)


async def test_not_an_object() -> None:
    """A body that is no object is refused."""
    assert (await sent(ScriptedApp(), [1]))[0] == 400
