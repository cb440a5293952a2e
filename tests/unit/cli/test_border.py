"""How commands end: exit codes and one line."""

from __future__ import annotations

import json

import pytest
import typer

from reverie.cli.border import reported, run
from reverie.errors import ConfigError, HomeInUseError, ReverieError

CASES = [
    (ReverieError("it could\nnot be done"), 1, "error: it could not be done\n"),
    (HomeInUseError("in use"), 1, "error: in use\n"),
    (
        ConfigError("gateway.port", 70_000, "0 ≤ gateway.port ≤ 65535"),
        2,
        "error: gateway.port = 70000 is not valid: 0 ≤ gateway.port ≤ 65535\n",
    ),
    (
        ZeroDivisionError("by zero"),
        1,
        "error: this is a defect of Reverie (ZeroDivisionError: by zero); REVERIE_DEBUG=1 shows where\n",
    ),
    (ExceptionGroup("tasks", [ValueError("x"), ReverieError("the cause")]), 1, "error: the cause\n"),
    (KeyboardInterrupt(), 130, "interrupted\n"),
]


@pytest.mark.parametrize(("error", "code", "line"), CASES)
def test_errors(error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each kind of failure has its exit code and is one line on standard error."""
    with pytest.raises(typer.Exit) as ended, reported(as_json=False):
        raise error

    assert ended.value.exit_code == code
    assert capsys.readouterr() == ("", line)


def test_errors_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json an error is an object with its type and message."""
    with pytest.raises(typer.Exit), reported(as_json=True):
        raise HomeInUseError("in use")

    shown = capsys.readouterr()
    assert shown.out == ""
    assert json.loads(shown.err) == {"error": {"type": "HomeInUseError", "message": "in use"}}


def test_defect_with_debugging(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer can see where a defect is."""
    monkeypatch.setenv("REVERIE_DEBUG", "1")

    with pytest.raises(ZeroDivisionError), reported(as_json=False):
        raise ZeroDivisionError


def test_exit_passes() -> None:
    """A command may choose its own exit code."""
    with pytest.raises(typer.Exit) as ended, reported(as_json=False):
        raise typer.Exit(3)

    assert ended.value.exit_code == 3


def test_work_runs_on_a_loop(capsys: pytest.CaptureFixture[str]) -> None:
    """`run` awaits the work and reports its failure."""

    async def work() -> None:
        raise ReverieError("no")

    with pytest.raises(typer.Exit):
        run(work, as_json=False)

    assert capsys.readouterr().err == "error: no\n"
