"""A session's own settings for messages that find it busy, as a caller writes them.

Their ranges are those of the configuration's `[queue]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import ValidationError

from reverie.config import QueueConfig, field_range
from reverie.errors import RequestError

if TYPE_CHECKING:
    from reverie.sessions.inbox import QueueSettings
    from reverie.types import JsonObject

NAMES = ("mode", "wait_ms", "debounce_ms", "cap", "drop")


def checked_settings(given: JsonObject) -> JsonObject:
    """The settings that were given, aliases as the words they stand for.

    Raises:
        RequestError: there is no such setting, or a value is out of range; the message names setting, value, range.
    """
    for name in given:
        if name not in NAMES:
            listed = ", ".join(f"`{known}`" for known in NAMES)
            raise RequestError(f"There is no setting `{name[:100]}` here. Settings: {listed}.", param=name[:100])
    try:
        checked = QueueConfig.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        allowed = field_range(("queue", name)).replace("queue.", "") or first["msg"]
        shown = str(first["input"])[:100]
        raise RequestError(f"`{name}`: {shown} is not valid: {allowed}.", param=name) from None
    return {name: getattr(checked, name) for name in NAMES if name in given}


def settings_object(session_key: str, settings: QueueSettings) -> JsonObject:
    """The settings that hold for a session."""
    return {
        "object": "reverie.queue_settings",
        "session_key": session_key,
        **{name: getattr(settings, name) for name in NAMES},
    }
