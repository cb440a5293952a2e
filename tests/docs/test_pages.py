"""The documentation names what exists, and what exists is documented."""

from __future__ import annotations

import ast
import re
import tomllib
from typing import TYPE_CHECKING

import pytest

import reverie
import reverie.testing
from tests.docs.generate import stale
from tests.docs.pages import PAGES, ROOT, anchors, links, name_of, read

if TYPE_CHECKING:
    from pathlib import Path

SOURCE = ROOT / "src" / "reverie"


every_page = pytest.mark.parametrize("page", PAGES, ids=name_of)


def test_generated_pages_are_fresh() -> None:
    """`make docs` would change nothing."""
    assert stale() == []


@every_page
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings that a page links to exist."""
    dead: list[str] = []
    for target in links(page.read_text(encoding="utf-8")):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        if not linked.exists() or (anchor and anchor not in anchors(linked.read_text(encoding="utf-8"))):
            dead.append(target)

    assert dead == []


@every_page
def test_settings_that_are_named_exist(page: Path) -> None:
    """A setting in code marks, such as `gateway.port`, is one."""
    named = re.findall(
        r"`(?:gateway|upstream|memory|sessions)\.[a-z_]+(?:\.[a-z_]+)*", page.read_text(encoding="utf-8")
    )
    known = {f"`{key}" for key in re.findall(r"^\| `([a-z_.]+)`", read("docs/reference/config.md"), re.MULTILINE)}

    assert [name for name in named if name not in known] == []


def test_every_route_header_and_code_is_in_the_http_reference() -> None:
    """Whoever adds one writes it down."""
    page = read("docs/reference/http.md")
    gateway = "\n".join(path.read_text(encoding="utf-8") for path in (SOURCE / "gateway").glob("*.py"))
    failures = "\n".join(read(f"src/reverie/{name}") for name in ("errors.py", "llm/upstream_failures.py"))
    routes = {route.replace(":path", "") for route in re.findall(r'Route\("([^"]+)"', gateway)} - {"/{path}"}
    codes = set(re.findall(r'code(?:: str \| None)? ?= ?"(\w+)"', gateway + failures))
    codes |= set(re.findall(r'_(?:Meaning|error)\([^)\n]*?"(\w+)"\)', failures))
    codes |= set(re.findall(r'\w+Error, \d+, "(\w+)"', gateway))
    echoed = set(re.findall(r'echo\(scope, "([a-z-]+)"', gateway))
    picked = set(re.findall(r'_pick\(headers, "([a-z-]+)"', gateway)) | set(re.findall(r'"(agent(?:-id)?)"', gateway))
    headers = {f"{prefix}-{name}" for prefix in ("x-reverie", "x-openclaw") for name in picked}

    assert (len(routes), len(picked), len(echoed)) >= (9, 7, 4)
    assert {"queue_full", "upstream_auth", "upstream_timeout", "storage_full", "unknown_url"} <= codes
    assert sorted(word for word in routes | codes | headers | echoed if f"`{word}" not in page) == []


def test_every_metric_is_documented() -> None:
    """What `/metrics` counts and times is in the how-to of running a service."""
    page = read("docs/howto/run-as-a-service.md")
    names = set(re.findall(r'"(reverie_\w+)"', read("src/reverie/gateway/metrics.py")))
    sources = "\n".join(path.read_text(encoding="utf-8") for path in SOURCE.rglob("*.py"))
    gauges = re.findall(r'Gauge\(\s*"(\w+)"', sources)

    assert len(gauges) > 20
    assert sorted(name for name in names | {f"reverie_{gauge}" for gauge in gauges} if f"`{name}" not in page) == []


def test_public_names_are_documented() -> None:
    """The library's names and the public doubles stand in a how-to."""
    page = read("docs/howto/library.md")

    assert [name for name in reverie.__all__ if not name.startswith("__") and name not in page] == []
    assert [name for name in reverie.testing.__all__ if f"`{name}`" not in page] == []


def test_every_dependency_has_its_reason() -> None:
    """What is installed, at run time and for development, stands in `docs/why.md`."""
    project = tomllib.loads(read("pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *(name for group in project["dependency-groups"].values() for name in group),
    ]
    names = [re.split(r"[^\w-]", requirement)[0] for requirement in wanted]

    assert [name for name in names if f"`{name}`" not in read("docs/why.md")] == []


def test_the_architecture_shows_the_import_contract() -> None:
    """The layers of the page are those of the linter, in their order: first the packages', then the rooms' of one."""
    contracts = tomllib.loads(read("pyproject.toml"))["tool"]["importlinter"]["contracts"]
    shown = re.findall(r"^\| (`\w+`(?: (?:\\\||:) `\w+`)*) \|", read("docs/architecture.md"), re.MULTILINE)

    expected = [layer for contract in contracts for layer in contract["layers"]]
    assert [layer.replace("`", "").replace("\\", "") for layer in shown] == expected


def test_packages_of_the_map_exist_and_say_where_to_start() -> None:
    """AGENTS.md names every package; each, and each room of one, opens with its purpose, its invariant, its start."""
    first_cells = re.findall(
        r"^\| (`.*?) \|", read("AGENTS.md").partition("## Map")[2].partition("##")[0], re.MULTILINE
    )
    named = {name for cell in first_cells for name in re.findall(r"`(\w+)/`", cell)}
    packages = {path.parent.name for path in SOURCE.glob("*/__init__.py")}
    rooms = {f"learning/{path.parent.name}" for path in (SOURCE / "learning").glob("*/__init__.py")}
    silent = [
        (package, word)
        for package in sorted((packages | rooms) - {"cli"})
        for word in ("Purpose:", "Invariant:", "Start reading")
        if word not in (SOURCE / package / "__init__.py").read_text(encoding="utf-8")
    ]

    assert named == packages
    assert silent == []


def test_the_glossary_has_the_words_of_the_map() -> None:
    """Each package's noun, and each word in bold, has an entry; the entries stand in order."""
    page = read("docs/glossary.md")
    words = re.findall(r"^\| ([a-z ]+) \|", page, re.MULTILINE)[1:]
    nouns = {
        "agent": "agent", "gateway": "gateway", "sessions": "session", "context": "context", "memory": "memory",
        "llm": "llm", "storage": "storage", "importers": "importer", "jobs": "job", "learning": "learning",
        "dreaming": "dreaming", "cli": "cli",
        "library": "library", "engines": "context engine",
        "mcp_server": "mcp server", "doctor": "doctor", "testing": "double", "app": "app", "background": "background",
            "plugins": "plugin",
    }  # fmt: skip
    first_cells = re.findall(
        r"^\| (`.*?) \|", read("AGENTS.md").partition("## Map")[2].partition("##")[0], re.MULTILINE
    )
    packages = [name for cell in first_cells for name in re.findall(r"`(\w+)(?:/|\.py)`", cell)]
    bold = {word.lower() for word in re.findall(r"\*\*([\w ]+)\*\*", page)} - {"bold"}

    assert words == sorted(words)
    assert [package for package in packages if nouns.get(package) not in words] == []
    assert [word for word in sorted(bold) if word not in words and word.removesuffix("s") not in words] == []


def test_every_test_has_its_sentence() -> None:
    """A test's docstring says what it proves."""
    silent: list[str] = []
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or not node.name.startswith("test_"):
                continue
            if not ast.get_docstring(node):
                silent.append(f"{path.name}: {node.name}")

    assert silent == []


WORKPLACE = re.compile(
    r"(?<![\w./-])/(?:home|Users|root|workspace|work|builds|runner|mnt|tmp)/\w"  # somebody's machine
    r"|index-url\s*=?\s*https?:"  # a registry, in a lock file or a command
    r"|https?://[^\s/]*(?:pypi|pythonhosted|artifactory|nexus|devpi)"
    r"|file:/{3}"
)


def committed_text() -> list[Path]:
    """The files of ours that travel with the repository."""
    patterns = ("*.md", "*.toml", "*.lock", "Makefile", ".ci/*", ".gitignore", "docs/**/*.md", "benchmarks/*.py")
    source = ("src/**/*.py", "src/**/*.sql", "src/**/*.md", "tests/**/*.py")
    return [path for pattern in (*patterns, *source) for path in ROOT.glob(pattern) if path.is_file()]


def test_nothing_of_a_workplace_is_committed() -> None:
    """No path of somebody's machine, and no registry's address."""
    found = [
        f"{name_of(path)}: {line.strip()[:100]}"
        for path in committed_text()
        for line in path.read_text(encoding="utf-8").splitlines()
        if WORKPLACE.search(line)
    ]

    assert len(committed_text()) > 100
    assert found == []
