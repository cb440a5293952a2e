"""What a native thread was told at its bootstrap, part by part, and whether what is to be told now only adds to it.

The epoch is the digest of the parts. When it moves on, a thread need not be thrown away: a file that changed can be
told again, and a summary of what the thread has read word for word says nothing new to it.

| part | when it differs |
| --- | --- |
| `file:NAME` | its new text is told; of one that is gone, that it is gone |
| `summary` | told only if it stands for messages that the thread has not read |
| `continuity` | nothing: the thread went through the session that it tells of |
| any other | the thread was told what does not hold any more: another one is needed |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.context.fingerprints import digest, stabilised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.sessions.compactions import StandingSummary

FILE = "file:"
SUMMARY = "summary"
CONTINUITY = "continuity"
MEMORY = "memory"
EPOCH_CHARS = 32

_NAMED = {"instructions": "instructions", "client instructions": "client", "continuity": CONTINUITY}
_LEFT_OUT = frozenset({"tools", "compaction"})
"""Tools have a fingerprint of their own; a compaction is told by its summary, with the last message of it."""


@dataclass(frozen=True, slots=True)
class PartsChange:
    """How what is to be told differs from what was told: `told` must be told, `conflicts` cannot be taken back."""

    told: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()


def epoch_parts(
    prefix_fingerprints: Mapping[str, str], summary: StandingSummary | None, memory_version: str = ""
) -> dict[str, str]:
    """The parts of a bootstrap of the built-in engine, from the fingerprints of a prompt's stable prefix.

    `memory_version` changes when something that may have been told must not be known any more, for example because a
    person had it forgotten. What is only added to memory does not change it.
    """
    parts = {
        _NAMED.get(name, f"{FILE}{name}"): value for name, value in prefix_fingerprints.items() if name not in _LEFT_OUT
    }
    if summary is not None:
        parts[SUMMARY] = f"{summary.id}@{summary.last_seq}"
    if memory_version:
        parts[MEMORY] = memory_version
    return parts


def epoch_of(parts: Mapping[str, str]) -> str:
    """The epoch that these parts make."""
    return digest(stabilised(dict(parts)))[:EPOCH_CHARS]


def compare_parts(before: Mapping[str, str], after: Mapping[str, str], covered_through: int) -> PartsChange:
    """How two bootstraps differ, for a thread that has seen the transcript up to a number."""
    told: list[str] = []
    conflicts: list[str] = []
    for name in sorted({*before, *after}):
        if before.get(name) == after.get(name) or name == CONTINUITY:
            continue
        if name.startswith(FILE):
            told.append(name)
        elif name == SUMMARY:
            told += [name] if _last_seq(after.get(name)) > covered_through else []
        else:
            conflicts.append(name)
    return PartsChange(tuple(told), tuple(conflicts))


def _last_seq(summary: str | None) -> int:
    """The last message that a summary stands for; 0 for none."""
    last = (summary or "").rpartition("@")[2]
    return int(last) if last.isascii() and last.isdigit() and len(last) <= len(str(2**62)) else 0
