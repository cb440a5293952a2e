"""Progress on standard error while a command works; nothing unless a person watches."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from types import TracebackType


class Progress:
    """Named steps with a bar each. `shown` False, or no terminal: silent."""

    def __init__(self, *, shown: bool) -> None:
        self._bars = RichProgress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True),
            disable=not (shown and sys.stderr.isatty()),
            transient=True,
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Generator[Callable[[int], None]]:
        """One step; call what it gives with how much was done. `total` None: how much there is, is not known."""
        task = self._bars.add_task(name, total=total)
        yield lambda count: self._bars.advance(task, count)
        finished = self._bars.tasks[task].completed
        self._bars.update(task, total=finished or 1, completed=finished or 1)
