"""Run the benchmarks and write `docs/benchmarks.md`.

    python -m benchmarks [--turn FILE …] [--session FILE …] [--kept DIR]

Most need no data. Each FILE is measured by `benchmarks.retrieval`, at the level it is given for, and those for turns by
`benchmarks.dream_weeks` too. With `--kept` every
outcome is written to a folder, and what is there already is not measured again, so that a long run can be continued.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def measured(kept: Path | None, module: str, *arguments: str) -> dict[str, Any]:
    """One benchmark's JSON, run as a person would, or kept from before."""
    name = "-".join([module, *(Path(word).name.lstrip("-") for word in arguments)])
    file = None if kept is None else kept / f"{name}.json"
    if file is not None and file.exists():
        return json.loads(file.read_text(encoding="utf-8"))
    report = _run(module, *arguments)
    if file is not None:
        file.write_text(json.dumps(report), encoding="utf-8")
    return report


def _run(module: str, *arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments, "--json"]
    print("running", " ".join(command[1:]), file=sys.stderr)
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return json.loads(printed.splitlines()[-1])


def section(command: str, report: dict[str, Any]) -> str:
    """A report as a table: a row a figure, a column each for Reverie and what it was compared with."""
    columns = {"reverie": report["figures"], **report.get("peers", {}), **report.get("groups", {})}
    keys = list(dict.fromkeys(key for figures in columns.values() for key in figures))
    lines = [f"## {report['name']}", "", f"`{command}`", ""]
    lines += [f"| figure | {' | '.join(columns)} |", f"| --- |{' ---: |' * len(columns)}"]
    for key in keys:
        cells = (f"{figures[key]:,.2f}" if key in figures else "" for figures in columns.values())
        lines.append(f"| {key} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def main() -> None:
    """Run them all, one after the other, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--turn", type=Path, action="append", default=[], help="a file to measure at turn level")
    parser.add_argument("--session", type=Path, action="append", default=[], help="a file for session level")
    parser.add_argument("--kept", type=Path, help="a folder for the outcomes")
    arguments = parser.parse_args()
    if arguments.kept is not None:
        arguments.kept.mkdir(parents=True, exist_ok=True)
    runs: list[tuple[str, tuple[str, ...]]] = [
        ("gateway", ()),
        ("busy", ()),
        ("dreaming", ()),
        ("threads", ()),
        ("storm", ()),
        ("search", ("--peers",)),
        ("learned_recall", ()),
        ("index", ("--storm", "--embedder", "none")),
        ("seed", ("--rows", "435266")),
    ]
    runs += [("retrieval", (str(file), "--level", "turn")) for file in arguments.turn]
    runs += [("retrieval", (str(file), "--level", "session")) for file in arguments.session]
    runs += [("dream_weeks", (str(file),)) for file in arguments.turn]
    reports = [(module, given, measured(arguments.kept, module, *given)) for module, given in runs]
    machine = ", ".join(f"{key} {value}" for key, value in reports[0][2]["machine"].items())
    when = f"{datetime.now(UTC):%Y-%m-%d}"
    note = "Written by `make bench`; ratios within one table are sound, absolute times depend on the machine."
    head = ["# Benchmarks", "", f"Measured on {when}; {machine}. {note}", ""]
    sections: list[str] = []
    for module, given, report in reports:
        shown = " ".join(Path(word).name if "/" in word else word for word in given)
        sections.append(section(f"python -m benchmarks.{module} {shown}".strip(), report))
    PAGE.write_text("\n".join([*head, *sections]), encoding="utf-8")
    print(f"wrote {PAGE.name}")


if __name__ == "__main__":
    main()
