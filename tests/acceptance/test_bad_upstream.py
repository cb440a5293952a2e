"""The model's server is dead, slow or breaks off: the caller reads why, the message is kept, the next turn works."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from reverie.sessions.replay import NO_ANSWER
from reverie.testing.fake_upstream import FakeUpstream, Plan, serve_in_thread
from tests.acceptance.servers import WITHOUT_MEMORY, said_by_user, sdk, server_at, upstream_for

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.acceptance.servers import Answer, Server, WithUpstream

SESSION = "agent:main:openai-user:"


def events(answer: Answer) -> list[Any]:
    """The events of a stream, `[DONE]` as a word."""
    assert answer.status == 200
    lines = [line.removeprefix("data: ") for line in answer.body.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def streamed_text(answer: Answer) -> str:
    """The reply of a stream as far as it came."""
    choices = [choice for event in events(answer) if event != "[DONE]" for choice in event.get("choices", [])]
    return "".join(choice["delta"].get("content", "") for choice in choices)


@pytest.fixture(scope="module")
def impatient_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WithUpstream]:
    """A running server that waits half a second for its model and does not try again."""
    with server_at(tmp_path_factory.mktemp("impatient") / "home") as made:
        made.environment |= {
            **WITHOUT_MEMORY,
            "REVERIE_UPSTREAM__READ_S": "0.5",
            "REVERIE_UPSTREAM__RETRIES_MAX": "0",
        }
        with upstream_for(made, Plan()) as both:
            made.start()
            yield both


@pytest.fixture
def impatient(impatient_server: WithUpstream) -> WithUpstream:
    """That server, its upstream as new."""
    impatient_server.upstream.plan = Plan(echo=True)
    impatient_server.upstream.requests.clear()
    return impatient_server


def check_goes_on(both: WithUpstream, user: str, *, partial: str = "") -> None:
    """The next turn is answered, and the model reads in it what was said before."""
    both.upstream.plan = Plan(text="All is well.")
    assert both.server.chat("Are you back?", user=user).text == "All is well."
    said = [("user", "Are you there?"), *([("assistant", partial)] if partial else [])]
    assert both.server.transcript(SESSION + user) == [
        *said, ("user", "Are you back?"), ("assistant", "All is well."),
    ]  # fmt: skip
    sent = both.asked[-1].body["messages"][1:]
    read = said if partial else [*said, ("assistant", NO_ANSWER)]
    assert [(message["role"], message["content"]) for message in sent] == [*read, ("user", "Are you back?")]
    assert both.server.turn_states(SESSION + user) == ["failed", "answered"]


def test_a_dead_upstream(server: Server) -> None:
    """Connection refused is a 502 that says what to check, plain and streamed; once it runs again, so do turns."""
    server.environment |= {**WITHOUT_MEMORY, "REVERIE_UPSTREAM__RETRIES_MAX": "1"}
    with serve_in_thread(FakeUpstream().app) as address:
        pass  # gone again, and its port with it
    server.arguments += ["--upstream", f"{address}/v1", "--model", "fake-model"]
    server.start()
    plain = server.chat("Are you there?")
    stream = server.chat("Are you there?", stream=True)
    upstream = FakeUpstream(Plan(echo=True))
    with serve_in_thread(upstream.app, int(address.rpartition(":")[2])):
        answer = server.chat("Are you back?")

    assert (plain.status, plain.error["type"], plain.error["code"]) == (502, "api_error", "upstream_unreachable")
    assert plain.headers["x-should-retry"] == "false"
    assert address in plain.error["message"]
    assert "check that it runs" in plain.error["message"]
    assert events(stream)[-2:] == [{"error": plain.error}, "[DONE]"]
    assert answer.text == "Are you back?"
    assert said_by_user(upstream.requests[0]) == ["Are you there?", "Are you back?"]
    assert server.transcript() == [
        ("user", "Are you there?"), ("user", "Are you there?"), ("user", "Are you back?"),
        ("assistant", "Are you back?"),
    ]  # fmt: skip


def test_an_upstream_that_recovers(wire: WithUpstream) -> None:
    """A server that is overloaded for a moment is asked again, and the caller notices nothing."""
    wire.upstream.plan = Plan(echo=True, fail_first=2, fail_status=503, retry_after="0")
    answer = wire.server.chat("Are you there?", user="patient")

    assert answer.text == "Are you there?"
    assert len(wire.asked) == 3
    assert wire.server.transcript(SESSION + "patient") == [("user", "Are you there?"), ("assistant", "Are you there?")]


@pytest.mark.parametrize("stream", [False, True])
def test_a_slow_upstream(impatient: WithUpstream, *, stream: bool) -> None:
    """Silence beyond the configured time is a 504, and in a stream an error event."""
    user = f"slow-{stream}".lower()
    impatient.upstream.plan = Plan(delay_s=30)
    started = time.monotonic()
    answer = impatient.server.chat("Are you there?", user=user, stream=stream)
    took_s = time.monotonic() - started
    error = events(answer)[-2]["error"] if stream else answer.error

    assert answer.status == (200 if stream else 504)
    assert (error["type"], error["code"]) == ("api_error", "upstream_timeout")
    assert "no answer in time" in error["message"]
    assert took_s < 5
    check_goes_on(impatient, user)


def test_an_upstream_that_falls_silent_in_a_stream(impatient: WithUpstream) -> None:
    """A stream that began and then does not go on ends with the error as well."""
    impatient.upstream.plan = Plan(text="one two three", chunks=3, chunk_delay_s=30)
    answer = impatient.server.chat("Are you there?", user="silent", stream=True)

    assert events(answer)[-2]["error"]["code"] == "upstream_timeout"
    assert events(answer)[-1] == "[DONE]"
    check_goes_on(impatient, "silent")


def test_an_upstream_that_dies_in_a_stream(impatient: WithUpstream) -> None:
    """The caller gets what came, an error event and `[DONE]`; the part that was said is in the transcript."""
    impatient.upstream.plan = Plan(text="one two three four", chunks=4, die_after_chunks=3)
    answer = impatient.server.chat("Are you there?", user="dying", stream=True)

    assert streamed_text(answer) == "one two th"
    assert events(answer)[-2]["error"]["code"] == "upstream_malformed"
    assert "ended early" in events(answer)[-2]["error"]["message"]
    assert events(answer)[-1] == "[DONE]"
    check_goes_on(impatient, "dying", partial="one two th")


def test_the_sdk_raises_what_broke_off(impatient: WithUpstream) -> None:
    """In the official client a broken stream is an exception with our message, after the text that came."""
    impatient.upstream.plan = Plan(text="one two three four", chunks=4, end_after_chunks=3)
    said: list[str] = []
    with sdk(impatient.server) as client:
        stream = client.chat.completions.create(
            model="reverie", user="sdk", stream=True, messages=[{"role": "user", "content": "Are you there?"}]
        )
        with pytest.raises(openai.APIError) as raised:
            said.extend(chunk.choices[0].delta.content or "" for chunk in stream)

    assert "".join(said) == "one two th"
    assert "ended early" in raised.value.message
    check_goes_on(impatient, "sdk", partial="one two th")


def test_an_upstream_that_speaks_something_else(impatient: WithUpstream) -> None:
    """An answer that is not the protocol is a 502 that says so."""
    impatient.upstream.plan = Plan(malformed=True)
    answer = impatient.server.chat("Are you there?", user="garbled")

    assert (answer.status, answer.error["code"]) == (502, "upstream_malformed")
    check_goes_on(impatient, "garbled")


def test_a_refusal_of_the_upstream(impatient: WithUpstream) -> None:
    """The upstream's own words reach the caller; a wrong key is the operator's matter, and never shown."""
    impatient.upstream.plan = Plan(api_key="sk-something-else")
    unauthorized = impatient.server.chat("Are you there?", user="refused")
    impatient.upstream.plan = Plan(fail_first=1, fail_status=429, fail_message="Slow down.", retry_after="7")
    limited = impatient.server.chat("Are you there?", user="limited")

    assert (unauthorized.status, unauthorized.error["type"]) == (502, "authentication_error")
    assert (
        "no API key is set: put one into the environment variable REVERIE_UPSTREAM_API_KEY"
        in (unauthorized.error["message"])
    )
    assert (limited.status, limited.error["type"], limited.headers["retry-after"]) == (429, "rate_limit_error", "7")
    assert "Slow down." in limited.error["message"]
    check_goes_on(impatient, "refused")
