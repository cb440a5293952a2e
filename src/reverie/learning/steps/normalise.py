"""Steps in the form they are kept in: bounded in size, empty ones and repetitions left out, thoughts apart.

What an agent says of its own step, under a heading or in a tag, is its reflection: it is kept letter by letter and no
model is asked for another one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from reverie.learning.steps.signatures import error_code_of
from reverie.memory.redaction import redacted

if TYPE_CHECKING:
    from reverie.learning.records import ToolUse
    from reverie.learning.steps.steps import Step

HEAD_SHARE = 0.55
"""Of a text that is cut, what is kept of its beginning; the rest is its end."""
ELISION = "\n[… left out …]\n"
REFLECTION_CHARS_MIN = 10
REFLECTION_CHARS_MAX = 1_500
SPOKEN_CHARS_MAX = 16_000
"""Of what an agent said, in which its reflection is looked for."""
MERGED_TOOLS_MAX = 32
"""Calls kept of a step that holds those of a whole exchange: as many from its beginning as from its end."""
SUMMARY_CHARS_MAX = 140
SECRET_BEYOND_CHARS = 4_000
"""So much more than what is kept is looked through for secrets: one that is cut in two is not recognised."""

_THOUGHT = re.compile(r"\s*<(think|thinking)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)
_REFLECTIONS = (
    re.compile(
        r"^#{1,6} *(?:Reasoning|Reflection|思考过程|反思)[ :\uff1a]*\n(.*?)(?=^#{1,6} |\Z)", re.DOTALL | re.MULTILINE
    ),
    re.compile(r"^[ \t]*(?:Reflection|思考过程|反思)[ \t]*[:\uff1a](.+)$", re.MULTILINE),
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s|(?<=[\u3002\uff01\uff1f])")
_LINE_MARKS = re.compile(r"^[\s#>*\-]+")
_SPACES = re.compile(r"\s+")


@dataclass(frozen=True, slots=True)
class StepText:
    """The texts of a step as they are kept. `failed`: one of its tools reported an error."""

    user_text: str
    agent_text: str
    thinking: str
    reflection: str
    summary: str
    tools: tuple[ToolUse, ...]

    @property
    def failed(self) -> bool:
        """True when a tool of it reported an error."""
        return any(tool.error_code for tool in self.tools)

    @property
    def is_empty(self) -> bool:
        """True when there is nothing to learn from."""
        return not (self.user_text or self.agent_text or self.thinking or self.tools)


def normalised(step: Step, *, text_chars_max: int, output_chars_max: int) -> StepText:
    """The texts of a step, each within its bound. The code of an error is read from a tool's whole output."""
    thinking, agent_text = _thought_apart(step.agent_text)
    tools = tuple(_bounded(tool, text_chars_max, output_chars_max) for tool in _some(step.tools))
    spoken = [shortened(text, SPOKEN_CHARS_MAX) for text in (agent_text, *(tool.text_before for tool in step.tools))]
    return StepText(
        user_text=shortened(step.user_text.strip(), text_chars_max),
        agent_text=shortened(agent_text, text_chars_max),
        thinking=shortened(thinking, text_chars_max),
        reflection=next((found for text in spoken if (found := reflection_in(text))), ""),
        summary=heuristic_summary(step.user_text, agent_text, tools),
        tools=tools,
    )


def repeats(text: StepText, user_text: str, agent_text: str) -> bool:
    """True for an exchange without tools that says the same as the one right before it, whose texts are given.

    Calls are never left out: that one was made again is what shows a loop.
    """
    return not text.tools and (text.user_text, text.agent_text) == (user_text, agent_text)


def shortened(text: str, chars_max: int) -> str:
    """A text of at most so many characters: of a longer one the beginning and the end, with a mark between them."""
    if len(text) <= chars_max:
        return text
    room = chars_max - len(ELISION)
    if room <= 0:
        return text[:chars_max]
    head = round(room * HEAD_SHARE)
    return text[:head] + ELISION + text[len(text) - (room - head) :]


def one_line(text: str, chars_max: int = SUMMARY_CHARS_MAX) -> str:
    """A text on one line, cut at its end."""
    line = _SPACES.sub(" ", text).strip()
    return line if len(line) <= chars_max else line[: chars_max - 1].rstrip() + "…"


def heuristic_summary(user_text: str, agent_text: str, tools: tuple[ToolUse, ...]) -> str:
    """What a step was about, on one line, without a model: what was asked, else what was said, else what was called."""
    said = (user_text, *(tool.text_before for tool in tools[:1]), *_called(tools), agent_text)
    return next((line for text in said if (line := one_line(_first_sentence(text)))), "")


def reflection_in(text: str) -> str:
    """What an agent says of its own step within a text, as it stands there; '' for nothing of a sensible length."""
    found = (_tagged(text), *(match[1] for pattern in _REFLECTIONS if (match := pattern.search(text))))
    sensible = (each.strip() for each in found if len(each.strip()) >= REFLECTION_CHARS_MIN)
    return next(sensible, "")[:REFLECTION_CHARS_MAX]


def _tagged(text: str) -> str:
    _, _, after = text.partition("<reflection>")
    inside, end, _ = after.partition("</reflection>")
    return inside if end else ""


def _called(tools: tuple[ToolUse, ...]) -> tuple[str, ...]:
    return tuple(f"{tool.name} {tool.input}" for tool in tools[:1])


def _first_sentence(text: str) -> str:
    lines = (_LINE_MARKS.sub("", line) for line in text.splitlines())
    line = next((line for line in lines if line.strip()), "")
    return _SENTENCE_END.split(line, maxsplit=1)[0] if len(line) > SUMMARY_CHARS_MAX else line


def _thought_apart(text: str) -> tuple[str, str]:
    found = _THOUGHT.match(text)
    return (found[2].strip(), text[found.end() :].strip()) if found else ("", text.strip())


def _some(tools: tuple[ToolUse, ...]) -> tuple[ToolUse, ...]:
    half = MERGED_TOOLS_MAX // 2
    return tools if len(tools) <= MERGED_TOOLS_MAX else (*tools[:half], *tools[-half:])


def _bounded(tool: ToolUse, text_chars_max: int, output_chars_max: int) -> ToolUse:
    return replace(
        tool,
        input=_without_secrets(tool.input, text_chars_max),
        output=_without_secrets(tool.output, output_chars_max),
        error_code=tool.error_code or error_code_of(tool.output),
        text_before=shortened(tool.text_before, text_chars_max),
    )


def _without_secrets(text: str, chars_max: int) -> str:
    """What a tool was given or answered, at most so many characters, its keys hidden: it is shown to other sessions.

    They are looked for in a little more than is kept, so that one that is cut in two is known all the same.
    """
    return shortened(redacted(shortened(text, chars_max + SECRET_BEYOND_CHARS)), chars_max)
