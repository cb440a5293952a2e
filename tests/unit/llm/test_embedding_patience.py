"""What follows a failed call for embeddings."""

from __future__ import annotations

import json

import pytest

from reverie.errors import (
    EmbedderError,
    TextRefusedError,
    UpstreamClosedError,
    UpstreamError,
    UpstreamMalformedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.llm.embedding_patience import (
    PASSAGES,
    PASSAGES_SLOWED,
    QUESTION,
    Patience,
    backoff_s,
    embedder_error,
    is_too_many,
    may_halve,
    patience_after,
    wait_before_retry,
)
from reverie.llm.upstream_failures import CalledServer, Refusal, refused

SERVER = CalledServer("the embeddings server", "https://api.example/v1", "the environment variable KEY")
UNREACHABLE = UpstreamUnreachableError("cannot connect: Connection refused")
NO_ROUTE = UpstreamUnreachableError("cannot connect: No route to host")
RESET = UpstreamClosedError("closed the connection: Connection reset by peer")
LATE = UpstreamTimeoutError("no answer in time")
ODD = UpstreamMalformedError("not embeddings")


def refusal(
    status: int, said: str = "no", *, code: str | None = None, retry_after: str | None = None
) -> UpstreamRefusedError:
    """The error for an answer with this status."""
    body = json.dumps({"error": {"message": said, "code": code}})
    return refused(SERVER, Refusal(status, body, retry_after), model="m", with_tools=False)


def waits(error: UpstreamError, patience: Patience, chance: float = 0.0) -> list[float]:
    """The waits before every further try, when each fails in the same way."""
    found: list[float] = []
    while (wait_s := wait_before_retry(
        error, patience_after(error, patience), failures=len(found) + 1, waited_s=sum(found), chance=chance, now_ms=0
    )) is not None:  # fmt: skip
        found.append(wait_s)
    return found


def test_the_waits_double() -> None:
    """Half a second, one, two; with the most of chance, a fifth longer; never beyond eight (E3)."""
    assert waits(refusal(503), QUESTION) == [0.5, 1, 2]
    assert waits(refusal(503), QUESTION, chance=1) == pytest.approx([0.6, 1.2, 2.4])
    assert [backoff_s(QUESTION, failures, 0) for failures in (5, 6, 60)] == [8, 8, 8]
    assert backoff_s(QUESTION, 5, 1) == 8


def test_passages_wait_for_a_server_that_asks_for_a_slower_pace() -> None:
    """After a 429, five tries from five seconds on; a question is not kept waiting for that."""
    assert waits(refusal(429), PASSAGES) == [5, 10, 20, 40]
    assert waits(refusal(429), PASSAGES, chance=1) == [6, 12, 24, 48]
    assert waits(refusal(429), QUESTION) == [0.5, 1, 2]
    assert patience_after(refusal(503), PASSAGES) is PASSAGES
    assert PASSAGES_SLOWED.retries + 1 == 5


@pytest.mark.parametrize(
    ("retry_after", "patience", "expected"),
    [
        ("3", QUESTION, [3, 3]),
        ("8", QUESTION, [8]),
        ("9", QUESTION, []),
        ("50", PASSAGES, [50, 50, 50, 50]),
        ("60", PASSAGES, [60, 60, 60, 60]),
        ("61", PASSAGES, []),
    ],
)
def test_retry_after_is_honoured(retry_after: str, patience: Patience, expected: list[float]) -> None:
    """The server's wait is taken as it is; a question waits eight seconds in all, and never longer than is worth it."""
    assert waits(refusal(429, retry_after=retry_after), patience) == expected


@pytest.mark.parametrize(
    "error",
    [refusal(400), refusal(401), refusal(403), refusal(404), refusal(413), refusal(422), refusal(431), refusal(501),
     refusal(402), refusal(429, code="insufficient_quota", retry_after="1"), LATE, ODD],
)  # fmt: skip
def test_lasting_failures_are_not_tried_again(error: UpstreamError) -> None:
    """What the same call would meet again, and a server that took all its time, end it at once (E4)."""
    assert waits(error, PASSAGES) == []


@pytest.mark.parametrize(
    "error", [UNREACHABLE, NO_ROUTE, RESET, refusal(500), refusal(502), refusal(504), refusal(529)]
)
def test_passing_failures_are(error: UpstreamError) -> None:
    """A server that restarts or is overloaded is waited for (E4)."""
    assert waits(error, PASSAGES) == [0.5, 1, 2]


@pytest.mark.parametrize(
    "error",
    [
        RESET,
        refusal(431, "Request Header Fields Too Large"),
        refusal(413, "Payload Too Large"),
        refusal(400, "request header too large"),
        refusal(400, "max 16 inputs"),
        refusal(400, "Too many inputs. The max number of inputs is 96."),
        refusal(422, "batch size 64 > maximum allowed batch size 32"),
        refusal(400, "batch size is invalid, it should not be larger than 10."),
        refusal(400, "'input' array must have at most 2048 items"),
        refusal(400, "at most 100 requests in one batch"),
    ],
    ids=str,
)
def test_calls_that_may_succeed_in_halves(error: UpstreamError) -> None:
    """A reset connection, headers or a body that are too large, and more inputs than are allowed (E4)."""
    assert may_halve(error)


@pytest.mark.parametrize(
    "error",
    [
        UNREACHABLE,
        NO_ROUTE,
        LATE,
        ODD,
        refusal(429, "too many inputs per minute"),
        refusal(429),
        refusal(402),
        refusal(401),
        refusal(500, "too many inputs"),
        refusal(503),
        refusal(400, "invalid model"),
        refusal(
            400, "This model's maximum context length is 8192 tokens, however you requested 9000 tokens in the input."
        ),
        ValueError("max 16 inputs"),
    ],
    ids=str,
)
def test_calls_that_may_not(error: Exception) -> None:
    """No connection, no host, a limit of pace, a timeout, and whatever is not about size (E4)."""
    assert not may_halve(error)


def test_only_a_limit_of_inputs_is_remembered() -> None:
    """A connection that was reset says nothing about how many texts the next call may hold."""
    assert is_too_many(refusal(400, "max 16 inputs"))
    assert not is_too_many(RESET)
    assert not is_too_many(refusal(413, "no"))


def facts(error: UpstreamError) -> tuple[type[EmbedderError], bool, float | None, bool]:
    """What the error means, as values."""
    meant = embedder_error(error, 0)
    assert str(meant) == str(error)
    return type(meant), meant.lasting, meant.retry_after_s, meant.over_text


@pytest.mark.parametrize(
    ("error", "meant"),
    [
        (UNREACHABLE, (EmbedderError, False, None, False)),
        (RESET, (EmbedderError, False, None, True)),
        (LATE, (EmbedderError, False, None, True)),
        (refusal(500), (EmbedderError, False, None, True)),
        (refusal(503, retry_after="7"), (EmbedderError, False, 7, True)),
        (refusal(429, retry_after="70"), (EmbedderError, False, 70, False)),
        (refusal(404), (EmbedderError, False, None, False)),
        (refusal(400), (TextRefusedError, False, None, False)),
        (refusal(413), (TextRefusedError, False, None, False)),
        (refusal(401), (EmbedderError, True, None, False)),
        (refusal(402), (EmbedderError, True, None, False)),
        (refusal(429, code="insufficient_quota"), (EmbedderError, True, None, False)),
        (refusal(429, code="billing_not_active"), (EmbedderError, True, None, False)),
        (refusal(400, code="billing_hard_limit_reached"), (EmbedderError, True, None, False)),
    ],
    ids=str,
)
def test_what_a_failure_means(
    error: UpstreamError, meant: tuple[type[EmbedderError], bool, float | None, bool]
) -> None:
    """Whether it lasts until a person acts, how long the server wants peace, whether a text may be to blame."""
    assert facts(error) == meant
