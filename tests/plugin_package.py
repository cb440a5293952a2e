"""A package of somebody else's with plugins or context engines: installed by its metadata, as pip would leave it."""

from __future__ import annotations

import importlib
import itertools
import sys
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

_numbers = itertools.count(1)

HEAD = """
import asyncio, threading, time
from reverie.plugins import *

SEEN = []
"""


def on_path(monkeypatch: pytest.MonkeyPatch, site: Path) -> None:
    """Have Python look for packages in a folder, too, until the test ends."""
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    importlib.invalidate_caches()


def install(site: Path, code: str, plugins: dict[str, str], package: str = "", group: str = "reverie.plugins") -> str:
    """Install a package into a folder; `plugins` are its entry points by name. Returns the name of its module.

    The module's name is new each time, because Python keeps what it has imported.
    """
    number = next(_numbers)
    package = package or f"somebodys-plugins-{number}"
    module = f"somebodys_plugins_{number}"
    info = site / f"{package.replace('-', '_')}-1.2.dist-info"
    info.mkdir(parents=True)
    (site / f"{module}.py").write_text(HEAD + textwrap.dedent(code), encoding="utf-8")
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n", encoding="utf-8")
    lines = [f"{name} = {module}:{kind}" for name, kind in plugins.items()]
    (info / "entry_points.txt").write_text("\n".join([f"[{group}]", *lines, ""]), encoding="utf-8")
    importlib.invalidate_caches()
    return module
