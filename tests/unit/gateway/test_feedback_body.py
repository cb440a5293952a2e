"""`POST /v1/feedback`: what is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.learning.surfaces_ports import GivenFeedback
from tests.unit.gateway.scripted_app import ScriptedApp, client_of

pytestmark = pytest.mark.anyio


async def sent(app: ScriptedApp, body: Any) -> tuple[int, str]:
    async with client_of(app, host="127.0.0.1") as client:
        answer = await client.post("/v1/feedback", json=body)
    return answer.status_code, answer.content.decode()


@pytest.mark.parametrize(
    ("body", "given"),
    [
        ({"turn_id": "chatcmpl_1", "thumb": "up"}, GivenFeedback("main", "turn_id", "chatcmpl_1", "positive", 1.0)),
        ({"trace_id": "tr_1", "thumb": "down", "magnitude": 0.5},
         GivenFeedback("main", "trace_id", "tr_1", "negative", 0.5)),
        ({"session": "main", "score": -0.25, "text": "No.", "key": "k", "agent": "main"},
         GivenFeedback("main", "session", "main", "negative", 0.25, "No.", "k")),
        ({"episode_id": "ep_1", "score": 0}, GivenFeedback("main", "episode_id", "ep_1", "neutral", 0.0)),
        ({"task_id": "ta_1", "polarity": "mixed"}, GivenFeedback("main", "task_id", "ta_1", "mixed", 1.0)),
        ({"skill": "brew", "polarity": "positive", "magnitude": 1},
         GivenFeedback("main", "skill", "brew", "positive", 1.0)),
    ],
)  # fmt: skip
async def test_taken(body: Any, given: GivenFeedback) -> None:
    """It is answered at once with 202 and its id."""
    app = ScriptedApp()

    assert await sent(app, body) == (202, '{"object":"reverie.feedback","id":"fb_1","accepted":true}')
    assert app.learning.asked == [(given,)]


TARGETS = "`turn_id`, `trace_id`, `episode_id`, `task_id`, `skill`, `session`"


@pytest.mark.parametrize(
    ("body", "message", "param"),
    [
        ({"thumb": "up"}, f"Exactly one of {TARGETS} says what the feedback is about.", "turn_id"),
        ({"turn_id": "a", "skill": "b", "thumb": "up"},
         f"Exactly one of {TARGETS} says what the feedback is about.", "skill"),
        ({"turn_id": "a"}, "Exactly one of `polarity`, `thumb`, `score` says which way it points.", "polarity"),
        ({"turn_id": "a", "thumb": "up", "score": 1},
         "Exactly one of `polarity`, `thumb`, `score` says which way it points.", "score"),
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
        ({"turn_id": "a", "thumb": "up", "agent": 3}, "`agent` must be a string.", "agent"),
        ({"turn": "a", "thumb": "up"},
         ("There is no field `turn` here. Fields: `agent`, `episode_id`, `key`, `magnitude`, `polarity`, `score`, "
         "`session`, `skill`, `task_id`, `text`, `thumb`, `trace_id`, `turn_id`."), "turn"),
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


async def test_not_an_object() -> None:
    """A body that is no object is refused."""
    assert (await sent(ScriptedApp(), [1]))[0] == 400
