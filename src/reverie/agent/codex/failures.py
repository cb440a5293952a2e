"""Why a turn failed in Codex, as errors of ours: with the status and code that a client of OpenAI's API knows.

Codex tries again by itself where that can help; what it gives up arrives here.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from reverie.errors import CodexTurnError, ContextTooLongError, RequestError, UpstreamRefusedError

if TYPE_CHECKING:
    from reverie.agent.codex.protocol import TurnFailure
    from reverie.errors import ReverieError


def turn_error(failure: TurnFailure) -> ReverieError:
    """Why a turn failed, as an error of ours. Codex has tried again by itself where that could help."""
    said = f"Codex: {failure.message}"
    if failure.invalid_image:
        message = f"{said} Its thread was given up, because the image would be in it for good."
        return RequestError(message, param="messages", code="invalid_image")
    if failure.overflow:
        return too_long()
    if failure.kind == "usageLimitExceeded":
        return _refused(said, HTTPStatus.TOO_MANY_REQUESTS, "insufficient_quota", "insufficient_quota")
    if failure.kind == "rateLimitExceeded" or failure.http_status == HTTPStatus.TOO_MANY_REQUESTS:
        return _refused(said, HTTPStatus.TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded")
    if failure.kind == "unauthorized" or failure.http_status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        return _refused(said, HTTPStatus.BAD_GATEWAY, "api_error", "upstream_auth")
    overloaded = failure.kind == "serverOverloaded"
    status = HTTPStatus.SERVICE_UNAVAILABLE if overloaded else HTTPStatus.BAD_GATEWAY
    return CodexTurnError(said, kind=failure.kind, status=status)


def _refused(message: str, status: int, kind: str, code: str) -> UpstreamRefusedError:
    return UpstreamRefusedError(message, upstream_status=status, status=status, kind=kind, code=code, retry_after=None)


def too_long() -> ContextTooLongError:
    """What a turn ends with that does not fit a fresh thread either."""
    message = (
        "The conversation does not fit the window of Codex's model, also in a fresh thread. It is unchanged. Send a "
        "shorter message, begin a new session, or set agents.NAME.codex.context_tokens to what the model takes."
    )
    return ContextTooLongError(message, param="messages", code="context_length_exceeded")
