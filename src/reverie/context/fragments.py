"""The workspace files that stand in the stable prefix of every prompt: AGENTS.md, USER.md, MEMORY.md.

A fragment is read, bounded, and named by the fingerprint of its text. Files are read again only when their size or
modification time has changed.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from reverie.llm.tokens import raw_tokens
from reverie.memory.documents import without_comments

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger(__name__)

FRAGMENT_FILES = ("AGENTS.md", "USER.md", "MEMORY.md")
FRAGMENT_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fragment:
    """A piece of the stable prefix: the file's name, its text, its fingerprint. `whole` is False when it was cut."""

    name: str
    text: str
    fingerprint: str
    whole: bool = True


def text_fingerprint(text: str) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def fit(fragments: tuple[Fragment, ...], tokens_max: int) -> tuple[Fragment, ...]:
    """The fragments within a share of the model's window: those that are too long lose their ends.

    Short ones keep all they have; the long ones share what is left equally. The cut follows the uncalibrated estimate,
    so that it stays where it is from turn to turn.
    """
    left, cut = tokens_max, dict[str, Fragment]()
    by_size = sorted(fragments, key=lambda fragment: raw_tokens(fragment.text))
    for number, fragment in enumerate(by_size):
        share = left // (len(by_size) - number)
        cut[fragment.name] = fragment if raw_tokens(fragment.text) <= share else _shortened(fragment, share)
        left -= min(share, raw_tokens(fragment.text))
    return tuple(cut[fragment.name] for fragment in fragments)


def _shortened(fragment: Fragment, tokens: int) -> Fragment:
    """The beginning of a fragment, with a line that says so."""
    text = fragment.text[: len(fragment.text) * tokens // max(1, raw_tokens(fragment.text))]
    note = f"[the rest of {fragment.name} is not shown: it exceeds its share of the model's window; search for it]"
    text = f"{text.rstrip()}\n{note}"
    return Fragment(fragment.name, text, text_fingerprint(text), whole=False)


class FragmentReader:
    """Reads the fragments of a workspace, at most once per change of a file."""

    def __init__(self) -> None:
        self._cache: dict[Path, tuple[tuple[int, int], Fragment | None]] = {}

    async def read(self, workspace: Path) -> tuple[Fragment, ...]:
        """The fragments that exist, in fixed order; files that are missing, empty or unreadable are left out."""
        return await asyncio.to_thread(self._read_all, workspace)

    def _read_all(self, workspace: Path) -> tuple[Fragment, ...]:
        found = (self._read_one(workspace / name) for name in FRAGMENT_FILES)
        return tuple(fragment for fragment in found if fragment is not None)

    def _read_one(self, path: Path) -> Fragment | None:
        try:
            status = path.stat()
            version = (status.st_mtime_ns, status.st_size)
            cached = self._cache.get(path)
            if cached is None or cached[0] != version:
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
