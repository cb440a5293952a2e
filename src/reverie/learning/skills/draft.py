"""A drafted skill: what a model answered, made fit to be kept, and as Markdown for a person.

Pure. Invariant: a draft holds no secret, no tool that was not used, nothing longer than its limit.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, cast

from pydantic import BaseModel, Field, field_validator

from reverie.learning.skills.document import TITLE_CHARS_MAX
from reverie.learning.skills.verification import tool_key, tools_seen, unfounded
from reverie.memory.redaction import redacted
from reverie.memory.text import clean, collapse

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.learning.records import Policy, Trace
    from reverie.types import JsonObject

STEPS_MIN = 2
STEPS_MAX = 6
GUIDANCE_MAX = 5
ENTRIES_MAX = 8
"""Of parameters, preconditions, examples, tags, tools."""
SUMMARY_CHARS_MAX = 400
BODY_CHARS_MAX = 800
ENTRY_CHARS_MAX = 300
VECTOR_STEPS = 5

_REFUSAL = re.compile(
    r"\s*(?:(?:i['’]?m|i am) (?:very |so )?(?:sorry|unable|not able)|sorry,? (?:but )?i\b"
    r"|i (?:can(?:no|['’])t|can not|won['’]t|must decline)|as an ai\b|unfortunately,? i\b"
    r"|很?抱歉|对不起|我无法|我不能|作为(?:一个|一名)?(?:AI|人工智能))",
    re.IGNORECASE,
)


class Named(BaseModel):
    """A parameter: its name, and what it stands for."""

    name: str = ""
    description: str = ""


class DraftedStep(BaseModel):
    """One step as a model drafted it."""

    title: str = ""
    body: str = ""


class DraftedGuidance(BaseModel):
    """What to prefer and what to avoid."""

    preference: list[str] = Field(default_factory=list[str])
    anti_pattern: list[str] = Field(default_factory=list[str])


class SkillAnswer(BaseModel):
    """What `skill.crystallize` answers. Limits are kept by `normalised`, not here: what is too long is cut."""

    name: str = ""
    display_title: str = ""
    summary: str
    parameters: list[Named] = Field(default_factory=list[Named])
    preconditions: list[str] = Field(default_factory=list[str])
    steps: list[DraftedStep]
    examples: list[str] = Field(default_factory=list[str])
    tools: list[str] = Field(default_factory=list[str])
    decision_guidance: DraftedGuidance = Field(default_factory=DraftedGuidance)
    tags: list[str] = Field(default_factory=list[str])

    @field_validator("steps", "parameters", mode="before")
    @classmethod
    def _as_objects(cls, value: Any) -> Any:
        """A step or a parameter that is given as a mere text is one with a title, or a name."""
        if not isinstance(value, list):
            return value
        return [{"title": each, "name": each} if isinstance(each, str) else each for each in cast("list[Any]", value)]

    @field_validator("examples", mode="before")
    @classmethod
    def _as_texts(cls, value: Any) -> Any:
        """An example that is given as an object is the texts in it, one after the other."""
        return [_as_text(each) for each in cast("list[Any]", value)] if isinstance(value, list) else value


def _as_text(value: Any) -> Any:
    return ": ".join(map(str, cast("dict[str, Any]", value).values())) if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class Step:
    """One step: what it is called and what to do."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Draft:
    """A skill as it is kept. `wanted_name` is the name as the model gave it, not yet that of a folder."""

    wanted_name: str
    title: str
    summary: str
    parameters: tuple[tuple[str, str], ...]
    preconditions: tuple[str, ...]
    steps: tuple[Step, ...]
    examples: tuple[str, ...]
    tools: tuple[str, ...]
    prefer: tuple[str, ...]
    avoid: tuple[str, ...]
    tags: tuple[str, ...]

    def as_json(self) -> JsonObject:
        """The draft as it stands in its row."""
        return asdict(self)

    def text_for_vector(self, trigger: str) -> str:
        """By what the skill is found: when it is for, and its first steps."""
        return "\n".join((self.summary, trigger, *(f"{step.title}: {step.body}" for step in self.steps[:VECTOR_STEPS])))


def wrong_with(answer: SkillAnswer, evidence: Sequence[Trace]) -> str | None:
    """What is wrong with an answer, in words for a second try; None for nothing."""
    if refuses(answer):
        return "it declines instead of describing the procedure that is shown"
    if not answer.summary.strip():
        return "`summary` is empty: say when to use the skill"
    steps = [step for step in answer.steps if step.title.strip() or step.body.strip()]
    if not STEPS_MIN <= len(steps) <= STEPS_MAX:
        return f"there are {len(steps)} steps: give {STEPS_MIN} to {STEPS_MAX}"
    texts = (answer.display_title, answer.summary, *(f"{step.title} {step.body}" for step in steps))
    return unfounded(answer.tools, texts, evidence) or None


def refuses(answer: SkillAnswer) -> bool:
    """Whether any part of an answer begins as a model does that declines."""
    texts = [answer.display_title, answer.summary, *answer.examples, *answer.preconditions]
    texts += [text for step in answer.steps for text in (step.title, step.body)]
    return any(_REFUSAL.match(text) for text in texts)


def normalised(answer: SkillAnswer, evidence: Sequence[Trace]) -> Draft:
    """An answer that nothing is wrong with, as it is kept."""
    seen = tools_seen(evidence)
    steps = [Step(_line(step.title, TITLE_CHARS_MAX), _text(step.body)) for step in answer.steps]
    guidance = answer.decision_guidance
    return Draft(
        wanted_name=_line(answer.name, TITLE_CHARS_MAX),
        title=_line(answer.display_title or answer.name.replace("_", " "), TITLE_CHARS_MAX),
        summary=_line(answer.summary, SUMMARY_CHARS_MAX),
        parameters=tuple(
            (_line(each.name, TITLE_CHARS_MAX), _line(each.description, ENTRY_CHARS_MAX))
            for each in answer.parameters[:ENTRIES_MAX]
            if each.name.strip()
        ),
        preconditions=_lines(answer.preconditions, ENTRIES_MAX),
        steps=tuple(step for step in steps if step.title or step.body)[:STEPS_MAX],
        examples=_lines(answer.examples, ENTRIES_MAX),
        tools=tuple(dict.fromkeys(key for tool in answer.tools if (key := tool_key(tool)) in seen))[:ENTRIES_MAX],
        prefer=_lines(guidance.preference, GUIDANCE_MAX),
        avoid=_lines(guidance.anti_pattern, GUIDANCE_MAX),
        tags=_lines(answer.tags, ENTRIES_MAX),
    )


def with_guidance(draft: Draft, policy: Policy) -> Draft:
    """The draft with what repairs taught its policy to prefer and to avoid, where there is room."""
    return replace(
        draft,
        prefer=_lines((*draft.prefer, *policy.preference), GUIDANCE_MAX),
        avoid=_lines((*draft.avoid, *policy.anti_pattern), GUIDANCE_MAX),
    )


def guide_of(draft: Draft, policy: Policy, evidence: Sequence[Trace]) -> str:
    """The skill as Markdown that a person can read: when, how, what to prefer and avoid, where it came from."""
    steps = [f"{number}. **{step.title}** {step.body}".rstrip() if step.title else f"{number}. {step.body}"
             for number, step in enumerate(draft.steps, 1)]  # fmt: skip
    tasks = len({trace.task_id for trace in evidence})
    origin = (
        f"Learned from {_counted(len(evidence), 'step')} of {_counted(tasks, 'finished task')}, by way of the policy "
        f"“{_line(policy.title, TITLE_CHARS_MAX)}” (`{policy.id}`)."
    )
    sections: list[tuple[str, Iterable[str]]] = [
        (
            "When to use",
            [draft.summary, *(["", f"Sign: {_line(policy.trigger, ENTRY_CHARS_MAX)}"] if policy.trigger else [])],
        ),
        ("What varies", [f"- `{name}`: {text}".removesuffix(": ") for name, text in draft.parameters]),
        ("Before you begin", _bullets(draft.preconditions)),
        ("Steps", steps),
        ("Prefer", _bullets(draft.prefer)),
        ("Avoid", _bullets(draft.avoid)),
        ("Examples", _bullets(draft.examples)),
        ("Tools", [", ".join(f"`{tool}`" for tool in draft.tools)] if draft.tools else []),
        ("Where it came from", [origin]),
    ]
    parts = [f"# {draft.title}" if draft.title else f"# {draft.wanted_name or 'Skill'}"]
    parts += [f"## {title}\n\n" + "\n".join(lines) for title, each in sections if (lines := list(each))]
    return "\n\n".join(parts)


def _bullets(entries: Iterable[str]) -> list[str]:
    return [f"- {entry}" for entry in entries]


def _counted(count: int, noun: Literal["step", "finished task"]) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _lines(texts: Iterable[str], entries_max: int) -> tuple[str, ...]:
    """Texts on one line each, without empty ones and without repetition."""
    lines = (_line(text, ENTRY_CHARS_MAX) for text in texts)
    return tuple(dict.fromkeys(line for line in lines if line))[:entries_max]


def _line(text: str, chars_max: int) -> str:
    return collapse(redacted(clean(text)))[:chars_max].rstrip()


def _text(text: str) -> str:
    """A text of several lines, indented so that it stays within its item of a list."""
    lines = redacted(clean(text)).strip()[:BODY_CHARS_MAX].splitlines()
    return "\n   ".join(line.rstrip() for line in lines)
