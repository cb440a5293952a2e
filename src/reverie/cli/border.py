"""Where a command ends: with its result, or with one line that says why not.

Exit codes: 0 done, 1 it could not be done, 2 the command or the configuration is wrong, 130 interrupted. With
`--json` the line is an object `{"error": {"type": …, "message": …}}`. `REVERIE_DEBUG=1` shows the trace of a defect.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import typer

from reverie.cli.output import warn, warn_json
from reverie.errors import ConfigError, ReverieError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator

COULD_NOT = 1
WRONG_USE = 2
INTERRUPTED = 130


def run(work: Callable[[], Coroutine[Any, Any, None]], *, as_json: bool, log_level: str = "warning") -> None:
    """Run a command's work on an event loop, within `reported`."""
    with reported(as_json=as_json):
        import asyncio

        from reverie.cli.logs import configure_logs

        configure_logs(log_level)
        asyncio.run(work())


@contextmanager
def reported(*, as_json: bool) -> Generator[None]:
    """Turns whatever goes wrong inside into one line on standard error and an exit code."""
    try:
        yield
    except (typer.Exit, typer.Abort, BrokenPipeError):
        raise
    except KeyboardInterrupt:
        warn("interrupted")
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:  # a person gets a sentence, not a trace
        if os.environ.get("REVERIE_DEBUG"):
            raise
        raise typer.Exit(report_error(_cause(error), as_json=as_json)) from None


def report_error(error: BaseException, *, as_json: bool) -> int:
    """Say what went wrong; returns the exit code."""
    message = str(error)
    if not isinstance(error, ReverieError):
        shown = f"{type(error).__name__}: {message}" if message else type(error).__name__
        message = f"this is a defect of Reverie ({shown}); REVERIE_DEBUG=1 shows where"
    if as_json:
        warn_json({"error": {"type": type(error).__name__, "message": message}})
    else:
        warn(f"error: {' '.join(message.split())}")
    return WRONG_USE if isinstance(error, ConfigError) else COULD_NOT


def _cause(error: BaseException) -> BaseException:
    """The first error of ours within a group of a task group; else the error itself."""
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        leaves = [_cause(each) for each in group.exceptions]
        return next((leaf for leaf in leaves if isinstance(leaf, ReverieError)), leaves[0])
    return error
