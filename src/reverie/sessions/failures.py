"""Why a turn has no answer, as it is kept with the turn and told again to whoever asks later."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from reverie.errors import RecordedFailureError, RequestError, ReverieError, TurnEndedError, UpstreamError
from reverie.sessions.codec import dump

if TYPE_CHECKING:
    from reverie.types import JsonObject


def describe_failure(error: ReverieError) -> JsonObject:
    """An error in the terms in which a caller is told: message, status, type, code."""
    match error:
        case RequestError() | UpstreamError() | TurnEndedError():
            code = {"code": error.code} if error.code else {}
            return {"message": str(error), "status": error.status, "type": error.type, **code}
        case _:
            return {"message": str(error) or "internal error", "status": 500, "type": "api_error"}


def encode_failure(error: ReverieError) -> str:
    """An error as JSON for the turn's row."""
    return dump(describe_failure(error))


def decode_failure(stored: str | None) -> RecordedFailureError:
    """The error of a stored turn."""
    data: JsonObject = json.loads(stored) if stored else {}
    return RecordedFailureError(
        data.get("message", "the turn ended without an answer"),
        status=data.get("status", 503),
        kind=data.get("type", "api_error"),
        code=data.get("code"),
    )
