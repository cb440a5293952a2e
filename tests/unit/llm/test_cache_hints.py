"""Hints with which a server finds the beginning of a prompt again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from reverie.config import UpstreamConfig
from reverie.errors import UpstreamRefusedError
from reverie.llm.cache_hints import CacheHintsSetting, hints_for
from reverie.llm.chat_request import request_body
from reverie.llm.client import Completed, ModelRequest
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.llm.reply import read_usage
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve
from reverie.types import ImagePart, Message

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from reverie.llm.cache_hints import CacheHints

PROMPT = (
    Message("system", "Be brief."),
    Message("user", "one"),
    Message("assistant", "eins"),
    Message("user", "two"),
)
REQUEST = ModelRequest(PROMPT, stream=False, cache_key="reverie-s1", cache_breakpoints=(0, 2))


@pytest.mark.parametrize(
    ("setting", "url", "hints"),
    [
        ("auto", "https://api.openai.com/v1", "openai"),
        ("auto", "https://house.openai.azure.com/openai/v1", "openai"),
        ("auto", "https://api.mistral.ai/v1", "openai"),
        ("auto", "https://openrouter.ai/api/v1", "anthropic"),
        ("auto", "https://api.anthropic.com/v1", "anthropic"),
        ("auto", "https://notopenrouter.ai/v1", "off"),
        ("auto", "http://127.0.0.1:11434/v1", "off"),
        ("openai", "http://127.0.0.1:11434/v1", "openai"),
        ("anthropic", "https://api.openai.com/v1", "anthropic"),
        ("off", "https://api.openai.com/v1", "off"),
    ],
)
def test_what_is_said_goes_by_the_setting_then_by_the_host(
    setting: CacheHintsSetting, url: str, hints: CacheHints
) -> None:
    """A server that nobody knows is told nothing."""
    assert hints_for(setting, url) == hints


def body(request: ModelRequest, hints: CacheHints) -> dict[str, Any]:
    return json.loads(request_body(request, model="m", stream=False, usage_in_stream=False, hints=hints))


def test_the_key_names_the_conversation() -> None:
    """A key that the client sent itself stays; without hints there is none."""
    theirs = ModelRequest(PROMPT, sampling={"prompt_cache_key": "theirs"}, cache_key="reverie-s1")

    assert body(REQUEST, "openai")["prompt_cache_key"] == "reverie-s1"
    assert body(theirs, "openai")["prompt_cache_key"] == "theirs"
    assert body(REQUEST, "openai")["messages"] == body(REQUEST, "off")["messages"]
    assert "prompt_cache_key" not in body(REQUEST, "off")


def test_breakpoints_mark_the_last_part_of_a_message() -> None:
    """The others stay as they were; a message without text has no place for a mark."""
    seen = Message("user", "look", images=(ImagePart("data:,x"),))
    messages = body(ModelRequest((*PROMPT, seen, Message("assistant", "")), cache_breakpoints=(0, 4, 5)), "anthropic")[
        "messages"
    ]

    marked = {"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}
    assert messages[0]["content"] == [marked]
    assert [message["content"] for message in messages[1:4]] == ["one", "eins", "two"]
    assert [part.get("cache_control") for part in messages[4]["content"]] == [None, {"type": "ephemeral"}]
    assert messages[5]["content"] == ""


def upstream_config(address: str, **changes: Any) -> UpstreamConfig:
    return UpstreamConfig(base_url=f"{address}/v1", model="m", retries_max=0, **changes)


async def answered(model: OpenAICompatibleModel, request: ModelRequest) -> Completed:
    events = [event async for event in model.respond(request)]
    assert isinstance(events[-1], Completed)
    return events[-1]


@pytest.fixture
async def upstream() -> AsyncGenerator[tuple[FakeUpstream, str]]:
    """A server, and its address."""
    fake = FakeUpstream()
    async with serve(fake.app) as address:
        yield fake, address


@pytest.mark.anyio
@pytest.mark.parametrize("hints", ["openai", "anthropic"])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_server_that_refuses_a_hint_is_asked_without_and_not_offered_it_again(
    upstream: tuple[FakeUpstream, str],
    hints: CacheHintsSetting,
    stream: bool,  # noqa: FBT001 (a parameter of the table)
) -> None:
    """The answer comes all the same, and the next call asks once."""
    from dataclasses import replace

    fake, address = upstream
    fake.plan = Plan(refuse_cache_hints=True)
    model = OpenAICompatibleModel(upstream_config(address, cache_hints=hints), None)
    await answered(model, replace(REQUEST, stream=stream))
    tries = len(fake.requests)
    await answered(model, replace(REQUEST, stream=stream))
    await model.aclose()

    assert model.cache_hints == "off"
    assert tries in {2, 3}
    assert len(fake.requests) == tries + 1
    assert ("stream_options" in fake.requests[-1].body) is stream


@pytest.mark.anyio
async def test_a_server_that_takes_it_gets_it_with_every_call(upstream: tuple[FakeUpstream, str]) -> None:
    """Another refusal is then about something else, and is not tried again."""
    fake, address = upstream
    model = OpenAICompatibleModel(upstream_config(address, cache_hints="openai"), None)
    await answered(model, REQUEST)
    fake.plan = Plan(fail_first=1, fail_status=400, fail_message="no such tool")
    with pytest.raises(UpstreamRefusedError, match="no such tool"):
        await answered(model, REQUEST)
    await model.aclose()

    assert [request.body.get("prompt_cache_key") for request in fake.requests] == ["reverie-s1"] * 2
    assert model.cache_hints == "openai"


@pytest.mark.anyio
async def test_a_prompt_that_is_too_large_is_not_blamed_on_the_hint(upstream: tuple[FakeUpstream, str]) -> None:
    """It would be as large without."""
    fake, address = upstream
    fake.plan = Plan(fail_first=9, fail_status=400, fail_code="context_length_exceeded", fail_message="too long")
    model = OpenAICompatibleModel(upstream_config(address, cache_hints="openai"), None)
    with pytest.raises(UpstreamRefusedError, match="too long"):
        await answered(model, REQUEST)
    await model.aclose()

    assert len(fake.requests) == 1


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 900, "prompt_tokens_details": {"cached_tokens": 800}},
        {"prompt_tokens": 900, "prompt_cache_hit_tokens": 800, "prompt_cache_miss_tokens": 100},
        {"prompt_tokens": 900, "cache_read_input_tokens": 800},
    ],
)
def test_cached_tokens_are_read_in_each_servers_words(usage: dict[str, Any]) -> None:
    """OpenAI's, DeepSeek's, Anthropic's."""
    assert read_usage(usage).cached_tokens == 800
