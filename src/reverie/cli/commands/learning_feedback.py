"""`reverie learning feedback give`: saying how an answer, a task or a skill was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from reverie.cli.commands.learning import give_feedback
from reverie.errors import ConfigError, RequestError
from reverie.gateway.feedback_body import read_feedback

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from reverie.types import JsonObject


@dataclass(frozen=True, slots=True)
class FeedbackFlags:
    """What was given on the command line: `about` has what it may be about, '' where that was not given."""

    agent: str
    about: Mapping[str, str]
    thumb: str | None
    score: float | None
    text: str
    as_json: bool

    def body(self) -> JsonObject:
        """The feedback as `POST /v1/feedback` takes it.

        Raises:
            ConfigError: it is not said what it is about, or how it was.
        """
        given = {**self.about, "text": self.text, "agent": self.agent, "thumb": self.thumb, "score": self.score}
        body = cast("JsonObject", {name: value for name, value in given.items() if value not in {None, ""}})
        try:
            read_feedback(body, self.agent)
        except RequestError as error:
            name = error.param or ""
            option = {"polarity": "thumb"}.get(name, name.removesuffix("_id"))
            raise ConfigError(f"--{option}", body.get(name), str(error)) from None
        return body


async def give(given: Path | None, flags: FeedbackFlags) -> None:
    """Say how it was. Raises `ConfigError` when it makes no sense, `ReverieError` when there is no such thing."""
    await give_feedback(given, flags.body(), flags.agent, as_json=flags.as_json)
