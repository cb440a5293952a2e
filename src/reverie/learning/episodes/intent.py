"""What kind of message a user's is, as far as rules can tell. Pure; Chinese and English.

A command to the memory system is looked for before a greeting. From `CERTAIN` on no model's word changes it.
"""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final, Literal

from reverie.learning.episodes.relation import ClassifiedBy, folded

if TYPE_CHECKING:
    from reverie.types import JsonObject

IntentKind = Literal["task", "memory_probe", "chitchat", "meta", "unknown"]
CERTAIN: Final = 0.85
GREETING_CHARS_MAX: Final = 48
LONG_WORDS: Final = 40
"""So many words are hardly said for their own sake."""


@dataclass(frozen=True, slots=True)
class Intent:
    """What kind of message it is, how sure that is (0 to 1), by which rule, and who says so."""

    kind: IntentKind
    confidence: float
    reason: str
    by: ClassifiedBy = "rule"

    def as_json(self) -> JsonObject:
        """As it is kept with an episode and with a routing."""
        return asdict(self)


UNKNOWN: Final = Intent("unknown", 0.4, "no_signal", "default")
"""Where no rule says anything and no model answers."""

_META = re.compile(r"/(?:memos?|memory|memo|reverie|remember|forget|recall|learning|skills?)\b")
_GREETING = re.compile(
    r"(?:hi|hello|hey|yo|good (?:morning|afternoon|evening|night)|thanks?|thank you|thx|cheers|bye|goodbye|see you"
    r"|(?:sounds )?great|perfect|nice|awesome|cool|ok(?:ay)?|well done|good job)"
    r"(?:[\s,.!~]+(?:there|all|everyone|again|so much|very much|a lot|you|for (?:that|the help|your help|everything)"
    r"|thanks?|thank you|great|perfect|friend|and|bye|it works))*[\s,.!~]*"
)
_GREETING_ZH = re.compile(
    r"(?:你好|您好|嗨|哈喽|谢谢|多谢|感谢|早上好|下午好|晚上好|早安|晚安|再见|拜拜|好的|太好了|辛苦了)+[呀啊啦了你您！!。，,~\s]*"
)
_PAST = re.compile(
    r"\b(?:last (?:time|week|month|session|night)|do you (?:still )?(?:remember|recall)|you (?:told|said to) me"
    r"|(?:we|i|you) (?:talked|discussed|spoke|decided|agreed|mentioned|said)\b.{0,40}"
    r"\b(?:before|earlier|yesterday|about)"
    r"|(?:what|where|when|which|how) did (?:we|i|you) (?:say|decide|agree|talk|discuss|do|use|put|leave)"
    r"|previously|as (?:before|we discussed)|remember when|earlier (?:today|this week))\b"
)
_PAST_ZH = re.compile(
    r"上次|上回|之前(?:说|聊|讨论|提|做|用)|还记得|记得吗|记不记得|以前(?:说|聊|做)|昨天(?:说|聊|讨论|做)|前几天"
)
_IMPERATIVE = re.compile(
    r"(?:please |can you |could you |would you |will you |let's |now |then |help me (?:to )?|i (?:want|need) you to )*"
    r"(?:add|adjust|analy[sz]e|answer|apply|build|calculate|change|check|clean|close|compare|compile|compute|configure"
    r"|convert|copy|create|debug|delete|deploy|describe|design|document|download|draft|edit|explain|extract|fetch|find"
    r"|fix|format|generate|get|give|implement|import|improve|install|investigate|list|look|make|merge|migrate|move|open"
    r"|optimi[sz]e|parse|plan|prepare|print|publish|read|refactor|remove|rename|replace|review|rewrite|run|save|search"
    r"|send|set|show|simplify|sort|split|start|stop|summari[sz]e|tell|test|translate|try|undo|update|upgrade|use"
    r"|verify|write)\b"
)
_IMPERATIVE_ZH = re.compile(
    r"(?:请|麻烦|劳烦)?(?:你|您)?(?:帮我|帮忙|给我|替我|写|改|修|查|找|做|建|创建|生成|实现|运行|执行|删除|添加|增加|更新|翻译|总结|解释|分析"
    r"|列出|检查|测试|部署|优化|重构|画|算|计算|比较|对比|把)"
)


def classify(text: str) -> Intent:
    """What the rules say of a message; `UNKNOWN` where none says anything. The first rule that holds counts."""
    small = folded(text)
    short = len(small) <= GREETING_CHARS_MAX
    rules = (
        (not small, Intent("chitchat", 0.9, "empty")),
        (_META.match(small), Intent("meta", 0.98, "command")),
        (short and (_GREETING.fullmatch(small) or _GREETING_ZH.fullmatch(small)), Intent("chitchat", 0.9, "greeting")),
        (_PAST.search(small) or _PAST_ZH.search(small), Intent("memory_probe", 0.88, "past")),
        (_IMPERATIVE.match(small) or _IMPERATIVE_ZH.match(small), Intent("task", 0.75, "imperative")),
        (len(small.split()) >= LONG_WORDS, Intent("task", 0.6, "long")),
    )
    return next((intent for holds, intent in rules if holds), UNKNOWN)


def refined(rule: Intent, said: Intent | None) -> Intent:
    """The intent after a model was heard: a rule that is certain stands, else the model's word counts."""
    return rule if said is None or rule.confidence >= CERTAIN else said
