"""What a failure says about a model's server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from reverie.errors import UpstreamRefusedError, UpstreamTimeoutError, UpstreamUnreachableError
from reverie.learning.asking.provider import Pause, PauseRecord, lengthened, pause_for, provider_name

if TYPE_CHECKING:
    from reverie.errors import UpstreamError

NOW_MS = 1_767_225_600_000


def refusal(
    status: int, message: str = "no", *, code: str | None = None, retry_after: str | None = None
) -> UpstreamError:
    return UpstreamRefusedError(
        message, upstream_status=status, status=502, kind="api_error", code=code, retry_after=retry_after
    )


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (refusal(429, retry_after="60"), Pause("rate_limit", 60.0)),
        (refusal(429, retry_after="Thu, 01 Jan 2026 00:02:00 GMT"), Pause("rate_limit", 120.0)),
        (refusal(429), Pause("rate_limit", 60.0)),
        (refusal(429, retry_after="9999999"), Pause("rate_limit", 86_400.0)),
        (refusal(429, code="insufficient_quota"), Pause("circuit", 300.0)),
        (refusal(401), Pause("circuit", 300.0)),
        (refusal(402), Pause("circuit", 300.0)),
        (refusal(403), Pause("circuit", 300.0)),
        (refusal(400, "Your credit balance is too low"), Pause("circuit", 300.0)),
        (refusal(400), None),
        (refusal(429, retry_after="0"), Pause("rate_limit", 1.0)),
        (refusal(429, retry_after="-5"), Pause("rate_limit", 1.0)),
        (refusal(429, retry_after="Thu, 01 Jan 20260000000000000000 00:02:00 GMT"), Pause("rate_limit", 60.0)),
        (refusal(500), Pause("circuit", 10.0, trouble=True)),
        (refusal(529), Pause("circuit", 10.0, trouble=True)),
        (refusal(408), Pause("circuit", 10.0, trouble=True)),
        (refusal(503, retry_after="90"), Pause("circuit", 90.0, trouble=True)),
        (UpstreamTimeoutError("late"), Pause("circuit", 10.0, trouble=True)),
        (UpstreamUnreachableError("gone"), None),
    ],
)
def test_what_a_failure_says_about_the_server(error: UpstreamError, expected: Pause | None) -> None:
    """Too many requests are a pause; a refused key or bill and a server in trouble open the circuit; else the call."""
    assert pause_for(error, NOW_MS, 300.0) == expected


def record(kind: Literal["rate_limit", "circuit"], for_s: float, probes: int = 0) -> PauseRecord:
    """A pause that began a minute ago."""
    since_ms = NOW_MS - 60_000
    return PauseRecord("p", kind, since_ms + round(for_s * 1_000), "why", probes, since_ms)


def test_pauses_grow_while_nobody_is_answered() -> None:
    """Twice as long each time, up to a quarter of an hour; never shorter than what the server asked for."""
    trouble, limit = Pause("circuit", 10.0, trouble=True), Pause("rate_limit", 1.0)
    assert [lengthened(trouble, record("circuit", 10, probes), NOW_MS) for probes in (0, 1, 2, 6, 7, 5_000)] == [
        10.0, 20.0, 40.0, 640.0, 900.0, 900.0,
    ]  # fmt: skip
    assert [lengthened(limit, record("rate_limit", for_s), NOW_MS) for for_s in (1, 30, 600)] == [2.0, 60.0, 900.0]
    assert lengthened(Pause("rate_limit", 3_600.0), record("rate_limit", 600), NOW_MS) == 3_600.0
    assert lengthened(limit, None, NOW_MS) == 1.0
    assert lengthened(limit, record("circuit", 300), NOW_MS) == 1.0
    assert lengthened(limit, record("rate_limit", 30), NOW_MS - 60_000) == 1.0  # asked before that pause was known
    assert lengthened(Pause("circuit", 300.0), record("circuit", 300, 9), NOW_MS) == 300.0


def test_a_name_holds_no_secret() -> None:
    """Neither user, password nor query of a URL become part of a server's name."""
    assert provider_name("https://me:secret@api.example/v1?key=secret", "m-1") == "https://api.example/v1 m-1"
