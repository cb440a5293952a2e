"""The workspace files that stand in the stable prefix of every prompt: AGENTS.md, USER.md, MEMORY.md.

A fragment is read, bounded, and named by the fingerprint of its text. A file is opened again only when its size, its
modification time or its inode has changed; every turn looks at those, and at nothing else. What exceeds its share of
the window is condensed (`condensed.py`).
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from reverie.context.condensing import condensed
from reverie.llm.tokens import raw_tokens
from reverie.memory.documents import without_comments

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

log = structlog.get_logger(__name__)

FRAGMENT_FILES = ("AGENTS.md", "USER.md", "MEMORY.md")
FRAGMENT_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the stable prefix: the file's name, its text, its fingerprint. `whole` is False when it was cut.

    `tokens` is the uncalibrated estimate of the text.
    """

    name: str
    text: str
    fingerprint: str
    whole: bool = True
    tokens: int = field(default=-1, compare=False)

    def __post_init__(self) -> None:
        if self.tokens < 0:
            object.__setattr__(self, "tokens", raw_tokens(self.text))


def text_fingerprint(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def shares(fragments: tuple[Fragment, ...], tokens_max: int) -> dict[str, int]:
    """How many tokens of a share of the model's window each fragment may take, by its name.

    Short ones may keep all they have; the long ones share what is left equally. The figures follow the uncalibrated
    estimate, so that they stay as they are from turn to turn.
    """
    left, found = tokens_max, dict[str, int]()
    by_size = sorted(fragments, key=lambda fragment: fragment.tokens)
    for number, fragment in enumerate(by_size):
        share = left // (len(by_size) - number)
        found[fragment.name] = share
        left -= min(share, fragment.tokens)
    return found


NOTE_TOKENS = 60
"""Room for the line that says what was done."""


def shortened(fragment: Fragment, tokens: int) -> Fragment:
    """A fragment condensed by rule, with a line that says so."""
    return with_note(fragment.name, condensed(fragment.text, max(1, tokens - NOTE_TOKENS)), "shortened")


def fit(
    fragments: tuple[Fragment, ...],
    tokens_max: int,
    shorten: Callable[[Fragment, int], Fragment] = shortened,
) -> tuple[Fragment, ...]:
    """The fragments within a share of the model's window: those that are too long for theirs are condensed."""
    bounds = shares(fragments, tokens_max)
    return tuple(each if each.tokens <= bounds[each.name] else shorten(each, bounds[each.name]) for each in fragments)


def with_note(name: str, text: str, how: str) -> Fragment:
    """A fragment that is not the whole file, with a line that says so and how to read the file."""
    note = (
        f"[{name} is {how} here, to its share of the model's window; the rest of {name} is not shown: "
        f"memory_get reads the file itself]"
    )
    whole = f"{text.rstrip()}\n{note}"
    return Fragment(name, whole, text_fingerprint(whole), whole=False)


class FragmentReader:
    """Reads the fragments of a workspace, at most once per change of a file. `opened` counts the readings."""

    def __init__(self) -> None:
        self._cache: dict[Path, tuple[tuple[int, int, int], Fragment | None]] = {}
        self.opened = 0

    async def read(self, workspace: Path) -> tuple[Fragment, ...]:
        """The fragments that exist, in fixed order; files that are missing, empty or unreadable are left out."""
        return await asyncio.to_thread(self._read_all, workspace)

    def _read_all(self, workspace: Path) -> tuple[Fragment, ...]:
        found = (self._read_one(workspace / name) for name in FRAGMENT_FILES)
        return tuple(fragment for fragment in found if fragment is not None)

    def _read_one(self, path: Path) -> Fragment | None:
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size, status.st_ino)
            cached = self._cache.get(path)
            if cached is None or cached[0] != version:
                self.opened += 1
                cached = self._cache[path] = (version, _load(path))
            return cached[1]
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning(
                "a workspace file cannot be read", action="fragment_unreadable", file=path.name, cause=str(error)
            )
            return None


def _load(path: Path) -> Fragment | None:
    with path.open("rb") as file:
        raw = file.read(FRAGMENT_BYTES_MAX + 1)
    text = without_comments(raw[:FRAGMENT_BYTES_MAX].decode("utf-8", "replace")).strip()
    if not text:
        return None
    if len(raw) > FRAGMENT_BYTES_MAX:
        text += f"\n[the rest of {path.name} is not shown: it is larger than {FRAGMENT_BYTES_MAX // 1024} KiB]"
    return Fragment(path.name, text, text_fingerprint(text), len(raw) <= FRAGMENT_BYTES_MAX)
