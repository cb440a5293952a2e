"""What a model would answer to each question that learning asks: well-formed, plausible, always the same.

    answers = LearningAnswers(relation="follow_up", axes=(0.9, 0.8, 0.9))
    op = op_of(messages)                  # 'reward.r_human', or None for a turn
    answers.answer(op, messages)          # JSON text

An answer is made of what the question shows, so that a whole chain from a conversation to a skill can be run with it.
`overrides` say what single operations answer instead, one after the other, the last one for ever.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any, cast

from reverie.llm.prompt_files import read_prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reverie.types import JsonObject

PACKAGE = "reverie.learning"
_EVIDENCE = re.compile(r"<evidence>\n(.*)\n</evidence>", re.DOTALL)


@cache
def _operations() -> tuple[tuple[str, str], ...]:
    """Every prompt of learning: the operation's name, and how its instructions begin."""
    names = sorted(
        entry.name.removesuffix(".md")
        for entry in files(PACKAGE).joinpath("prompts").iterdir()
        if entry.name.endswith(".md")
    )
    return tuple((name, read_prompt(PACKAGE, name).instructions.strip()) for name in names)


def op_of(system_text: str) -> str | None:
    """What a prompt asks for, by its instructions; None when it is none of learning's."""
    return next((name for name, told in _operations() if told in system_text), None)


def shown_in(user_text: str) -> JsonObject:
    """The data of a question."""
    found = _EVIDENCE.search(user_text)
    shown: JsonObject = json.loads(found[1] if found else user_text)
    return shown


@dataclass(slots=True)
class LearningAnswers:
    """Answers to everything that learning asks.

    `relation` is what each message has to do with those before it, or a function of what is shown. `alpha` is what each
    step contributed; `axes` are goal, process and satisfaction of each task, or a function of what is shown.
    """

    relation: str | Callable[[JsonObject], str] = "follow_up"
    alpha: float = 0.5
    axes: tuple[float, float, float] | Callable[[JsonObject], tuple[float, float, float]] = (0.9, 0.8, 0.9)
    overrides: dict[str, list[str]] = field(default_factory=dict[str, list[str]])

    def answer(self, op: str, shown: JsonObject) -> str:
        """The answer to a question, as the model's text."""
        scripted = self.overrides.get(op)
        if scripted:
            return scripted.pop(0) if len(scripted) > 1 else scripted[0]
        made: Callable[[JsonObject], JsonObject] = getattr(self, "_" + op.replace(".", "_"))
        return json.dumps(made(shown), ensure_ascii=False)

    def _turn_classify(self, shown: JsonObject) -> JsonObject:
        relation = self.relation if isinstance(self.relation, str) else self.relation(shown)
        return {
            "relation": relation,
            "relation_confidence": 0.9,
            "intent": "task",
            "intent_confidence": 0.9,
            "feedback": "none",
            "feedback_magnitude": 0.0,
            "feedback_confidence": 0.9,
            "reason": "as scripted",
        }

    def _turn_arbitrate(self, shown: JsonObject) -> JsonObject:
        relation = self.relation if isinstance(self.relation, str) else self.relation(shown)
        return {"verdict": "new" if relation == "new_task" else "same", "confidence": 0.9}

    def _reflection_batch(self, shown: JsonObject) -> JsonObject:
        return {
            "scores": [
                {
                    "idx": step["idx"],
                    "reflection_text": f"I did this: {_words(step['action'], 12)}. It served the task.",
                    "alpha": self.alpha,
                    "usable": True,
                    "reason": "it led to what came after",
                    "summary": _words(step["action"], 8),
                }
                for step in shown["steps"]
            ]
        }

    def _reward_r_human(self, shown: JsonObject) -> JsonObject:
        axes = self.axes
        goal, process, satisfaction = axes(shown) if callable(axes) else axes
        return {
            "goal_achievement": goal,
            "process_quality": process,
            "user_satisfaction": satisfaction,
            "label": "success" if goal > 0 else "failure",
            "reason": "as scripted",
        }

    def _l2_induction(self, shown: JsonObject) -> JsonObject:
        steps: list[JsonObject] = shown["steps"]
        what = _words(" ".join(_texts(steps[0])), 10)
        return {
            "title": f"Do again: {what}",
            "trigger": f"When asked for {_words(' '.join(_texts(step_state(steps[0]))), 12)}",
            "action": f"1. Look at what is there. 2. Do this: {what}. 3. Check it.",
            "rationale": "It worked each time.",
            "caveats": [],
            "boundary": "",
            "verification": "Look at the result.",
            "confidence": 0.8,
            "support_trace_ids": [step["id"] for step in steps],
        }

    def _l3_abstraction(self, shown: JsonObject) -> JsonObject:
        ids = [policy["id"] for policy in shown["policies"]]
        return {
            "title": f"The world of {_words(' '.join(_texts(shown['policies'][0])), 6)}",
            "domain_tags": ["work"],
            "environment": [
                {"label": "what is there", "description": "Things are where they were.", "evidenceIds": ids}
            ],
            "inference": [{"label": "what follows", "description": "The same leads to the same.", "evidenceIds": ids}],
            "constraints": [],
            "body": "What worked before works again.",
            "confidence": 0.6,
            "supersedes_world_ids": [],
        }

    def _skill_crystallize(self, shown: JsonObject) -> JsonObject:
        policy: JsonObject = shown["policy"]
        seen = _words(" ".join(_texts(shown["evidence"])), 60)
        return {
            "name": "_".join(re.findall(r"[a-z]+", policy["title"].lower())[2:5]) or "again",
            "display_title": policy["title"],
            "summary": policy["trigger"],
            "parameters": [],
            "preconditions": [],
            "steps": [
                {"title": "Look", "body": f"Look at what is there: {seen}"},
                {"title": "Do it", "body": policy["procedure"]},
            ],
            "examples": [],
            "tools": shown["tools"],
            "decision_guidance": {"preference": ["Check the result."], "anti_pattern": ["Guess."]},
            "tags": ["work"],
        }

    def _decision_repair(self, shown: JsonObject) -> JsonObject:
        return {
            "preference": f"Before {shown.get('tool') or 'it'} is called again, read what the error says.",
            "anti_pattern": "Calling it again unchanged.",
            "severity": "warn",
            "confidence": 0.7,
        }

    def _feedback_refine(self, shown: JsonObject) -> JsonObject:
        said = _words(" ".join(_texts(shown)), 12)
        return {
            "title": f"As the owner wants it: {_words(said, 6)}",
            "trigger": "In work of this kind",
            "procedure": f"Heed this: {said}",
            "caveats": "",
            "verification": "",
            "confidence": 0.8,
        }


def step_state(step: JsonObject) -> Any:
    """What a step was asked for."""
    return step.get("state", step)


def _words(text: str, count: int) -> str:
    return " ".join(text.split()[:count])


def _texts(value: Any) -> list[str]:
    """All texts within a value, in order; ids and numbers are none."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        fields = cast("JsonObject", value)
        return [text for key, each in fields.items() if key not in {"id", "answer_in"} for text in _texts(each)]
    if isinstance(value, list):
        entries = cast("list[Any]", value)
        return [text for each in entries for text in _texts(each)]
    return []


def answer_to(answers: LearningAnswers, messages: Iterable[JsonObject]) -> tuple[str, str] | None:
    """The operation and the answer to a request's messages, as they stand on the wire; None when it is a turn."""
    told = list(messages)
    op = next((found for each in told if each["role"] == "system" and (found := op_of(_text_of(each)))), None)
    if op is None:
        return None
    asked = next(each for each in told if each["role"] == "user")
    return op, answers.answer(op, shown_in(_text_of(asked)))


def _text_of(message: JsonObject) -> str:
    content = message["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)
