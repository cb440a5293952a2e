"""What a failure says about a model's server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.errors import UpstreamRefusedError, UpstreamTimeoutError, UpstreamUnreachableError
from reverie.learning.asking.provider import Pause, pause_for, provider_name

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
        (refusal(500), None),
        (UpstreamTimeoutError("late"), None),
        (UpstreamUnreachableError("gone"), None),
    ],
)
def test_what_a_failure_says_about_the_server(error: UpstreamError, expected: Pause | None) -> None:
    """Too many requests are a pause, a refused key or bill opens the circuit, other failures are of the one call."""
    assert pause_for(error, NOW_MS, 300.0) == expected


def test_a_name_holds_no_secret() -> None:
    """Neither user, password nor query of a URL become part of a server's name."""
    assert provider_name("https://me:secret@api.example/v1?key=secret", "m-1") == "https://api.example/v1 m-1"
