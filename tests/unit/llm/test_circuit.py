"""Whether the model's server seems to work."""

from __future__ import annotations

import httpx2
import pytest

from reverie.config import UpstreamConfig
from reverie.errors import UpstreamError, UpstreamRefusedError, UpstreamTimeoutError, UpstreamUnreachableError
from reverie.llm.circuit import CircuitStatistics, UpstreamCircuit, is_of_server, open_s
from reverie.llm.client import ModelRequest
from reverie.llm.openai_compatible import OpenAICompatibleModel
from reverie.status import upstream_condition
from reverie.testing import FakeClock
from reverie.types import Message

DOWN = UpstreamUnreachableError("down")


def refused(status: int) -> UpstreamRefusedError:
    """An answer with an error status."""
    return UpstreamRefusedError("no", upstream_status=status, status=502, kind="api_error", code=None, retry_after=None)


def test_the_time_grows() -> None:
    """Nothing for two failures, then five seconds, doubled by each further one, up to five minutes."""
    assert [open_s(failures) for failures in (0, 2, 3, 4, 5, 9, 10, 10**6)] == [0, 0, 5, 10, 20, 300, 300, 300]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (DOWN, True),
        (UpstreamTimeoutError("slow"), True),
        *((refused(status), True) for status in (401, 403, 429, 500, 503)),
        *((refused(status), False) for status in (400, 404, 413, 422)),
    ],
)
def test_what_counts(error: UpstreamError, *, expected: bool) -> None:
    """What says something about the server; a request that it refuses as such is a sign of life."""
    assert is_of_server(error) == expected


def test_failures_in_a_row_open_and_an_answer_closes() -> None:
    """Two are borne; the third opens for a time; when it is over the next call decides."""
    clock = FakeClock()
    circuit = UpstreamCircuit(clock)
    started_ms = clock.now_ms()
    assert circuit.statistics() == CircuitStatistics("unknown", started_ms, 0, 0, 0, "")
    circuit.failed(DOWN)
    circuit.failed(DOWN)
    assert circuit.statistics() == CircuitStatistics("closed", started_ms, 2, 0, 0, "down")
    clock.advance(seconds=1)
    circuit.failed(DOWN)
    circuit.failed(DOWN)  # was under way when it opened
    assert circuit.statistics() == CircuitStatistics("open", started_ms + 1_000, 3, 5, 1, "down")
    clock.advance(seconds=5)
    assert circuit.statistics().state == "half_open"
    circuit.failed(DOWN)
    assert circuit.statistics() == CircuitStatistics("open", started_ms + 1_000, 4, 10, 1, "down")
    circuit.worked()
    assert circuit.statistics() == CircuitStatistics("closed", started_ms + 6_000, 0, 0, 1, "down")


def test_as_a_condition() -> None:
    """Advisory in every state: it is shown, and never makes the server unready."""
    circuit = UpstreamCircuit(FakeClock())
    seen = [upstream_condition(circuit.statistics())]
    circuit.worked()
    seen.append(upstream_condition(circuit.statistics()))
    for _ in range(3):
        circuit.failed(DOWN)
    seen.append(upstream_condition(circuit.statistics()))

    assert {condition.requirement for condition in seen} == {"advisory"}
    assert [(condition.status, condition.reason) for condition in seen] == [
        ("Unknown", "not_called"),
        ("True", "answering"),
        ("False", "upstream_circuit_open"),
    ]
    assert seen[-1].message == "3 failures in a row; the last: down"


@pytest.mark.anyio
async def test_calls_of_the_model_are_judged() -> None:
    """Each call tells how it ended, and none is refused while the circuit is open."""
    statuses = [503, 503, 503, 400, 200]
    body = {"model": "m", "choices": [{"message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}]}

    def answer(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(statuses.pop(0), json=body)

    circuit = UpstreamCircuit(FakeClock())
    config = UpstreamConfig(base_url="http://127.0.0.1:9/v1", model="m", retries_max=0)
    model = OpenAICompatibleModel(config, None, httpx2.MockTransport(answer), circuit=circuit)
    states: list[str] = []
    for _ in range(5):
        try:
            async for _ in model.respond(ModelRequest((Message("user", "hi"),), stream=False)):
                pass
        except UpstreamError:
            pass
        states.append(circuit.statistics().state)
    await model.aclose()

    assert states == ["closed", "closed", "open", "closed", "closed"]
