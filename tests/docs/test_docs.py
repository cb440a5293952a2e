"""The documentation says what the code does."""

from __future__ import annotations

import ast
import asyncio
import re
from pathlib import Path

import pytest

import reverie
import reverie.testing
from reverie.gateway import ports
from tests.docs.generate import ROOT, stale

PAGES = sorted(path for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def without_fences(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", without_fences(page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_generated_pages_are_fresh() -> None:
    """`make docs` would change nothing."""
    assert stale() == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    """Files and headings that are linked exist."""
    for target in LINK.findall(without_fences(page.read_text(encoding="utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{page.name} links to {target}"


def test_every_route_header_and_code_is_in_the_http_reference() -> None:
    """Whoever adds one writes it down."""
    page = (ROOT / "docs" / "reference" / "http.md").read_text(encoding="utf-8")
    gateway = "\n".join(path.read_text(encoding="utf-8") for path in Path(ports.__file__).parent.glob("*.py"))
    errors = (ROOT / "src" / "reverie" / "errors.py").read_text(encoding="utf-8")
    routes = {re.sub(r":path", "", route) for route in re.findall(r'Route\("([^"]+)"', gateway)} - {"/{path}"}
    codes = set(re.findall(r'code ?= ?"(\w+)"', gateway + errors))
    headers = set(re.findall(r'"(x-reverie-[a-z-]*[a-z])"', gateway))
    picked = {f"x-reverie-{name}" for name in re.findall(r'_pick\(headers, "([a-z-]+)"', gateway)}

    assert [word for word in sorted(routes | codes | headers | picked) if word not in page] == []


def test_public_names_are_documented() -> None:
    """The library's names and the doubles stand in a how-to."""
    page = (ROOT / "docs" / "howto" / "library.md").read_text(encoding="utf-8")
    names = [*reverie.__all__, *reverie.testing.__all__]

    assert [n for n in names if not n.startswith("__") and n not in page and n not in {"ScriptedReply", "reply"}] == []


def test_the_library_example_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As it stands on the page, in a home of its own."""
    page = (ROOT / "docs" / "howto" / "library.md").read_text(encoding="utf-8")
    code = FENCE.findall(page)[0].replace("~/.reverie", str(tmp_path)).replace("asyncio.run(main())", "")
    names: dict[str, object] = {}
    exec(compile(code, "library.md", "exec"), names)  # noqa: S102 (our own page)
    asyncio.run(names["main"]())  # pyright: ignore[reportCallIssue, reportUnknownArgumentType, reportArgumentType, reportUnknownVariableType]

    assert "The roaster's next service is due on 14 January." in capsys.readouterr().out


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


def test_packages_of_the_map_exist_and_say_where_to_start() -> None:
    """AGENTS.md names real packages; each opens with its purpose and invariant."""
    table = re.findall(r"^\| `(\w+)/`", (ROOT / "AGENTS.md").read_text(encoding="utf-8"), re.MULTILINE)
    for package in table:
        text = (ROOT / "src" / "reverie" / package / "__init__.py").read_text(encoding="utf-8")
        for word in ("Purpose:", "Invariant:", "Start reading at"):
            assert word in text, f"{package} does not say: {word}"


def test_nothing_of_a_workplace_is_committed() -> None:
    """No machine's paths, no registry's address."""
    forbidden = re.compile(r"/(work|root|farm)/[a-z]|--index-url https?:|/tmp/(lab|spec)")
    found: list[str] = []
    for pattern in ("*.md", "*.toml", "*.lock", "Makefile", "src/**/*.py", "docs/**/*.md", "benchmarks/*.py", ".ci/*"):
        found += [str(path) for path in ROOT.glob(pattern) if forbidden.search(path.read_text(encoding="utf-8"))]

    assert found == []
