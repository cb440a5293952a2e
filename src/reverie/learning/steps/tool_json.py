"""What a tool was given and what it answered, as JSON. Models and tools write anything there: nothing here fails."""

from __future__ import annotations

import json
from typing import Any, cast

from reverie.memory.text import clean


def object_in(text: str) -> dict[str, Any] | None:
    """The JSON object that a text is; None for anything else.

    Half pairs of surrogates, which JSON can write and no database keeps, are replaced.
    """
    value = value_in(text)
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def value_in(text: str) -> object:
    """The JSON value that a text is; None for what is none, is nested too deeply, or is `null`."""
    try:
        value: object = json.loads(text)
        return json.loads(clean(json.dumps(value, ensure_ascii=False))) if "\\ud" in text.casefold() else value
    except (ValueError, RecursionError):
        return None
