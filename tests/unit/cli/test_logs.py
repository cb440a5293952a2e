"""Logs: where they go and in which form."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

import pytest
import structlog

from reverie.cli.logs import configure_logs

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def defaults_again() -> Iterator[None]:
    """Logging is as it was after each test."""
    yield
    structlog.reset_defaults()
    logging.getLogger().handlers.clear()


def test_json_lines_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no person reads, a record is a line of JSON on standard error."""
    configure_logs("info")

    structlog.get_logger("reverie").info("it happened", action="test", count=3)

    shown = capsys.readouterr()
    record = json.loads(shown.err)
    assert shown.out == ""
    assert record.pop("timestamp").endswith("Z")
    assert record == {"event": "it happened", "level": "info", "action": "test", "count": 3}


def test_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """On a terminal a record is a readable line."""
    configure_logs("info", as_json=False)

    structlog.get_logger("reverie").info("it happened", action="test")

    assert "it happened" in capsys.readouterr().err


def test_level(capsys: pytest.CaptureFixture[str]) -> None:
    """Records below the level are left out."""
    configure_logs("warning")

    structlog.get_logger("reverie").info("not said")

    assert capsys.readouterr().err == ""


def test_libraries(capsys: pytest.CaptureFixture[str]) -> None:
    """Warnings of libraries have the same form; what is less than a warning is left out."""
    configure_logs("info")

    logging.getLogger("uvicorn.error").info("started")
    logging.getLogger("uvicorn.error").warning("odd request")

    record = json.loads(capsys.readouterr().err)
    assert (record["event"], record["level"]) == ("odd request", "warning")


def test_trace_without_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    """A trace names places, never the values that were there."""
    configure_logs("info", as_json=False)
    secret = "swordfish"

    def fail(word: str) -> None:
        raise ValueError(len(word))

    try:
        fail(secret)
    except ValueError:
        structlog.get_logger("reverie").exception("failed")

    shown = capsys.readouterr().err
    assert "ValueError" in shown
    assert secret not in shown
