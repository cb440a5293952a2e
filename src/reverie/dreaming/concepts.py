"""The words a passage is about: up to eight tags, in seven languages, by rule and without a model.

First the words of a small glossary that stand anywhere in the text, then compound tokens (`qmd-router`, `a/b.py`),
then single words, each in the order of the text; first come, first kept. Which words those are follows OpenClaw
2026.4, whose tags travel in `short-term-recall.json`; what it leaves out as scaffolding later is left out here too.

OpenClaw cuts words with ICU and its dictionaries. Here scripts with spaces are cut as Unicode says, and the others by
rule: where the script changes; a run of Chinese characters at known words and at grammar, and what remains into pairs,
the last of which may be three; hiragana that follows another character is an ending. So a tag in Chinese or Japanese
may be another than ICU's, and a Thai sentence is one word, which is too long to be a tag.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from reverie.dreaming.entry import SNIPPET_CHARACTERS_MAX, TAGS_MAX
from reverie.memory.scripts import HAN, HANGUL, HIRAGANA, KATAKANA

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Script = Literal["latin", "cjk", "mixed", "other"]

TAG_CHARACTERS_MAX = 32
NAME_CHARACTERS_MAX = 255
"""What of a file's name is looked at: the most that file systems allow."""
_CJK_CHARACTERS_MIN = 2
_CHARACTERS_MIN = 3
_PAIR = 2


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GLOSSARY = _words("""
    backup backups embedding embeddings failover gateway glacier gpt kv network openai qmd router s3 vlan
    sauvegarde routeur passerelle
    konfiguration sicherung überwachung
    configuración respaldo enrutador puerta-de-enlace
    バックアップ フェイルオーバー ルーター ネットワーク ゲートウェイ 障害対応
    路由器 备份 故障转移 网络 网关
    라우터 백업 페일오버 네트워크 게이트웨이 장애대응
""")
"""Words that are found wherever they stand, also within others: English, French, German, Spanish, Japanese, Chinese,
Korean."""

STOP_WORDS = frozenset(
    _words("""
    about after agent again also because before being between build called could daily default deploy during every file
    files from have into just line lines long main make memory month more most move much next note notes over part past
    port same score search session sessions short should since some than that their there these they this through today
    using with work workspace year
    and are for into its our then were
    al con como de del el en es la las los para por que se sin su sus una uno unos unas y
    au aux avec dans de des du en est et la le les ou pour que qui sans ses son sur une un
    auf aus bei das dem den der des die ein eine einem einen einer für im in mit nach oder ohne über und von zu zum zur
    が から する して した で と に の は へ まで も や を
    与 为 了 及 和 在 将 或 把 是 用 的
    과 는 도 로 를 에 에서 와 은 으로 을 이 하다 한 할 해 했다
    cjs cpp cts jsx json md mjs mts text toml ts tsx txt yaml yml
    assistant subagent system user the you your
    candidate report reflection snippet confidence evidence wrapper prompt
    """)
)
"""Words that are no tag: the shared list, English, Spanish, French, German, Japanese, Chinese, Korean, endings of file
names, and the scaffolding of agents and reports."""

_LETTER = r"[^\W_]"
_COMPOUND = re.compile(rf"{_LETTER}+(?:[._/-]{_LETTER}+)+")
_CJK_RUN = re.compile(
    f"(?P<han>[{HAN}]+)|(?P<katakana>[{KATAKANA}]+)|(?P<hangul>[{HANGUL}]+)|(?P<hiragana>[{HIRAGANA}]+)"
)
_CJK = re.compile(f"[{HAN}{KATAKANA}{HANGUL}{HIRAGANA}]")
_KANA_ONLY = re.compile(f"[{KATAKANA}{HIRAGANA}]+")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}(?:\.[^\W_]+)?")
_INSIDE = frozenset("'\u2019.")
"""What stands between two letters without parting them: `l'eau`, `node.js`."""
_HAN_WORD = re.compile(
    "|".join(
        [
            *sorted((word for word in GLOSSARY if re.fullmatch(f"[{HAN}]{{2,3}}", word)), key=len, reverse=True),
            "[与了及和或把是的]",
        ]
    )
)


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many passages have tags in which script; each passage counts once, one without tags not at all."""

    latin: int = 0
    cjk: int = 0
    mixed: int = 0
    other: int = 0


def concept_tags(path: str, snippet: str, limit: int = TAGS_MAX) -> tuple[str, ...]:
    """The tags of a passage: at most `limit`, distinct, lower-case, those of the glossary first.

    Of the path the file's name is read, of the snippet the first 800 characters, of the limit at most eight.
    """
    wanted = max(0, min(limit, TAGS_MAX))
    name = path.replace("\\", "/").rpartition("/")[2][:NAME_CHARACTERS_MAX]
    text = unicodedata.normalize("NFKC", f"{name} {snippet[:SNIPPET_CHARACTERS_MAX]}").lower()
    found: dict[str, None] = {}
    for candidate in _candidates(text):
        if len(found) >= wanted:
            break
        if tag := as_tag(candidate):
            found[tag] = None
    return tuple(found)


def as_tag(token: str) -> str | None:
    """A token as a tag, or None for one that says nothing: too short or long, a number, a date, a stop word."""
    text = unicodedata.normalize("NFKC", token)
    start, end = 0, len(text)
    while start < end and not text[start].isalnum():
        start += 1
    while end > start and not (text[end - 1].isalnum() or _is_mark(text[end - 1])):
        end -= 1
    tag = text[start:end].replace("_", "-").lower()
    return None if _says_nothing(tag) else tag


def script_of(tag: str) -> Script:
    """Which writing a tag is in. `mixed` has Latin letters and Chinese, Japanese or Korean ones."""
    is_cjk = _CJK.search(tag) is not None
    if any(_is_latin(char) for char in tag):
        return "mixed" if is_cjk else "latin"
    return "cjk" if is_cjk else "other"


def coverage(tagged: Iterable[Iterable[str]]) -> Coverage:
    """Count passages by the writing of their tags. One with Latin and CJK tags is mixed."""
    counts: dict[Script, int] = {"latin": 0, "cjk": 0, "mixed": 0, "other": 0}
    for tags in tagged:
        scripts = {script_of(tag) for tag in tags}
        if not scripts:
            continue
        if "mixed" in scripts or {"latin", "cjk"} <= scripts:
            counts["mixed"] += 1
        else:
            counts["cjk" if "cjk" in scripts else "latin" if "latin" in scripts else "other"] += 1
    return Coverage(**counts)


def _says_nothing(tag: str) -> bool:
    if not tag or len(tag) > TAG_CHARACTERS_MAX or tag.isdecimal() or tag in STOP_WORDS or _DATE.fullmatch(tag):
        return True
    return len(tag) < (
        _CJK_CHARACTERS_MIN if script_of(tag) == "cjk" and not _KANA_ONLY.fullmatch(tag) else _CHARACTERS_MIN
    )


def _candidates(text: str) -> Iterator[str]:
    yield from (word for word in GLOSSARY if word in text)
    yield from _COMPOUND.findall(text)
    for word in _spaced_words(text):
        yield from _script_runs(word)


def _spaced_words(text: str) -> Iterator[str]:
    """Letters and digits with their marks, and what joins them without parting a word."""
    start = -1
    for position, char in enumerate(text):
        if char.isalnum() or (start >= 0 and (char == "_" or _is_mark(char) or _joins(text, position))):
            start = position if start < 0 else start
        elif start >= 0:
            yield text[start:position]
            start = -1
    if start >= 0:
        yield text[start:]


def _joins(text: str, position: int) -> bool:
    return (
        text[position] in _INSIDE
        and text[position - 1].isalpha()
        and position + 1 < len(text)
        and text[position + 1].isalpha()
    )


def _script_runs(word: str) -> Iterator[str]:
    end, before = 0, ""
    for run in _CJK_RUN.finditer(word):
        if run.start() > end:
            yield word[end : run.start()]
            before = ""
        if run["han"]:
            yield from _han_words(run["han"])
        elif not (run["hiragana"] and before):
            yield run[0]
        end, before = run.end(), run[0]
    if end < len(word):
        yield word[end:]


def _han_words(run: str) -> Iterator[str]:
    end = 0
    for known in _HAN_WORD.finditer(run):
        yield from _pairs(run[end : known.start()])
        yield known[0]
        end = known.end()
    yield from _pairs(run[end:])


def _pairs(rest: str) -> Iterator[str]:
    last = len(rest) - (_PAIR + 1 if len(rest) % _PAIR else _PAIR)
    for start in range(0, last, _PAIR):
        yield rest[start : start + _PAIR]
    if rest:
        yield rest[max(0, last) :]


def _is_mark(char: str) -> bool:
    return char > "\u02ff" and unicodedata.category(char)[0] == "M"


def _is_latin(char: str) -> bool:
    return char.isalpha() and (char < "\u0250" or unicodedata.name(char, "").startswith("LATIN "))
