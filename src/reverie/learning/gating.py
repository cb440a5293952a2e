"""What of all that was learned is asked for a message: by what kind of message it is. Pure; Chinese and English.

chitchat, said surely    nothing
a command to memory      nothing
what was said before     skills and steps; steps alone when it is about a person
anything else            everything
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from reverie.learning.intent import classify
from reverie.learning.recall_channels import TIERS

if TYPE_CHECKING:
    from reverie.learning.recall_channels import Tier

SURE_CHITCHAT: Final = 0.6
ABOUT_A_PERSON: Final[tuple[Tier, ...]] = ("traces",)
OF_THE_PAST: Final[tuple[Tier, ...]] = ("skills", "traces")

_ATTRIBUTES = (
    "name|birthday|age|address|phone|number|email|job|work|company|boss|wife|husband|partner|son|daughter|child(?:ren)?"
    "|kids?|family|parents?|mother|father|brother|sister|friends?|pets?|dog|cat|hometown|home|hobb(?:y|ies)|favou?rite"
    "|allerg(?:y|ies|ic)|diet|birth ?place|school|university|language|nationality|car|size|height|weight|preferences?"
)
_PERSONAL = re.compile(rf"\b(?:my|our|mine|i am|i'm|do i|did i|am i)\b.{{0,40}}\b(?:{_ATTRIBUTES})\b", re.IGNORECASE)
_PERSONAL_ZH = re.compile(
    r"(?:我|我们|咱).{0,12}(?:名字|生日|年龄|多大|地址|住|电话|邮箱|工作|公司|老板|妻子|老婆|丈夫|老公|儿子|女儿|孩子|家人|父母"
    r"|妈妈|爸爸|兄弟|姐妹|朋友|宠物|狗|猫|家乡|爱好|喜欢|过敏|饮食|学校|大学|语言|国籍|车|身高|体重|偏好)"
)
_HOW_TO = re.compile(r"\bhow (?:do|can|should|to)\b|怎么|如何|怎样", re.IGNORECASE)


def tiers_of(text: str) -> tuple[Tier, ...]:
    """Which tiers are asked for a message; none for what is no question to what was learned."""
    intent = classify(text)
    match intent.kind:
        case "meta":
            return ()
        case "chitchat":
            return () if intent.confidence >= SURE_CHITCHAT else TIERS
        case "memory_probe":
            return ABOUT_A_PERSON if is_personal(text) else OF_THE_PAST
        case "task" | "unknown":
            return TIERS


def is_personal(text: str) -> bool:
    """Whether a question is about the person who asks, and not about how something is done."""
    about = _PERSONAL.search(text) or _PERSONAL_ZH.search(text)
    return about is not None and _HOW_TO.search(text) is None
