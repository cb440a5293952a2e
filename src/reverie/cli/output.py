"""What a command prints: results on standard output, everything else on standard error.

With `--json` a result is one object on one line, and nothing else stands on standard output.
"""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from reverie.types import JsonObject

_WORD = re.compile(r"\w+")
WORD_CHARACTERS_MIN = 3
BYTES_PER_STEP = 1024


def say(text: str = "", *, end: bool = True) -> None:
    """A line of the result."""
    typer.echo(text, nl=end)


def say_json(value: JsonObject) -> None:
    """The result as one line of JSON."""
    typer.echo(_line(value))


def warn(text: str) -> None:
    """A line that is not the result."""
    typer.echo(text, err=True)


def warn_json(value: JsonObject) -> None:
    """An object that is not the result."""
    typer.echo(_line(value), err=True)


def is_terminal() -> bool:
    """True when a person reads and can answer."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def dim(text: str) -> str:
    """Text that stands back, on a terminal."""
    return typer.style(text, dim=True)


def bold(text: str) -> str:
    """Text that stands out, on a terminal."""
    return typer.style(text, bold=True)


def highlighted(text: str, question: str) -> str:
    """The text with the words of the question standing out."""
    wanted = {word.casefold() for word in _WORD.findall(question) if len(word) >= WORD_CHARACTERS_MIN}
    return _WORD.sub(lambda match: bold(match[0]) if match[0].casefold() in wanted else match[0], text)


def columns(rows: Iterable[Sequence[str]], *, indent: str = "  ", gap: str = "  ") -> list[str]:
    """Rows as aligned lines; the last column is left as it is."""
    table = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*(row[:-1] for row in table), strict=True)]
    return [
        (indent + gap.join([*(cell.ljust(width) for cell, width in zip(row, widths, strict=False)), row[-1]])).rstrip()
        for row in table
    ]


def size_words(size_bytes: float) -> str:
    """A size for people, for example `3.2 MiB`."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < BYTES_PER_STEP:
            return f"{size_bytes:.0f} B" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= BYTES_PER_STEP
    return f"{size_bytes:.1f} GiB"


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, for example `1 session` or `3 sessions`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def printable(text: str, *, lines: bool = False) -> str:
    """Text of others that cannot steer the terminal it is shown on; with `lines`, of several lines."""
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else "\N{REPLACEMENT CHARACTER}" for c in text)


def _line(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
