"""The double of a model that fails."""

from __future__ import annotations

import pytest

from reverie.errors import UpstreamRefusedError, UpstreamUnreachableError
from reverie.llm.client import ModelRequest, TextDelta
from reverie.testing import FlakyModel
from reverie.types import Message

pytestmark = pytest.mark.anyio

REQUEST = ModelRequest((Message("user", "Hello"),))


async def said(model: FlakyModel) -> str:
    return "".join([event.text async for event in model.respond(REQUEST) if isinstance(event, TextDelta)])


async def test_faults_come_in_order_and_then_end() -> None:
    """Each call has its fault, further calls have none, and what was asked is remembered."""
    model = FlakyModel(lambda _: '{"a": 1}', faults=["malformed", "broken_json", "unreachable", "rate_limited"],
                       retry_after="7")  # fmt: skip
    assert await said(model) == "I would rather talk about something else."
    assert await said(model) == '{"a": 1'
    with pytest.raises(UpstreamUnreachableError):
        await said(model)
    with pytest.raises(UpstreamRefusedError) as refused:
        await said(model)
    assert (refused.value.upstream_status, refused.value.retry_after) == (429, "7")
    assert await said(model) == '{"a": 1}'
    assert (len(model.calls), model.in_flight, model.in_flight_max, model.cancelled) == (5, 0, 1, 0)


async def test_faults_may_go_on_for_ever() -> None:
    """With `faults_for_ever` the first fault follows the last."""
    model = FlakyModel(lambda _: "{}", faults=["ok", "malformed"], faults_for_ever=True)
    assert [await said(model) for _ in range(4)] == ["{}", "I would rather talk about something else."] * 2
