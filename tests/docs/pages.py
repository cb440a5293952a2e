"""The documentation as text: its pages, their fenced blocks, links and headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its text."""

    language: str
    text: str


def name_of(page: Path) -> str:
    """A page as the repository names it."""
    return page.relative_to(ROOT).as_posix()


def read(name: str) -> str:
    """The text of a page."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of some languages, in order."""
    return [found[2] for found in _FENCE.finditer(text) if found[1] in languages]


def prose(text: str) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", text)


def links(text: str) -> list[str]:
    """What a page links to."""
    return _LINK.findall(prose(text))


def anchors(text: str) -> set[str]:
    """The headings of a page, as links name them."""
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(prose(text))}


def on_one_line(text: str) -> str:
    """A text with its white space collapsed: a page wraps where it must."""
    return " ".join(text.split())
