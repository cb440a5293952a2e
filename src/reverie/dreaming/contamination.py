"""What is never a memory, whoever said it: one pure decision, asked when recording, ranking and promoting.

Output of dreaming that came back in, prompts and wrappers that programs write for models, metadata of messages,
commands, acknowledgements, bare questions, and text that says nothing. It is the second line of defence: the first is
the provenance of every passage. A text is looked at as a reader would see it: compatibility forms are unified, what
is not seen is removed, and case does not count.

Invariant: linear in the text, of which the first `CHARACTERS_MAX` characters are looked at; a text that holds none of
the signs costs microseconds.
"""

from __future__ import annotations

import re
import unicodedata
from typing import NamedTuple

from reverie.memory.documents import without_comments
from reverie.memory.scripts import UNSPACED

CHARACTERS_MAX = 20_000
LEAD_CHARACTERS_MAX = 200
"""How far into a text what begins a staged candidate is looked for."""

SHORT_CHARACTERS = 160
SHORT_WORDS = 12
"""In a longer text neither a courtesy nor a lack of words is looked for."""

WORDS_MIN = 2
CHARACTERS_MIN = 8
CHARACTERS_OF_TWO_WORDS_MIN = 12
_HEADING_WORDS_MAX = 3
_QUESTION_WORDS_MAX = 12

_UNSEEN = re.compile(
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\u0300-\u036f\U000e0000-\U000e0fff]"
)
"""Characters that show nothing, and accents that no letter composes with."""


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class _Sign(NamedTuple):
    """What is looked for, where both `mark`, a character that is rare, and `hint` occur: a reason, and its pattern.

    `quoted` False: what stands in quotation marks or in code is not looked at, so that a note may speak of it.
    """

    reason: str
    mark: str
    hint: str
    pattern: re.Pattern[str]
    quoted: bool = True


_OPENS = r"\[(?!cron:|queued|system|openclaw)"
_START = (
    r"(?:^|\n)(?:[^\S\n]|[-*+•>|#]|\d+[.)](?=\s)|@@[^@\n]{0,40}?-\s|(?:user|assistant)\s*:\s"
    rf"|{_OPENS}[^\]\n]{{0,60}}\](?=\s)|{_OPENS}|[({{])*+"
)
"""The beginning of a line, and what lists, diffs, dates in brackets and speakers put before a text."""

_FENCES = (
    "recalled_memory|memory\\s+source\\s*=|workspace_file|earlier_conversation|conversation_summary|plugin_note|"
    "earlier_record|relevant[-_]memories"
)
_DREAMING = re.compile(r"openclaw-memory-(?:promotion|lineage)\s*:|<!--\s*(?:openclaw|reverie):dreaming:")
_UNTRUSTED = re.compile(
    r"\(\s*untrusted(?:\s+metadata|,\s*for\s+context|\s+content)[^)\n]{0,80}\)|untrusted\s+context\s*\(metadata"
    r"|external_untrusted_content"
)
_SESSION = re.compile(
    r"session[\s_-]{0,2}key\b.{0,260}?session[\s_-]{0,2}id\b|session[\s_-]{0,2}id\b.{0,260}?session[\s_-]{0,2}key\b",
    re.DOTALL,
)
_FLUSH = re.compile(
    rf"{_START}(?:pre-?compaction\s+memory\s+flush|memory\s+flush\s*(?:[:.]|$)"
    r"|(?:the\s+)?session\s+(?:is\s+)?near(?:ing|s)?\s+(?:auto-?)?compaction|store\s+durable\s+memories\b)"
)
_NAMED = r"system(?:[-_\s](?:reminder|message|prompt|note|event))?"
_SYSTEM = re.compile(rf"<\s*/?\s*{_NAMED}\s*>|{_START}(?:\[\s*{_NAMED}\b[^\]\n]{{0,80}}\]|{_NAMED}\s*:)")
_SILENT = "(?:heartbeat_ok|no_reply|reply_skip|announce_skip)"
_HEARTBEAT = re.compile(
    r"\[openclaw\s+heartbeat|\bread\s+heartbeat\.md\b"
    rf"|\b(?:reply|respond|answer)\b[^.\n]{{0,60}}?\b{_SILENT}\b|(?:^|\n)(?:[^\w\n]|_)*+{_SILENT}\b|\b{_SILENT}[\W_]*$"
)
_QUEUED = re.compile(rf"{_START}(?:\[queued\b[^\]\n]{{0,80}}\]|queued\s+#\d)")

_SIGNS = (
    _Sign("a marker of dreaming", "", "openclaw-memory-", _DREAMING),
    _Sign("a marker of dreaming", "<", ":dreaming:", _DREAMING),
    _Sign(
        "an annotation of a promotion",
        "[",
        "score",
        re.compile(r"\[\s*score\s*=\s*[\d.]+\s[^\]]{0,120}?recalls\s*=\s*\d[^\]]{0,120}?source\s*="),
    ),
    _Sign("the trigger of dreaming", "_", "__", re.compile(r"__openclaw_memory_core_\w+__|__dreaming_[a-z]\w*__")),
    _Sign("a memory that was quoted", "<", "", re.compile(rf"<\s*/?\s*(?:{_FENCES})")),
    _Sign("metadata of a message", "(", "untrusted", _UNTRUSTED),
    _Sign("metadata of a message", "_", "untrusted", _UNTRUSTED),
    _Sign("the key and id of a session", ":", "session", _SESSION),
    _Sign(
        "a prompt of the dream diary",
        "",
        "dream diary",
        re.compile(rf"{_START}write\s+a\s+dream\s+diary\s+entry\s+from\s+these\s+memory\s+fragments"),
        quoted=False,
    ),
    _Sign("a prompt to flush memory", "", "memory flush", _FLUSH, quoted=False),
    _Sign("a prompt to flush memory", "", "compaction", _FLUSH, quoted=False),
    _Sign("a prompt to flush memory", "", "durable memories", _FLUSH, quoted=False),
    _Sign("a system reminder", ":", "system", _SYSTEM, quoted=False),
    _Sign("a system reminder", "<", "system", _SYSTEM, quoted=False),
    _Sign("a system reminder", "[", "system", _SYSTEM, quoted=False),
    _Sign("the wrapper of a cron job", "[", "[cron:", re.compile(rf"{_START}\[cron:"), quoted=False),
    _Sign("the text of a heartbeat", "", "heartbeat", _HEARTBEAT, quoted=False),
    _Sign("the text of a heartbeat", "_", "_reply", _HEARTBEAT, quoted=False),
    _Sign("the text of a heartbeat", "_", "_skip", _HEARTBEAT, quoted=False),
    _Sign("word of a queue", "[", "[queued", _QUEUED, quoted=False),
    _Sign("word of a queue", "#", "queued", _QUEUED, quoted=False),
    _Sign(
        "a summary of a conversation",
        ":",
        "summary",
        re.compile(rf"{_START}[*_]{{0,2}}conversation\s+summary[*_]{{0,2}}\s*:"),
    ),
)

_BY_MARK = tuple(
    (mark, tuple(sign for sign in _SIGNS if sign.mark == mark)) for mark in dict.fromkeys(sign.mark for sign in _SIGNS)
)
"""Nearly every text holds few of the marks, so that few hints are looked for."""

_TURN = re.compile(r"[\s*_#>-]*(?:\[[^\]\n]{0,60}\]\s*)?[*_]{0,2}(?:user|assistant|tool)[*_]{0,2}\s*:")
_COMMAND = re.compile(r"[\s>*-]*(?:[/!](?P<name>[a-z][a-z0-9_-]{0,31})(?:@\w+)?(?=\s|:|$)|\$\s+[a-z~./])")
_FOLDERS = _words("bin boot data dev etc home lib media mnt opt proc root run sbin srv sys tmp usr users var volumes")
"""Words after which a slash is a path and no command."""

_STAGED_LEAD = re.compile(r"\b(?:candidate|reflections?)\s*:")
_STAGED = (
    re.compile(r"\bconfidence\s*:\s*\d"),
    re.compile(r"\bevidence\s*:\s*(?:\./)?(?:memory|sessions)/"),
    re.compile(r"\bstatus\s*:\s*staged\b"),
)
_STAGED_RECALLS = re.compile(r"\brecalls\s*:\s*\d")
_STAGED_NOTE = re.compile(r"\bnote\s*:\s*reflection\b")
_PROMOTED = re.compile(r"openclaw-memory-promotion\s*:")
_ECHO = re.compile(
    r"[\s([{*+-]*\[[^\]\n]*dreaming-narrative[^\]\n]*\]\s*(?:user|assistant)\s*:\s*"
    r"write\s+a\s+dream\s+diary\s+entry\s+from\s+these\s+memory\s+fragments"
)

_DATA = re.compile(r"[\s[`]*(?:json)?\s*\{\s*\"")
_QUOTATION = re.compile(r'`[^`\n]{1,400}`|"[^"\n]{1,400}"|“[^”\n]{1,400}”|«[^»\n]{1,400}»|「[^」\n]{1,400}」')
_LETTER = re.compile(r"[^\W_]")
_UNSPACED_RUN = re.compile(f"[{UNSPACED}]+")
_WORD = re.compile(rf"[^\W_{UNSPACED}]+(?:['’][^\W_{UNSPACED}]+)*")
_HEADING_LINE = re.compile(r"^[ ]{0,3}#{1,6}(?:[ \t].*)?$", re.MULTILINE)
_HEADINGS_FIRST = re.compile(r"(?:#{1,6}(?:[ \t][^\n]*)?\n)+")
_HEADING = re.compile(r"(?:^|\s)#{1,6}(?=\s|$)")
_BULLETS = re.compile(r"(?:^|(?<=\s))(?:[-*+•]|\d+[.)]|\[[ x]?\])(?=\s|$)")

_SPEAKER = re.compile(r"^[\s*_>-]*[^\W\d_]{1,30}:(?=\s)")
_QUESTION_MARKS = "?؟❓❔՞፧"
_SENTENCE = re.compile(rf"[^.!。！…{_QUESTION_MARKS}\n]*(?:[.!。！…{_QUESTION_MARKS}]+|\n|$)")
_ASKING_END = re.compile(
    r"(?:ですか|ますか|でしょうか|のか|かな|[吗呢嗎]|(?:습니|입니|ㅂ니)까|까요|나요|는가요|인가요)[。.\s]*$"
)
_ASKING_END_CHARACTERS = 12
_ASKING_LAST = frozenset("かな吗呢嗎까요。.")
_ASKING_START = re.compile(
    r"\s*(?:(?:[-*+•>]|\d+[.)]|#{1,6})\s+)*(?:(?:and|but|so|ok|okay|hey|hi|please)[,\s]+)*"
    r"(?:(?:what|who|where|when|why|how|which|whose)(?:['’]?s|['’]?re|\s+(?:is|are|was|were|do|does|did|can|could|should"
    r"|would|will|has|have|had|much|many|long|often|old|far|come|kind|sort|time|day))\b"
    r"|(?:is|are|was|were|does|did)\s+(?:i|you|we|they|he|she|it|there|the|my|your|our|this|that|any|anyone)\b"
    r"|(?:do|can|could|will|would|should|have|has|may)\s+(?:i|you|we|they|he|she|there|anyone|somebody)\b)"
)
_INNER_STOPS = re.compile(r"[,:;.!]\s|\n")

_SAYING_NOTHING = _words(
    """
    a again all alright amazing and at awesome bye congratulations congrats cool day ok okay okey k evening everyone
    exactly fine for friend fun glad good goodbye goodnight got great guys haha hahaha hello hey hi hooray how i indeed
    it keep later lol lovely luck me morning much never nice night no nope not of oh on perfect please problem pleasure
    really right see so soon sorry sounds sure sweet take care talk thank thanks thankyou that thats the then there to
    too totally true understood up very welcome well will wonderful work worries wow xd yay yeah yep yes yo you your
    youre np thx ty afternoon absolutely agreed noted done ack acknowledged roger copy hmm hm ah uh um gotcha
    hallo danke bitte guten tag morgen abend nacht ja nein super schön tschüss gerne alles klar vielen dank
    merci bonjour salut oui non d'accord beaucoup bonsoir bonne nuit au revoir super
    hola gracias buenos días dias buenas tardes noches sí si vale adiós muchas de nada
    ciao grazie prego buongiorno buonasera va bene olá ola obrigado obrigada bom boa dia tarde noite sim não
    привет спасибо да нет хорошо ладно пока доброе утро добрый день вечер большое
    שלום תודה כן לא مرحبا شكرا نعم لا حسنا नमस्ते धन्यवाद हाँ ठीक है
    """
)
_SAYING_NOTHING_UNSPACED = re.compile(
    "(?:你好|您好|谢谢|謝謝|多谢|不客气|好的|好|是的|对|嗯|收到|知道了|没问题|再见|早上好|晚安|辛苦了|明白|可以|行|吧|了|哈|您|你|啊"
    "|ありがとう|ございます|おはよう|こんにちは|こんばんは|おやすみ|なさい|はい|いいえ|了解|です|しました|わかりました|承知|お疲れ様|お願いします"
    "|よろしく|すみません|どうも|안녕하세요|안녕|감사합니다|고마워요?|고맙습니다|네|아니요|알겠습니다|좋아요|그래요?|수고하세요"
    "|สวัสดี|ขอบคุณ|ครับ|ค่ะ|คะ|ใช่|ไม่)+$"
)


def unfit(text: str) -> str | None:
    """Why a text is never a memory, in a few words; None for one that may be.

    The text may be a passage with its lines or the same on one line.
    """
    seen = _as_seen(text)
    return _contaminated(seen) or _too_little(seen)


def contaminated(text: str) -> str | None:
    """As `unfit`, for a text that may be a part of what it comes from: few words are no reason."""
    return _contaminated(_as_seen(text))


def _contaminated(seen: str) -> str | None:
    return _signed(seen) or _begun(seen) or _says_nothing(seen)


def refused_by_openclaw(text: str) -> str | None:
    """Why OpenClaw 2026.4.25 would not have ranked a text; None if it would: for counting as it counts."""
    seen = _as_seen(text)
    if _PROMOTED.search(seen):
        return "a marker of dreaming"
    if "dreaming-narrative" in seen and _ECHO.match(seen):
        return "a prompt of the dream diary"
    return "a staged candidate" if _is_staged(seen, newest=False) else None


def _as_seen(text: str) -> str:
    """The text as a reader sees it, in small letters and without blank lines."""
    text = text[:CHARACTERS_MAX]
    seen = text.lower() if text.isascii() else _UNSEEN.sub("", unicodedata.normalize("NFKC", text)).lower()
    return "\n".join(filter(None, map(str.strip, seen.split("\n")))) if "\n" in seen else seen


def _signed(seen: str) -> str | None:
    """The reason whose sign a text carries."""
    unquoted = ""
    for mark, signs in _BY_MARK:
        if mark not in seen:
            continue
        for reason, _, hint, pattern, quoted in signs:
            if hint not in seen:
                continue
            if not quoted:
                unquoted = unquoted or _QUOTATION.sub(" ", seen)
            if pattern.search(seen if quoted else unquoted):
                return reason
    return "a staged candidate" if "/" in seen and "staged" in seen and _is_staged(seen, newest=True) else None


def _is_staged(seen: str, *, newest: bool) -> bool:
    """True for a line of a report of light or REM sleep: it has all the fields that those have."""
    if not _STAGED_LEAD.search(seen, 0, LEAD_CHARACTERS_MAX) or not all(each.search(seen) for each in _STAGED):
        return False
    return bool(_STAGED_RECALLS.search(seen) or (newest and _STAGED_NOTE.search(seen)))


def _begun(seen: str) -> str | None:
    """The reason that a text's beginning tells."""
    start = found.end() if seen.startswith("#") and (found := _HEADINGS_FIRST.match(seen)) else 0
    lead = seen[start : start + LEAD_CHARACTERS_MAX]
    if ":" in lead and _TURN.match(lead):
        return "a turn of a transcript"
    if (found := _COMMAND.match(lead)) and found["name"] not in _FOLDERS:
        return "a command"
    return "data of a program" if "{" in lead and _DATA.match(lead) else None


def _says_nothing(seen: str) -> str | None:
    """Why the words of a text tell nobody anything."""
    said = without_comments(seen) if "<!--" in seen else seen
    if not _LETTER.search(said):
        return "nothing but marks" if seen.strip() else "empty"
    if "#" in said and not (said := _without_headings(said)):
        return "headings without text"
    if _is_question(said):
        return "nothing but questions"
    return "a courtesy" if _is_short(said) and _only_courtesy(said) else None


def _is_short(said: str) -> bool:
    characters = SHORT_CHARACTERS if said.isascii() else SHORT_CHARACTERS // 4
    return len(said) <= characters and len(said.split()) <= SHORT_WORDS


def _without_headings(said: str) -> str:
    """The text below its headings; empty if there is none. On one line a heading cannot be told from what follows."""
    if "\n" in said.strip():
        kept = _HEADING_LINE.sub("", said)
        return kept if _LETTER.search(_BULLETS.sub("", kept)) else ""
    if not _HEADING.match(said.lstrip()):
        return said
    parts = [_BULLETS.sub("", part) for part in _HEADING.split(said)]
    return said if any(_word_count(part) > _HEADING_WORDS_MAX for part in parts) else ""


def _word_count(said: str) -> int:
    """Words between spaces; of a script without spaces two letters count as one."""
    unspaced = _UNSPACED_RUN.findall(said)
    return len(said.split()) - len(unspaced) + sum((len(run) + 1) // 2 for run in unspaced)


def _is_question(said: str) -> bool:
    """True for a text of nothing but questions, and courtesies before or after them."""
    if "?" not in said and (said.isascii() or not _asks(said)):
        return len(said) <= SHORT_CHARACTERS and _asks_without_mark(said)
    asked = False
    for sentence in _SENTENCE.findall(said):
        if _asks(sentence):
            asked = True
        elif _LETTER.search(sentence) and not _only_courtesy(sentence):
            return False
    return asked


def _asks(said: str) -> bool:
    """True if somewhere a question ends, by a mark or, at the end, by a word."""
    if any(map(said.__contains__, _QUESTION_MARKS)):
        return True
    end = said.rstrip()[-_ASKING_END_CHARACTERS:]
    return end[-1:] in _ASKING_LAST and _ASKING_END.search(end) is not None


def _asks_without_mark(said: str) -> bool:
    """True for one short sentence that begins as a question does and has no end mark, as people type."""
    found = _ASKING_START.match(said)
    if found is None or said.rstrip()[-1] in ".!" or _INNER_STOPS.search(said, found.end()):
        return False
    return len(said.split()) <= _QUESTION_WORDS_MAX


def _too_little(seen: str) -> str | None:
    """The reason if there are too few words for a fact; two letters without spaces count as a word."""
    if not _is_short(seen):
        return None
    spaced = _WORD.findall(seen)
    unspaced = sum(map(len, _UNSPACED_RUN.findall(seen)))
    words = len(spaced) + (unspaced + 1) // 2
    characters = sum(map(len, spaced)) + 2 * unspaced
    least = CHARACTERS_MIN if words > WORDS_MIN else CHARACTERS_OF_TWO_WORDS_MIN
    return "too few words" if words < WORDS_MIN or characters < least else None


def _only_courtesy(said: str) -> bool:
    """True for greetings, thanks and acknowledgements, in the languages that are known here; whoever says them."""
    said = _SPEAKER.sub("", said, count=1)
    spaced = [word.replace("’", "'") for word in _WORD.findall(said)]
    if any(word not in _SAYING_NOTHING and word.replace("'", "") not in _SAYING_NOTHING for word in spaced):
        return False
    runs = _UNSPACED_RUN.findall(said)
    return bool(spaced or runs) and all(_SAYING_NOTHING_UNSPACED.match(run) for run in runs)
