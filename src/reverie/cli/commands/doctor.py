"""`reverie doctor`: what is wrong with a home, why, what to do about it; and with `--fix` doing it."""

from __future__ import annotations

import asyncio
import http.client
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from reverie.cli.border import COULD_NOT
from reverie.cli.commands.status import reach
from reverie.cli.opening import find_home
from reverie.cli.output import bold, columns, counted, dim, say, say_json, size_words
from reverie.cli.progress import Progress
from reverie.cli.running import ANSWER_S_MAX, find_server
from reverie.clock import SystemClock
from reverie.config import read_secret, resolve_home
from reverie.doctor import Surroundings, examine, open_patient, repair
from reverie.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.config import Config, Home
    from reverie.doctor import Examination, Finding, TableSize

METRICS_BYTES_MAX = 1024 * 1024
TABLES_SHOWN = 5
SIGNS = {"ok": "ok     ", "note": "note   ", "warning": "warning", "error": "error  "}
TITLES = {
    "home": "Home",
    "database": "Databases",
    "index": "Rows of the index",
    "files": "Index and files",
    "transcripts": "Index and conversations",
    "vectors": "Vectors",
    "cache": "Embedding cache",
    "leftovers": "Leftovers",
    "state": "Conversations",
    "dreaming": "Dreaming",
    "plugins": "Plugins",
    "engines": "Context engines",
    "threads": "Native threads",
    "learning": "Learning",
    "repair": "Repair",
}


async def examine_home(given: Path | None, *, fix: bool, deep: bool, as_json: bool) -> None:
    """Examine a home and show what was found; with `fix`, repair it. Ends with exit code 1 when an error remains.

    Raises:
        HomeError: there is no such home, or it cannot be read.
    """
    home, config, problem = await asyncio.to_thread(_settings, given)
    surroundings = await _surroundings(home, config)
    patient = await asyncio.to_thread(
        lambda: open_patient(
            home, config, clock=SystemClock(), config_problem=problem, deep=deep, surroundings=surroundings
        )
    )
    with Progress(shown=not as_json) as progress:
        examination = await examine(patient, progress.step)
        if fix and examination.to_fix():
            examination = await repair(patient, examination, progress.step)
    if as_json:
        say_json(as_object(home, examination))
    else:
        for line in as_lines(home, examination, fix=fix):
            say(line)
    if not examination.ok:
        raise typer.Exit(COULD_NOT)


def as_object(home: Home, examination: Examination) -> dict[str, object]:
    """An examination for programs."""
    return {
        "home": str(home.path),
        "findings": [asdict(finding) for finding in examination.findings],
        "tables": [asdict(table) for table in examination.tables],
        "ok": examination.ok,
    }


def as_lines(home: Home, examination: Examination, *, fix: bool) -> list[str]:
    """An examination for people: by group, each finding with its cause and its remedy."""
    lines = [f"{home.path}"]
    for group, title in TITLES.items():
        found = [finding for finding in examination.findings if finding.group == group]
        if found:
            lines += ["", bold(title)]
            lines += [line for finding in found for line in _finding_lines(finding)]
        if group == "database":
            lines += _table_lines(examination.tables)
    return [*lines, "", _summary(examination, fix=fix)]


def _finding_lines(finding: Finding) -> list[str]:
    sign = "fixed  " if finding.fixed else SIGNS[finding.severity]
    lines = [f"  {sign}  {finding.what}" + ("" if finding.severity == "ok" else f"  {dim(f'[{finding.check}]')}")]
    if finding.cause:
        lines.append(f"           cause: {finding.cause}")
    if finding.remedy and not finding.fixed:
        lines.append(f"           remedy: {finding.remedy}")
    return lines


def _table_lines(tables: Sequence[TableSize]) -> list[str]:
    """The largest tables of each file."""
    lines: list[str] = []
    for database in dict.fromkeys(table.database for table in tables):
        own = [table for table in tables if table.database == database]
        shown = ", ".join(f"{table.table} {size_words(table.bytes)}" for table in own[:TABLES_SHOWN])
        rest = sum(table.bytes for table in own[TABLES_SHOWN:])
        lines += columns([(database, shown + (f", others {size_words(rest)}" if rest else ""))], indent=" " * 11)
    return lines


def _summary(examination: Examination, *, fix: bool) -> str:
    left = [each for each in examination.findings if not each.fixed]
    counts = [
        counted(number, word)
        for word in ("error", "warning", "note")
        if (number := sum(each.severity == word for each in left))
    ]
    fixed = len(examination.findings) - len(left)
    words = ", ".join(counts) or "Nothing is wrong"
    if fixed:
        words += f"; {fixed:,} repaired"
    if not fix and (fixable := len(examination.to_fix())):
        words += f"; `reverie doctor --fix` repairs {fixable:,} of them"
    return f"{words}."


# -- what is around the home -------------------------------------------------------------------------------------------


def _settings(given: Path | None) -> tuple[Home, Config | None, str]:
    """The home, and its settings or why they cannot be read. Raises `HomeError` when there is no such home."""
    try:
        home, config = find_home(given)
    except ConfigError as error:
        return resolve_home(given), None, str(error)
    return home, config, ""


async def _surroundings(home: Home, config: Config | None) -> Surroundings:
    server = await asyncio.to_thread(find_server, home)
    if config is None:
        return Surroundings(server_url="" if server is None else server.url)
    upstream = await reach(config)
    metrics = {} if server is None else await asyncio.to_thread(read_metrics, server.url, config)
    return Surroundings("" if server is None else server.url, metrics, upstream.url or "", upstream.problem)


def read_metrics(url: str, config: Config) -> dict[str, float]:
    """What a running server counts, by name without `reverie_`; empty when it does not say. Blocks for a moment."""
    parts = urlsplit(url)
    try:
        headers = _authorization(config)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=ANSWER_S_MAX)
        try:
            connection.request("GET", "/metrics", headers=headers)
            answer = connection.getresponse()
            text = answer.read(METRICS_BYTES_MAX).decode("utf-8", "replace")
        finally:
            connection.close()
    except (OSError, http.client.HTTPException, ValueError, ConfigError):
        return {}
    return parse_metrics(text) if answer.status == http.client.OK else {}


def parse_metrics(text: str) -> dict[str, float]:
    """The figures of Prometheus' text format that have no labels."""
    found: dict[str, float] = {}
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name.startswith("reverie_") and "{" not in name:
            try:
                found[name.removeprefix("reverie_")] = float(value)
            except ValueError:
                continue
    return found


def _authorization(config: Config) -> dict[str, str]:
    gateway = config.gateway
    token = read_secret(gateway.token_env, gateway.token_file) if gateway.auth == "token" else None
    return {"Authorization": f"Bearer {token}"} if token else {}
