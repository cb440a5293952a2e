"""Reflecting on a window of steps.

Where the record of the original system differs: windows are reflected on as they are full, one call each, so that there
are no chunks of one pass, no calls for single steps, and no cap of 128 calls a pass; a refused answer leaves neutral
steps instead of starting calls for each. Steps are known by their ids: nothing has to be matched after a restart.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import AnswerRefusedError, EmbedderError, JobDeferredError, TextRefusedError, UpstreamError
from reverie.learning.credit.reflection import Scores, check_scores
from reverie.learning.steps.trace_vectors import action_text
from reverie.testing import FakeEmbedder, ScriptedAsks
from tests.integration.learning.traces_world import Home, open_home, scores
from tests.unit.learning.said import agent, result, user

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray


@pytest.fixture
async def home(tmp_path: Path) -> AsyncGenerator[Home]:
    """A home with a window of three steps that is closed."""
    async with open_home(tmp_path) as opened:
        said = [user(1, "Clean the roaster"), agent(2, "I look.", "c1 ls /roaster"), result(3, "c1", "brush")]
        await opened.take([*said, agent(4, "Clean."), user(5, "And the grinder?"), agent(6, "Clean, too.")])
        await opened.close_window()
        yield opened


def judged(home: Home) -> list[tuple[str, float, bool | None, str]]:
    return [(trace.reflection, trace.alpha, trace.usable, trace.summary) for trace in home.traces()]


def window(home: Home) -> tuple[Any, ...]:
    return home.sql("SELECT state, reflected_at, reflected_by, note FROM reflection_windows")[0]


@pytest.mark.anyio
async def test_a_window_costs_one_call(home: Home) -> None:
    """It brings every step its reflection, its α and its summary, in any order. Each text is embedded once."""
    answer = scores(0.7, 0.2, 0.4)
    answer["scores"].reverse()
    home.asks.add("reflection.batch", answer)
    assert await home.reflect() == {"steps": 3, "by": "reflection.batch@1", "note": ""}
    assert judged(home) == [
        ("I learned thing 0.", 0.7, True, "step 0"),
        ("I learned thing 1.", 0.2, True, "step 1"),
        ("I learned thing 2.", 0.4, True, "step 2"),
    ]
    assert window(home) == ("reflected", home.clock.now_ms(), "reflection.batch@1", "")
    assert (len(home.asks.asked), home.asks.asked[0].max_tokens) == (1, 768 + 3 * 512)
    assert home.embedder is not None
    assert home.embedder.passages == 5
    for trace in home.traces():
        assert trace.vec_summary is not None
        assert trace.vec_action is not None
        assert list(trace.vec_action) == list(home.embedder.vector(action_text(trace)))
    assert home.sql("SELECT stage, outcome, reason, ref FROM learning_trail") == [
        ("window", "learned", "reflected", "ep_1:1")
    ]


@pytest.mark.anyio
async def test_a_window_that_was_reflected_on_makes_no_call_again(home: Home) -> None:
    """The job run twice leaves the same rows."""
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    await home.reflect()
    before = home.everything()
    assert await home.reflect() == {"skipped": "reflected"}
    assert home.everything() == before
    assert home.embedder is not None
    assert (len(home.asks.asked), home.embedder.passages) == (1, 5)


@pytest.mark.anyio
async def test_the_model_is_shown_each_step_within_its_bounds(home: Home) -> None:
    """What was asked, done and followed; it is told what it need not write, and in which language to write."""
    home.asks.add("reflection.batch", scores(0, 0, 0))
    await home.reflect()
    shown = json.loads(home.asks.asked[0].text)
    assert shown == {
        "answer_in": "English",
        "task_context": "Cleaning",
        "steps": [
            {
                "idx": 0,
                "state": "Clean the roaster",
                "thinking": "",
                "action": "I look.",
                "tool_calls": [{"name": "ls", "input": "/roaster", "output": "brush", "error": ""}],
                "outcome": "",
                "reflection": "",
                "synth_allowed": True,
            },
            {"idx": 1, "state": "", "thinking": "", "action": "Clean.", "tool_calls": [], "outcome": "And the grinder?",
             "reflection": "", "synth_allowed": True},
            {"idx": 2, "state": "And the grinder?", "thinking": "", "action": "Clean, too.", "tool_calls": [],
             "outcome": "", "reflection": "", "synth_allowed": True},
        ],
    }  # fmt: skip


@pytest.mark.anyio
async def test_a_full_window_of_long_texts_stays_bounded(home: Home) -> None:
    """Twelve steps, long in every field; what was asked is told again where a window begins within an exchange."""
    big = "w" * 9_000
    said = [user(7, "烘豆机" * 3_000), agent(8, big, f"c0 x {big}"), result(9, "c0", big)]
    for number in range(1, 13):
        said += [agent(8 + 2 * number, big, f"c{number} x {big}"), result(9 + 2 * number, f"c{number}", big)]
    await home.take(said)
    await home.close_window()
    home.asks.add("reflection.batch", scores(*(0.1 for _ in range(12))), scores(0.1))
    await home.reflect(2)
    await home.reflect(3)
    first, second = home.asks.asked
    assert len(first.text) < 12 * 6_500
    assert first.max_tokens == 768 + 12 * 512
    step = json.loads(first.text)["steps"][0]
    assert [len(step[name]) for name in ("state", "action")] == [1_200, 1_500]
    assert [len(step["tool_calls"][0][name]) for name in ("input", "output")] == [600, 300]
    assert json.loads(second.text)["task_context"].startswith("Cleaning\n烘豆机")
    assert len(json.loads(second.text)["task_context"]) == 800


@pytest.mark.anyio
async def test_a_larger_window_is_shown_with_less_of_each_step(home: Home) -> None:
    """Of 48 steps a quarter, so that what a model reads is no longer."""
    home.set(window_steps=48)
    big = "w" * 9_000
    said = [
        message
        for number in range(48)
        for message in (user(7 + 2 * number, f"{number} {big}"), agent(8 + 2 * number, big))
    ]
    await home.take(said)
    home.asks.add("reflection.batch", scores(*(0.1 for _ in range(48))))
    await home.reflect(2)
    (asked,) = home.asks.asked
    assert [len(json.loads(asked.text)["steps"][3][name]) for name in ("state", "action", "outcome")] == [300, 375, 150]
    assert asked.max_tokens == 8_192


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (scores(0.1, 0.2), "`scores` must have exactly one entry for each `idx` from 0 to 2"),
        ({"scores": [*scores(0.1, 0.2)["scores"], *scores(0.1)["scores"]]}, "`scores` must have exactly one entry"),
        (scores(0.1, "high", 0.2), "`alpha` of step 1 is not a number"),
        (scores(0.1, None, 0.2), "`alpha` of step 1 is not a number"),
    ],
)
@pytest.mark.anyio
async def test_an_answer_of_the_wrong_form_leaves_neutral_steps(home: Home, answer: dict[str, Any], wrong: str) -> None:
    """It is not asked for again; the window says why no model weighed it."""
    assert str(check_scores(Scores.model_validate(answer), 3)).startswith(wrong)
    home.asks.add("reflection.batch", answer)
    assert (await home.reflect())["by"] == "heuristic"
    assert [(alpha, usable) for _, alpha, usable, _ in judged(home)] == [(0.0, None)] * 3
    assert window(home)[2] == "heuristic"
    assert window(home)[3].startswith(f"refused: {wrong}")
    assert home.sql("SELECT outcome, reason FROM learning_trail") == [("skipped", "refused")]
    assert await home.reflect() == {"skipped": "reflected"}


@pytest.mark.anyio
async def test_alpha_is_bounded(home: Home) -> None:
    """0 to 1; what cannot be reckoned with, and what is of no use, is 0."""
    answer = scores(7, -1, "nan")
    home.asks.add("reflection.batch", answer)
    await home.reflect()
    assert [alpha for _, alpha, _, _ in judged(home)] == [1.0, 0.0, 0.0]


@pytest.mark.anyio
async def test_what_is_of_no_use_contributes_nothing(home: Home) -> None:
    """Whatever α the model gave it."""
    home.asks.add("reflection.batch", scores(0.9, 0.9, 0.9, usable=False))
    await home.reflect()
    assert [(alpha, usable) for _, alpha, usable, _ in judged(home)] == [(0.0, False)] * 3


@pytest.mark.anyio
async def test_without_scoring_alpha_says_whether_something_is_known(home: Home) -> None:
    """A half with a reflection, 0 without; a text too short to say anything is none, an empty summary no summary."""
    home.set(alpha_scoring=False)
    answer = scores(0.9, 0.9, 0.9)
    answer["scores"][1] |= {"reflection_text": "short", "summary": " "}
    home.asks.add("reflection.batch", answer)
    await home.reflect()
    assert judged(home) == [
        ("I learned thing 0.", 0.5, None, "step 0"),
        ("", 0.0, None, "Clean."),
        ("I learned thing 2.", 0.5, None, "step 2"),
    ]


@pytest.mark.anyio
async def test_without_synthesis_the_words_of_the_model_are_discarded(home: Home) -> None:
    """Its scores are kept; it is told to write none."""
    home.set(synth_reflections=False)
    home.asks.add("reflection.batch", scores(0.9, 0.8, 0.7))
    await home.reflect()
    assert [(text, alpha) for text, alpha, _, _ in judged(home)] == [("", 0.9), ("", 0.8), ("", 0.7)]
    assert not any(step["synth_allowed"] for step in json.loads(home.asks.asked[0].text)["steps"])


@pytest.mark.anyio
async def test_an_agents_own_reflection_stays_as_it_is(home: Home) -> None:
    """Letter by letter, whatever the model writes, and also when no model is asked."""
    own = "I should have asked first."
    await home.take([user(7, "Again"), agent(8, f"Done.\n<reflection>{own}</reflection>")])
    await home.close_window()
    home.asks.add("reflection.batch", scores(0.6))
    await home.reflect(2)
    assert judged(home)[-1] == (own, 0.6, True, "step 0")
    assert json.loads(home.asks.asked[0].text)["steps"][0]["synth_allowed"] is False

    await home.take([user(9, "And again"), agent(10, f"Done.\n<reflection>{own}</reflection>")])
    await home.close_window()
    home.asks = ScriptedAsks(available=False)
    assert await home.reflect(3) == {"steps": 1, "by": "heuristic", "note": "no_model"}
    assert judged(home)[-1] == (own, 0.5, None, "And again")


@pytest.mark.anyio
async def test_a_person_who_edited_a_step_is_not_overruled(home: Home) -> None:
    """Its words stay; its α is the model's."""
    home.sql("UPDATE traces SET reflection = 'mine, not yours', summary = 'mine', edited_at = 1 WHERE first_seq = 4")
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    await home.reflect()
    assert judged(home)[1] == ("mine, not yours", 0.2, True, "mine")


@pytest.mark.anyio
async def test_with_everything_switched_off_nobody_is_asked(home: Home) -> None:
    """Nor when the steps are gone."""
    home.set(alpha_scoring=False, synth_reflections=False)
    assert await home.reflect() == {"steps": 3, "by": "heuristic", "note": "switched_off"}
    await home.take([user(7, "More"), agent(8, "Yes.")])
    await home.close_window()
    home.sql("DELETE FROM traces")
    home.set(alpha_scoring=True)
    assert await home.reflect(2) == {"steps": 0, "by": "heuristic", "note": "no_steps"}
    assert home.asks.asked == []


@pytest.mark.anyio
async def test_lightweight_has_one_vector_and_no_reflection(home: Home) -> None:
    """Of what a step was about."""
    home.set(mode="lightweight")
    assert await home.reflect() == {"steps": 3, "by": "heuristic", "note": "lightweight"}
    assert [(trace.vec_summary is None, trace.vec_action is None) for trace in home.traces()] == [(False, True)] * 3
    home.set(mode="off")
    assert await home.reflect() == {"skipped": "off"}


@pytest.mark.anyio
async def test_without_an_embedder_there_are_no_vectors(home: Home) -> None:
    """The rest goes on."""
    home.embedder = None
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    assert (await home.reflect())["steps"] == 3
    assert all(trace.vec_summary is None for trace in home.traces())


@pytest.mark.anyio
async def test_an_embedder_that_fails_has_the_job_tried_again(home: Home) -> None:
    """Nothing is written and no model asked until it works; then all of it is made up for."""
    before = home.everything()
    home.embedder = FakeEmbedder(error=EmbedderError("down"))
    with pytest.raises(EmbedderError):
        await home.reflect()
    assert home.everything() == before
    home.embedder = FakeEmbedder()
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    assert (await home.reflect())["by"] == "reflection.batch@1"


class Choosy(FakeEmbedder):
    """It refuses texts with a grinder in them, and with them all that came in the same call."""

    async def embed_passages(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """As its parent."""
        if any("grinder" in text for text in texts):
            raise TextRefusedError("no grinders")
        return await super().embed_passages(texts)


@pytest.mark.anyio
async def test_a_text_that_is_refused_costs_its_own_vector_alone(home: Home) -> None:
    """The others have theirs."""
    home.embedder = Choosy()
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    await home.reflect()
    assert [(trace.vec_summary is None, trace.vec_action is None) for trace in home.traces()] == [
        (False, False), (False, False), (True, False),
    ]  # fmt: skip


@pytest.mark.anyio
async def test_a_call_that_fails_leaves_the_window_closed(home: Home) -> None:
    """The vectors that were paid for are kept; the next try makes the call alone."""
    home.asks.add("reflection.batch", UpstreamError("down"), scores(0.7, 0.2, 0.4))
    with pytest.raises(UpstreamError):
        await home.reflect()
    assert window(home) == ("closed", None, "", "")
    assert [alpha for _, alpha, _, _ in judged(home)] == [0.0] * 3
    await home.reflect()
    assert home.embedder is not None
    assert (window(home)[0], home.embedder.passages) == ("reflected", 5)


@pytest.mark.anyio
async def test_a_refusal_by_the_door_is_final(home: Home) -> None:
    """Twice a wrong answer: neutral, and on record."""
    home.asks.add("reflection.batch", AnswerRefusedError("reflection.batch@1", "no JSON"))
    assert (await home.reflect())["note"] == "refused: no JSON"


@pytest.mark.anyio
async def test_nothing_is_learned_while_an_episode_may_go_on(home: Home) -> None:
    """The job waits for the decision, an hour at most."""
    home.sql("UPDATE episodes SET provisional = 1")
    with pytest.raises(JobDeferredError) as deferred:
        await home.reflect()
    assert deferred.value.until_ms == home.clock.now_ms() + 10_000
    assert home.asks.asked == []
    home.sql("UPDATE job_requests SET put_backs = 360")
    home.asks.add("reflection.batch", scores(0.7, 0.2, 0.4))
    assert (await home.reflect())["steps"] == 3


@pytest.mark.anyio
async def test_an_open_window_is_not_reflected_on(home: Home) -> None:
    """Nor one that does not exist."""
    await home.take([user(7, "More"), agent(8, "Yes.")])
    assert await home.reflect(2) == {"skipped": "no_window"}
    assert await home.reflect(9) == {"skipped": "no_window"}
