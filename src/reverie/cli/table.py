"""A table on a terminal, and the same one in a pipe without anything cut off."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.table import Table
from rich.text import Text

from reverie.cli.output import say

PIPED_WIDTH = 1_000
"""Nothing is cut off where nobody looks at it on a terminal."""


def show_table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    """Rows under their heads. Cells hold text as it is to be shown: what others wrote is made printable before."""
    table = Table(box=None, pad_edge=False)
    for head in heads:
        table.add_column(head, no_wrap=True)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    with console.capture() as capture:
        console.print(table)
    say("\n".join(line.rstrip() for line in capture.get().rstrip("\n").split("\n")))
