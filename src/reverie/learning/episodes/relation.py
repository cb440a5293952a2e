"""What a message has to do with what was said before it, as far as rules can tell. Pure; Chinese and English.

A rule is strong from `STRONG` on: then it decides, and no model is asked. A weaker one is gone by as long as no model
has answered, and when none does.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final, Literal

from reverie.learning.said import spaced
from reverie.memory.stop_words import ENGLISH

Relation = Literal["revision", "follow_up", "new_task", "unknown"]
ClassifiedBy = Literal["rule", "llm", "timeout", "default"]

STRONG: Final = 0.85
HARD_GAP_MS: Final = 2 * 3_600_000
"""After a longer pause it is a new task, unless messages are merged over longer ones."""
SOFT_GAP_MS: Final = 30 * 60_000
OPENER_CHARS_MAX: Final = 60
"""A longer message that begins with a pronoun may well explain what it means by it."""
LOOKED_AT_CHARS: Final = 4_000
"""Of a text, by the rules."""
QUOTED_WORDS: Final = 8
QUOTED_CHARS_MIN: Final = 24
QUOTABLE_CHARS_MIN: Final = 20
WORD_CHARS_MIN: Final = 3
TOPIC_WORD_CHARS_MIN: Final = 4


@dataclass(frozen=True, slots=True)
class Asked:
    """What a relation is told by: the new text, what the user and the agent said before, and the pause between.

    `previous_user` is empty where nothing was said before.
    """

    text: str
    previous_user: str
    previous_reply: str
    gap_ms: int | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A relation, how sure it is (0 to 1), who found it, and by what: the name of a rule, or why there is no answer."""

    relation: Relation
    confidence: float
    classified_by: ClassifiedBy
    signal: str

    @property
    def decides(self) -> bool:
        """Whether no model needs to be asked."""
        return self.signal in _CERTAIN or self.confidence >= STRONG


DEFAULT: Final = Verdict("follow_up", 0.5, "default", "no_signal")
"""Where no rule says anything and no model answers."""
LATE: Final = Verdict("new_task", 0.0, "timeout", "classify_timeout")
"""Where a model did not answer in time."""
_CERTAIN = frozenset({"no_previous", "empty", "hard_gap"})

_PRIORITY: Final = {"r5": 40, "r1": 30, "r2": 20, "r3": 10, "r3_en": 10}
"""Which of two equally sure rules is gone by."""

_LEAD = r"(?:(?:ok(?:ay)?|so|now|alright|all right|well|right|great|thanks|thank you|anyway)[\s,.!:;-]++){0,4}+"
"""Words before the point. No more are looked past than anybody says: each sentence is looked at with them."""
_REVISION = re.compile(
    rf"{_LEAD}(?:"
    r"(?:no|nope)[\s,.!:;-]+(?:(?:that|this|it)(?:'s| is| was)?|you(?:'re| are)?|not)\b"
    r"|(?:no|nope)[,.!]"
    r"|(?:that|this|it)(?:'s| is| was) (?:wrong|incorrect|not (?:right|correct|what|quite|it)|false|a mistake)"
    r"|(?:that|this|it) (?:isn't|wasn't) (?:right|correct|what|quite|it)"
    r"|wrong\b|incorrect\b|not quite\b|not (?:right|correct|like that|what i)\b"
    r"|redo\b|do (?:it|that) (?:again|over)\b|try (?:it |that )?again\b|again[,.!:]|instead\b"
    r"|you (?:made a mistake|got (?:it|that) wrong|misunderstood)"
    r")"
)
_REVISION_ZH = re.compile(
    r"(?:嗯|呃|哎|啊|等等)?[，,\s]*(?:不对|不是(?!吗)|不行|不正确|错了|错误|你错|搞错|弄错|有误|重做|重新|重来|重写|再来一次|再来一遍|再试|再做一遍"
    r"|换成|改成|改为|应该是|而不是)"
)
_NEW_TASK = re.compile(
    rf"(?:^|[.!?;\n]\s*+){_LEAD}(?:"
    r"(?:(?:here(?:'s| is)|i have|let's (?:start|do|begin)|this is|start)\s+)?(?:an? |the |my )?"
    r"(?:new|next|different|another|unrelated|separate) (?:task|topic|question|subject|problem|thing entirely)\b"
    r"|forget (?:that|it|about (?:that|it|this))\b"
    r"|(?:let's |let us |can we |please )?(?:change|switch) (?:the )?(?:topics?|subjects?|tasks?)\b"
    r"|(?:let's |let us )?mov(?:e|ing) on\b"
    r"|on (?:a|to a) (?:different|new|another) (?:note|topic|subject|task)\b"
    r"|something (?:else|different)(?: entirely| now)?[,.:!]"
    r")"
)
_NEW_TASK_ZH = re.compile(
    r"换(?:一?个|下|一下)?[^。！？\n]{0,6}(?:话题|任务|问题|主题)|(?:新的?|另外?一?个|下一个)(?:任务|话题|问题|主题)|先放下|先不管|不说这个"
)
_OPENER_ZH = re.compile(r"[那这它其还哪啥]")
_OPENER_EN = re.compile(
    rf"{_LEAD}(?:and |but |or )?(?:"
    r"(?:it|its|it's|that|that's|this|these|those|they|they're|them|their)\b"
    r"|(?:what|how) about\b|which (?:one|ones|of (?:them|these|those))\b|what else\b|and\b"
    r")"
)
_FOLLOW_UP = re.compile(r"\b(?:next|then|also|another similar|more of (?:that|those|them)|one more)\b")
_FOLLOW_UP_ZH = re.compile(r"再帮我|再给我|下一个|接着|继续|然后|另外再|还要|顺便")
_WORD = re.compile(r"[^\W\d_]+")
_HAN = re.compile(r"[\u3400-\u9fff]+")
_POLITE = frozenset({
    "could", "give", "help", "just", "like", "make", "need", "okay", "please", "show", "sure", "tell", "thank",
    "thanks", "want", "would",
})  # fmt: skip
"""Words of a request that say nothing of what it is about."""


def classify(asked: Asked, hard_gap_ms: int | None = HARD_GAP_MS) -> Verdict:
    """What the rules say; `DEFAULT` where none says anything. Whether that decides, `Verdict.decides` tells.

    After a pause of more than `hard_gap_ms` it is a new task for sure, whatever else holds but a correction.
    """
    if not asked.previous_user:
        return Verdict("new_task", 0.75, "rule", "no_previous")
    text = folded(asked.text)
    if not text:
        return Verdict("unknown", 0.5, "rule", "empty")
    found = [verdict for verdict in _verdicts(text, asked) if verdict is not None]
    strongest = max(found, key=_strength, default=DEFAULT)
    corrects = strongest.relation == "revision" and strongest.decides
    if hard_gap_ms is not None and (asked.gap_ms or 0) > hard_gap_ms and not corrects:
        return Verdict("new_task", 0.9, "rule", "hard_gap")
    return strongest


def folded(text: str) -> str:
    """A text as rules compare it: one form of each letter and quotation mark, small letters, single spaces."""
    plain = unicodedata.normalize("NFKC", text[:LOOKED_AT_CHARS]).replace("\u2019", "'").replace("\u2018", "'")
    return spaced(plain[:LOOKED_AT_CHARS].lower().strip())


def topic_words(text: str) -> frozenset[str]:
    """The words a text is about: no small words; of Chinese each two characters that stand together."""
    small = folded(text)
    latin = {
        word
        for word in _WORD.findall(_HAN.sub(" ", small))
        if len(word) >= TOPIC_WORD_CHARS_MIN and word not in ENGLISH and word not in _POLITE
    }
    han = {run[at : at + 2] for run in _HAN.findall(small) for at in range(len(run) - 1)}
    return frozenset(latin | han)


def _strength(verdict: Verdict) -> tuple[float, int]:
    return verdict.confidence, _PRIORITY.get(verdict.signal, 0)


def _verdicts(text: str, asked: Asked) -> tuple[Verdict | None, ...]:
    short = len(text) <= OPENER_CHARS_MAX
    gap_ms = asked.gap_ms or 0
    return (
        _if(_REVISION.match(text) or _REVISION_ZH.match(text), "revision", 0.85, "r1"),
        _if(_quotes(text, folded(asked.previous_reply)), "revision", 0.75, "r2"),
        _if(short and _OPENER_ZH.match(text), "follow_up", 0.85, "r3"),
        _if(short and _OPENER_EN.match(text), "follow_up", 0.85, "r3_en"),
        _if(_FOLLOW_UP.search(text) or _FOLLOW_UP_ZH.search(text), "follow_up", 0.80, "r4"),
        _if(_NEW_TASK.search(text) or _NEW_TASK_ZH.search(text), "new_task", 0.85, "r5"),
        _if(gap_ms > SOFT_GAP_MS, "new_task", 0.6, "r6"),
        _if(_shares_nothing(text, asked), "new_task", 0.55, "r7"),
    )


def _if(holds: object, relation: Relation, confidence: float, signal: str) -> Verdict | None:
    return Verdict(relation, confidence, "rule", signal) if holds else None


def _quotes(text: str, reply: str) -> bool:
    """Whether a text repeats so many words of the reply before it in their order."""
    if len(reply) < QUOTABLE_CHARS_MIN:
        return False
    said, heard = _long_words(reply), _long_words(text)
    if min(len(said), len(heard)) < QUOTED_WORDS:
        return False
    windows = {said[at : at + QUOTED_WORDS] for at in range(len(said) - QUOTED_WORDS + 1)}
    return any(
        heard[at : at + QUOTED_WORDS] in windows and len(" ".join(heard[at : at + QUOTED_WORDS])) > QUOTED_CHARS_MIN
        for at in range(len(heard) - QUOTED_WORDS + 1)
    )


def _long_words(text: str) -> tuple[str, ...]:
    return tuple(word for word in _WORD.findall(text) if len(word) >= WORD_CHARS_MIN)


def _shares_nothing(text: str, asked: Asked) -> bool:
    """Whether a text and the exchange before it are about something each, and nothing of that is the same."""
    new = topic_words(text)
    before = topic_words(asked.previous_user) | topic_words(asked.previous_reply)
    return bool(new) and bool(before) and new.isdisjoint(before)
