"""A level of reasoning that a model refuses becomes the nearest one it takes."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from reverie.config import UpstreamConfig
from reverie.errors import UpstreamRefusedError
from reverie.llm.client import ModelRequest
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.llm.reasoning_effort import effort_of, nearest_effort, with_effort
from reverie.testing.fake_upstream import FakeUpstream, Plan
from reverie.types import Message

pytestmark = pytest.mark.anyio


def asking(**sampling: Any) -> ModelRequest:
    return ModelRequest((Message("user", "Hi"),), sampling=sampling)


def refusal(message: str, status: int = 400) -> UpstreamRefusedError:
    return UpstreamRefusedError(
        message, upstream_status=status, status=400, kind="invalid_request_error", code=None, retry_after=None
    )


@pytest.mark.parametrize(
    ("asked", "message", "nearest"),
    [
        ("minimal", "'reasoning_effort' does not support 'minimal'. Supported values are: 'low', 'medium'.", "low"),
        ("xhigh", "Unsupported value: 'reasoning_effort' = xhigh; supported: none, low, high", "high"),
        ("minimal", "reasoning.effort must be one of none, low", "low"),
        ("minimal", "Invalid reasoning_effort", "low"),
        ("max", "Invalid reasoning_effort", "xhigh"),
        ("minimal", "max_tokens is too large", None),
    ],
)
def test_the_nearest_level(asked: str, message: str, nearest: str | None) -> None:
    """What the refusal lists is believed; without a list it is the next one; another refusal is left alone."""
    assert nearest_effort(asked, refusal(message)) == nearest


def test_only_a_refusal_of_the_form_counts() -> None:
    """A server that is overloaded says nothing about levels."""
    assert nearest_effort("minimal", refusal("reasoning_effort", 503)) is None


def test_the_level_stands_in_either_place() -> None:
    """As a field of its own, or within `reasoning`; other values pass unread."""
    assert effort_of(asking(reasoning={"effort": "minimal", "summary": "auto"})) == "minimal"
    assert effort_of(asking(reasoning_effort="quick")) is None
    changed = with_effort(asking(reasoning={"effort": "minimal", "summary": "auto"}), "low")
    assert changed.sampling == {"reasoning": {"effort": "low", "summary": "auto"}}


async def test_a_refused_level_is_replaced_once_and_remembered() -> None:
    """The first call is refused and repeated; the next one is right at once, and other levels are as they were."""
    upstream = FakeUpstream(Plan(efforts=("low", "medium", "high")))
    config = UpstreamConfig.model_validate({"base_url": "http://127.0.0.1:9/v1", "model": "m"})
    model = OpenAICompatibleModel(config, None, httpx2.ASGITransport(upstream.app))
    for level in ("minimal", "minimal", "high"):
        async for _ in model.respond(asking(reasoning_effort=level)):
            pass

    asked = [request.body["reasoning_effort"] for request in upstream.requests]
    assert asked[-3:] == ["low", "low", "high"]
    assert asked[0] == "minimal"
    assert asked.count("minimal") <= 2  # an untried server may refuse `stream_options` just as well
    await model.aclose()
