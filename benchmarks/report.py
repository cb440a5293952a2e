"""How every benchmark says what it measured."""

from __future__ import annotations

import json
import math
import os
import platform
import resource
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a run: figures by key, the same keys for whatever it was compared with, and tables of detail."""

    name: str
    figures: Mapping[str, float]
    peers: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, "Mapping[str, float]"])
    groups: Mapping[str, Mapping[str, float]] = field(default_factory=dict[str, "Mapping[str, float]"])

    def show(self, *, as_json: bool) -> None:
        """Print it for a person, or as one JSON object."""
        if as_json:
            print(json.dumps({"name": self.name, "machine": machine(), **self._values()}))
            return
        console = Console()
        console.print(_table(f"{self.name}", {"": self.figures, **self.peers}))
        if self.groups:
            console.print(_table(f"{self.name} by group", self.groups))

    def _values(self) -> dict[str, Any]:
        values: dict[str, Any] = {"figures": _rounded(self.figures)}
        values["peers"] = {name: _rounded(figures) for name, figures in self.peers.items()}
        if self.groups:
            values["groups"] = {name: _rounded(figures) for name, figures in self.groups.items()}
        return values


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(memory / 2**30, 1),
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": platform.machine(),
    }


def quantile(values: Sequence[float], share: float) -> float:
    """The value that a share of the values does not exceed (nearest rank); 0 for none."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean; 0 for none."""
    kept = list(values)
    return sum(kept) / len(kept) if kept else 0.0


def rss_mib_max() -> float:
    """The most memory this process has had, and the largest of those it started and has seen end, in MiB."""
    own, children = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (own + children) / 1024


def process_rss_mib(pid: int) -> float:
    """The memory that a process and those it started have now, in MiB (pages they share count twice)."""
    return sum(_own_rss_mib(one) for one in _with_children(pid))


def process_cpu_s(pid: int) -> float:
    """The CPU time that a process and those it started have used, in seconds."""
    return sum(_own_cpu_s(one) for one in _with_children(pid))


def _with_children(pid: int) -> list[int]:
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            found += _with_children(int(child))
    return found


def _own_rss_mib(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def _own_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {key: round(value, 3) for key, value in figures.items()}


def _table(title: str, columns: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title=title)
    table.add_column("figure")
    for name in columns:
        table.add_column(name or "reverie", justify="right")
    for key in dict.fromkeys(key for figures in columns.values() for key in figures):
        cells = (f"{figures[key]:,.2f}" if key in figures else "" for figures in columns.values())
        table.add_row(key, *cells)
    return table
