"""What a message says of the reply before it, by rules alone: no model, no I/O, a bounded piece of text.

Eight shapes, in Chinese and English. A pair of things (`use X instead of Y`, 用 X 代替 Y) is taken out of it. Where a
message both corrects and states a preference, it is a preference. Quoted lines, code and what stands between quotation
marks say nothing of the speaker and are left out, and so are questions that ask for nothing to be done. Praise and
blame after a colon are something to be written. What rules cannot tell apart is for the model to say.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from reverie.learning.said import spaced

if TYPE_CHECKING:
    from reverie.learning.records import Polarity

Shape = Literal["preference", "correction", "constraint", "negative", "positive", "confusion", "instruction", "unknown"]

HARD_PREFERENCE, SOFT_PREFERENCE = 0.8, 0.55
HARD_CORRECTION, SOFT_CORRECTION = 0.75, 0.5
CONSTRAINT_CONFIDENCE = 0.7
NEGATIVE_CONFIDENCE = 0.75
POSITIVE_CONFIDENCE = 0.75
CONFUSION_CONFIDENCE = 0.7
INSTRUCTION_CONFIDENCE = 0.55
UNKNOWN_CONFIDENCE = 0.3

TEXT_CHARS_MAX = 2_000
"""What stands beyond is not looked at: feedback stands at the beginning of a message."""
PHRASE_CHARS_MAX = 120
"""Of one half of a pair; a longer one is no name of a thing."""
SENTENCE_CHARS_MAX = 200
"""Of what stands around words that fit a rule, and of a quotation within a line."""


@dataclass(frozen=True, slots=True)
class FeedbackGuess:
    """What a message seems to say of a reply. `magnitude` and `confidence` are 0 to 1; `reason` names the rule.

    `prefer` and `avoid` are the two halves of a pair, or ''.
    """

    shape: Shape
    polarity: Polarity
    magnitude: float
    confidence: float
    reason: str
    prefer: str = ""
    avoid: str = ""

    @property
    def significance(self) -> float:
        """How much it weighs, 0 to 1: how strong it is, by how sure that is."""
        return self.magnitude * self.confidence


class _Rule(NamedTuple):
    """A shape with what it weighs. One that `answers` means nothing where there is no reply it could be about."""

    shape: Shape
    strength: Literal["hard", "soft"]
    confidence: float
    magnitude: float
    polarity: Polarity
    answers: bool
    pattern: re.Pattern[str]


UNKNOWN = FeedbackGuess("unknown", "neutral", 0.0, UNKNOWN_CONFIDENCE, "no_rule")

_CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)", re.DOTALL)
_QUOTED = re.compile(r"^[ \t]*>.*$", re.MULTILINE)
_CITED = re.compile(
    rf"\"[^\"\n]{{1,{SENTENCE_CHARS_MAX}}}\"|“[^”\n]{{1,{SENTENCE_CHARS_MAX}}}”|[「『][^」』\n]{{1,{SENTENCE_CHARS_MAX}}}[」』]"
    rf"|(?<!\w)['‘][^'\n]{{1,{SENTENCE_CHARS_MAX}}}'(?!\w)"
)
_MASK = "\0"
_ENDED = re.compile(r"[.!?](?=\s)|[。！？]|(?<![:：])\n")
_ASKED = re.compile(rf"[^.!?。！？,，;；\n吗]{{0,{SENTENCE_CHARS_MAX}}}+[?？吗]")
_REQUEST = re.compile(r"\b(?:can|could|would|will)\s+you\b|\bplease\b|请|能不能|能否|可以|可否", re.IGNORECASE)
_TO_BE_WRITTEN = re.compile(r":\s|：")
_DECLINED = re.compile(r"\W*(?:no|nope)\W*", re.IGNORECASE)
_THING = rf"(?:[^.!?。！？,，;；:：\n]|[.:](?=\S)){{1,{PHRASE_CHARS_MAX}}}?"
_END = r"(?=[.!?](?:\s|$)|[。！？,，;；\n]|$)"
_RUN = rf"[^.!?。！？,，;；:：\n]{{0,{2 * PHRASE_CHARS_MAX}}}+"
_ENDS = rf"(?={_RUN}(?:[.:](?=\S){_RUN}){{0,{PHRASE_CHARS_MAX}}}+{_END})"
"""Before the last thing of a pair: it has an end at all, which is seen at once; so that not every length is tried."""
_PAIRS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        rf"\b(?:use|using|do|try|write|choose|pick|take|call)\s+(?P<prefer>{_THING})\s+(?:instead\s+of|rather\s+than|in\s+place\s+of)\s+{_ENDS}(?P<avoid>{_THING}){_END}",
        rf"\binstead\s+of\s+(?P<avoid>{_THING})[,，]?\s+(?:please\s+)?use\s+{_ENDS}(?P<prefer>{_THING}){_END}",
        rf"\b(?:don'?t|do\s+not|never|stop)\s+us(?:e|ing)\s+(?P<avoid>{_THING})[,;.，；]?\s+(?:please\s+)?(?:but\s+)?use\s+{_ENDS}(?P<prefer>{_THING})(?:\s+instead)?{_END}",
        rf"\buse\s+(?P<prefer>{_THING})[,，]\s*(?:and\s+)?not\s+{_ENDS}(?P<avoid>{_THING}){_END}",
        rf"\bprefer\s+(?P<prefer>{_THING})\s+(?:over|to|instead\s+of|rather\s+than)\s+{_ENDS}(?P<avoid>{_THING}){_END}",
        rf"(?:用|使用|采用)\s*(?P<prefer>{_THING})\s*(?:来)?\s*(?:代替|替代|取代|而不是|而非|，?不要用)\s*{_ENDS}(?P<avoid>{_THING})(?:了|吧)?{_END}",
        rf"(?:不要|别|不用|不要再|别再)用\s*(?P<avoid>{_THING})(?:了)?[,，;；]?\s*(?:请|而要|应该|而是)?(?:改用|换成|用|使用)\s*{_ENDS}(?P<prefer>{_THING})(?:吧)?{_END}",
        rf"(?:与其用|与其)\s*(?P<avoid>{_THING})[,，]?\s*(?:不如用|不如)\s*{_ENDS}(?P<prefer>{_THING}){_END}",
    )
)


def _rule(
    shape: Shape,
    strength: Literal["hard", "soft"],
    confidence: float,
    magnitude: float,
    polarity: Polarity,
    *words: str,
    answers: bool = True,
) -> _Rule:
    pattern = re.compile("|".join(words), re.IGNORECASE | re.MULTILINE)
    return _Rule(shape, strength, confidence, magnitude, polarity, answers, pattern)


_STOP = r"(?=\s*[,.!:;—-]|\s*$)"
_BEGIN = r"(?:^|[.!?。！？\n])\s*"
_CONTENT = (
    r"(?!\s*,?\s*(?:thanks|thank|problem|worries|need|nothing|never\s+mind|don'?t\s+worry|go\s+ahead|all\s+good"
    r"|(?:that|this|it)(?:'s|\s+is)\s+(?:all|fine|ok(?:ay)?|good|great|perfect|enough|right|correct|it)\b"
    r"|(?:that|this|it)\s+(?:works|will\s+do)\b|(?:keep|leave)\s+(?:it|that|this)\b(?!\s+(?!as\b|like\b)\w)"
    r"|i(?:'m|\s+am)\s+(?:fine|good|ok(?:ay)?|done)\b|not\s+(?:now|yet|needed|necessary)\b))"
)
"""After a `no` that declines, or that is content, and corrects nothing."""
_OF_IT = (
    r"(?:(?:sorry|hmm|well|but|no|ok(?:ay)?|(?:i|we)(?:'ve|\s+have)?\s+(?:just\s+)?(?:tried|tested|ran|run)"
    r"\s+(?:it|that|this))[,.]?\s+)?(?:but\s+)?(?:(?:it|that|this|your\s+\w+)(?:'s|\s+is)?\s+)?"
)
"""Before what is said of the reply: nothing, or no more than a word for it. Of other things much else is said."""
_RULES: tuple[_Rule, ...] = (
    _rule(
        "preference", "hard", HARD_PREFERENCE, 0.65, "neutral",
        r"\bi(?:'d|\s+would)?\s+(?:always\s+|much\s+|strongly\s+)?prefer\b",
        r"\bmy\s+preference\s+is\b",
        r"我(?:更|比较|还是|一直)?(?:喜欢|偏好|倾向)(?:于)?(?:用|使用)?",
        r"我(?:的)?(?:偏好|习惯)是",
        answers=False,
    ),
    _rule(
        "correction", "hard", HARD_CORRECTION, 0.7, "negative",
        _BEGIN + r"(?:no|nope|wrong|incorrect|not\s+(?:right|correct|quite\s+right))\b"
        + _STOP + _CONTENT,
        r"\b(?:that|this|it)(?:'s|\s+is|\s+was)\s+(?:\w+\s+)?(?:wrong|incorrect|not\s+(?:right|correct|true|what\s+i\s+(?:asked|meant|wanted)))\b",
        r"\b(?:that|this)\s+(?:isn't|wasn't)\s+(?:right|correct|true|what\s+i\s+(?:asked|meant|wanted))\b",
        r"\byou\s+(?:got|did|understood|misunderstood|misread)\b.{0,40}?\b(?:wrong|me)\b",
        r"\byou(?:'ve|\s+have)?\s+made\s+(?:a|an|another)\s+(?:mistake|error)\b",
        r"\byou(?:'re|\s+are|\s+were)\s+wrong\b",
        _BEGIN + r"(?:不对|不是这样|错了|不正确|搞错了|弄错了)",
        r"你(?:又|全|都|完全)?(?:理解|搞|弄|写|做|说|算)错了?",
        r"(?:这|那|答案|结果|回答)(?:个|样)?(?:是|完全)?(?:不对|错的|错误的|有误)",
        r"我(?:说|问|要)的不是(?!很|太|特别)",
    ),
    _rule(
        "preference", "soft", SOFT_PREFERENCE, 0.5, "neutral",
        r"\bi(?:'d|\s+would)\s+(?:rather|like\s+it\s+(?:better\s+)?if)\b",
        r"\bi\s+like\s+it\s+(?:better|more)\s+when\b",
        r"\b(?:it\s+)?would\s+be\s+(?:better|nicer)\s+(?:if|to|with)\b",
        r"(?:最好|希望)(?:能|还是|是|用)",
        r"我(?:宁愿|宁可|更想)",
        answers=False,
    ),
    _rule(
        "constraint", "hard", CONSTRAINT_CONFIDENCE, 0.75, "neutral",
        r"\b(?:you\s+)?(?:must|should)\s+(?:never|not|always)\b",
        _BEGIN + r"(?:please\s+)?(?:never|don'?t\s+ever|always)\s+"
        r"(?!(?:mind|heard|seen|saw|knew|thought|been|was|had|a|the|nice|good)\b)\w+",
        _BEGIN + r"(?:please\s+)?(?:do\s+not|don'?t)\s+"
        r"(?:touch|change|modify|edit|delete|remove|add|use|commit|push|run|install|write|include)\b",
        r"\b(?:is|are)\s+not\s+allowed\b",
        r"(?:必须|务必|一定要|绝对不(?:能|要|可)|千万(?:不要|别)|禁止|不允许|不得)",
        _BEGIN + r"(?:请)?(?:不要|别)(?:动|改|删|碰|加|用|提交|推送|安装|运行|写)",
        answers=False,
    ),
    _rule(
        "negative", "hard", NEGATIVE_CONFIDENCE, 0.8, "negative",
        r"\b(?:that|this|it)(?:'s|\s+is|\s+was)\s+(?:really\s+|so\s+|very\s+|just\s+)?(?:bad|terrible|awful|useless|horrible|garbage|rubbish|no\s+good|unacceptable|disappointing)\b",
        _BEGIN + _OF_IT + r"(?:(?:still\s+)?(?:doesn't|does\s+not|didn't|did\s+not)|still\s+not)\s+(?:even\s+)?"
        r"(?:work|help|compile|run)(?:ing)?\b",
        _BEGIN + r"(?:still\s+(?:broken|failing|wrong|the\s+same)|useless|terrible|awful)\b",
        r"\b(?:not|isn't|wasn't)\s+(?:very\s+|at\s+all\s+)?(?:helpful|useful|good\s+enough)\b",
        r"(?:太差|很差|太烂|没用(?!过)|没有用(?!过)|没有帮助|糟糕|不满意|(?<!行)不行(?!的话)|失望)",
        r"(?:还是|依然|仍然)(?:不能|没|不)(?:用|工作|运行|成功|好|行)",
        r"(?:根本|完全)(?:不能|没法|不)(?:用|工作|运行)",
    ),
    _rule(
        "positive", "hard", POSITIVE_CONFIDENCE, 0.7, "positive",
        _BEGIN + r"(?:perfect|excellent|great|awesome|brilliant|wonderful|amazing|fantastic|exactly|love\s+it"
        r"|nice(?:\s+(?:work|job|one))?|well\s+done|good\s+(?:job|work))\b"
        r"(?=\s*[,.!:;—-]|\s*$|\s+(?:thanks|thank|work|job|that|this|it|—))",
        _BEGIN + r"(?:many\s+|ok(?:ay)?,?\s+)?(?:thanks|thank\s+you|thx)\b",
        r"\b(?:that|this|it)\s+(?:works|worked|helps|helped)\b(?!\s+(?:like|by|if|when))",
        r"\b(?:that|this)(?:'s|\s+is|\s+was)\s+(?:really\s+|very\s+|exactly\s+|just\s+)?(?:perfect|great|excellent|right|correct|helpful|what\s+i\s+(?:wanted|needed|meant))\b",
        _BEGIN + r"(?:太好了|太棒了|很好|非常好|完美|不错|谢谢|多谢|感谢|棒|厉害|正是我(?:想)?要的)",
        r"(?:解决了|成功了|可以用了|能用了|好用)",
    ),
    _rule(
        "confusion", "hard", CONFUSION_CONFIDENCE, 0.3, "negative",
        r"\bi(?:'m|\s+am)\s+(?:really\s+|a\s+bit\s+|still\s+)?(?:confused|lost)\b",
        r"\bi\s+(?:don'?t|do\s+not|didn'?t)\s+(?:really\s+)?(?:understand|get\s+(?:it|that|this)|follow)\b",
        r"\b(?:what\s+do\s+you\s+mean|makes?\s+no\s+sense|doesn't\s+make\s+(?:any\s+)?sense)\b",
        _BEGIN + r"(?:huh|what)\s*\?+",
        r"(?:看不懂|没看懂|不懂你|不明白|没明白|什么意思|搞糊涂|没听懂)",
    ),
    _rule(
        "correction", "soft", SOFT_CORRECTION, 0.5, "negative",
        _BEGIN + r"(?:actually|well,\s+actually|i\s+meant|what\s+i\s+meant|hmm,?\s+(?:not|but))\b"
        r"(?!,?\s+(?:can|could|would|will)\s+you\b)",
        r"\b(?:you\s+(?:forgot|missed|skipped|left\s+out)|you\s+should(?:\s+have|'ve)(?!\s+(?:seen|heard|been)))\b",
        r"\bi\s+(?:asked|said|told\s+you)\b",
        r"(?:其实|实际上)(?:是|应该|要)",
        r"我(?:的)?(?:意思|本意)是",
        r"你(?:忘|漏|少|应该)(?:了|掉|写了|做了)?",
        r"(?:应该|应当)是",
    ),
    _rule(
        "instruction", "soft", INSTRUCTION_CONFIDENCE, 0.6, "neutral",
        r"\b(?:from\s+now\s+on|in\s+(?:the\s+)?future|next\s+time|going\s+forward)\b",
        r"\b(?:please\s+)?(?:remember|make\s+sure|be\s+sure)\s+(?:to|that|you)\b",
        r"(?:以后|下次|今后|从现在起|从今以后)",
        r"(?:记住|记得|请注意|确保)",
        answers=False,
    ),
)  # fmt: skip
"""In the order in which they are tried; the first that fits gives the shape."""


def classify(text: str, previous_reply: str | None = None) -> FeedbackGuess:
    """What a message says of the reply before it, and by which rule.

    With an empty `previous_reply` there was none, and praise or blame is of nothing; with None it is not known.
    """
    said = spaced(plain(text))
    if not said:
        return UNKNOWN
    own = _CITED.sub(lambda cited: _MASK * len(cited[0]), said)
    fitting = [rule for rule in _RULES if _fits(rule, own, previous_reply)]
    pair = _pair(said, own)
    if pair is not None:
        return _preference(*pair, fitting, previous_reply)
    if not fitting:
        return UNKNOWN
    first = _first(fitting)
    surest = max((rule.confidence for rule in fitting if rule.shape == "correction"), default=0.0)
    wrong = first.shape == "preference" and surest > 0
    return FeedbackGuess(
        shape=first.shape,
        polarity="negative" if wrong else first.polarity,
        magnitude=first.magnitude,
        confidence=max(first.confidence, surest) if wrong else first.confidence,
        reason=f"{first.shape}_{first.strength}",
    )


def plain(text: str) -> str:
    """What a person says in a message: its beginning, without code and quoted lines."""
    return _QUOTED.sub("", _CODE.sub(" ", text[:TEXT_CHARS_MAX])).replace("’", "'").strip()


def _first(fitting: list[_Rule]) -> _Rule:
    """The rule that counts: a preference goes before a correction, hard or soft; else in the order of the rules."""
    preferences = [rule for rule in fitting if rule.shape == "preference"]
    if preferences and fitting[0].shape == "correction":
        return preferences[0]
    return fitting[0]


def _fits(rule: _Rule, own: str, previous_reply: str | None) -> bool:
    """Whether words of the speaker's own fit a rule, and are meant so. A `no` to a question answers it."""
    if rule.answers and previous_reply == "":
        return False
    if rule.shape == "confusion":
        return rule.pattern.search(own) is not None
    asked = (previous_reply or "").rstrip().endswith(("?", "？"))
    return any(
        _is_meant(found, judges=rule.answers) and not (asked and _DECLINED.fullmatch(found[0]))
        for found in rule.pattern.finditer(own)
    )


def _is_meant(found: re.Match[str], *, judges: bool) -> bool:
    """Whether words say what they seem to: not in a question, unless that asks for something to be done.

    Where they would judge, no question will do, nor what follows a colon.
    """
    said, end = found.string, found.end()
    sentence = _ENDED.split(said[max(0, end - SENTENCE_CHARS_MAX) : end])[-1]
    asks = _ASKED.match(said, end) is not None
    if judges:
        return not asks and not _TO_BE_WRITTEN.search(sentence)
    return not asks or _REQUEST.search(sentence) is not None


def _pair(said: str, own: str) -> tuple[str, str] | None:
    """The two halves of the first pair that is meant; either may be named in quotation marks."""
    for pattern in _PAIRS:
        for found in pattern.finditer(said):
            if own[found.start()] == _MASK or not _is_meant(found, judges=False):
                continue
            prefer, avoid = _thing(found["prefer"]), _thing(found["avoid"])
            if prefer and avoid and prefer.casefold() != avoid.casefold():
                return prefer, avoid
    return None


def _thing(text: str) -> str:
    return " ".join(text.split()).strip(" \"'“”‘’「」")


def _preference(prefer: str, avoid: str, fitting: list[_Rule], previous_reply: str | None) -> FeedbackGuess:
    """A pair is a preference; it blames the reply when that did what is to be avoided, or when it was corrected."""
    blamed = any(rule.polarity == "negative" for rule in fitting)
    done = bool(previous_reply) and avoid.casefold() in (previous_reply or "").casefold()
    guess = FeedbackGuess("preference", "neutral", 0.65, HARD_PREFERENCE, "preference_pair", prefer, avoid)
    return replace(guess, polarity="negative") if blamed or done else guess
