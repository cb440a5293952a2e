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
        self._check()
        given = {**self.about, "text": self.text, "agent": self.agent, "thumb": self.thumb, "score": self.score}
        body = cast("JsonObject", {name: value for name, value in given.items() if value not in {None, ""}})
        try:
            read_feedback(body, self.agent)
        except RequestError as error:
            name = error.param or ""
            option = _option(name)
            raise ConfigError(option, body.get(name), str(error).replace(f"`{name}`", option)) from None
        return body

    def _check(self) -> None:
        """Refuse in the words of the options what is no feedback."""
        about = [_option(name) for name, value in self.about.items() if value]
        if len(about) != 1:
            options = ", ".join(map(_option, self.about))
            raise ConfigError("give", " ".join(about), f"exactly one of {options} says what the feedback is about")
        if self.thumb is not None and self.score is not None:
            raise ConfigError("--score", self.score, "not together with --thumb: either says how it was")
        if self.thumb is None and self.score is None and not self.text.strip():
            raise ConfigError("give", "", "one of --thumb, --score, --text says how it was")


def _option(field: str) -> str:
    """The option by which a field of `POST /v1/feedback` is given."""
    return f"--{field.removesuffix('_id')}"


async def give(given: Path | None, flags: FeedbackFlags) -> None:
    """Say how it was. Raises `ConfigError` when it makes no sense, `ReverieError` when there is no such thing."""
    await give_feedback(given, flags.body(), flags.agent, as_json=flags.as_json)
