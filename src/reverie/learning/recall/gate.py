"""Which tiers of what was learned a message asks for, by what kind of message it is. Pure; English and Chinese.

small talk, a command to the memory     nothing
a question about the past               skills and traces
a question about the person             traces alone: what worked says nothing of who somebody is
anything else                           skills, traces and world models
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from reverie.learning.recall.channels import TIERS

if TYPE_CHECKING:
    from reverie.learning.recall.channels import Tier

MessageKind = Literal["task", "memory_probe", "chitchat", "meta", "unknown"]
CHITCHAT_CERTAIN: Final = 0.6
"""Small talk that is less certain may be something else, and everything is looked for."""

_PERSON = re.compile(r"\b(?:my|mine|me|i|i'm|am i|our)\b|我|咱", re.IGNORECASE)
_ATTRIBUTE = re.compile(
    r"\b(?:names?|nickname|birthday|born|age|old|address|live|phone|number|e-?mail|job|work|employer|profession|hobby"
    r"|hobbies|favou?rite|like|prefer|allerg\w+|diet|wife|husband|partner|children|kids?|son|daughter|mother|father"
    r"|parents|brother|sister|pets?|dog|cat|car|height|weight|language|time ?zone|city|country|school|doctor)\b"
    r"|名字|姓名|叫什么|生日|几岁|年龄|多大|地址|住在|住哪|电话|手机|邮箱|工作|职业|爱好|喜欢|偏好|过敏|老婆|妻子|老公|丈夫|孩子|儿子"
    r"|女儿|妈妈|爸爸|父母|宠物|身高|体重|城市|学校",
    re.IGNORECASE,
)
_HOW_TO = re.compile(
    r"\bhow (?:to|do|does|can|could|should|would)\b|\bsteps?\b|\bfix\b|\berrors?\b|怎么|如何|怎样|步骤|报错",
    re.IGNORECASE,
)


def tiers_for(kind: MessageKind, confidence: float, text: str) -> tuple[Tier, ...]:
    """What a message of a kind asks for. `confidence` is how sure the kind is, 0 to 1."""
    match kind:
        case "meta":
            return ()
        case "chitchat":
            return () if confidence >= CHITCHAT_CERTAIN else TIERS
        case "memory_probe":
            return ("traces",) if is_about_the_person(text) else ("skills", "traces")
        case "task" | "unknown":
            return TIERS


def is_about_the_person(text: str) -> bool:
    """Whether a message asks for a fact about whoever says it, such as a birthday; never how something is done."""
    return bool(_PERSON.search(text) and _ATTRIBUTE.search(text)) and not _HOW_TO.search(text)
