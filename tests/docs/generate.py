"""Write the generated pages of `docs/reference`, or check that they are fresh.

python -m tests.docs.generate            write docs/reference/cli.md and config.md
python -m tests.docs.generate --check    exit 1 when a page differs from the code
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import typer
from typer.testing import CliRunner

from reverie.cli.main import app
from reverie.config import Config, field_range, section_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic.fields import FieldInfo

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs" / "reference"
WRITTEN = "<!-- Written by `make docs` from the code; do not edit. -->"
WIDTH = 100


def cli_page() -> str:
    """`--help` of every command."""
    sections = ["# Command line", "", WRITTEN, ""]
    for words in commands():
        shown = " ".join(["reverie", *words])
        helped = CliRunner().invoke(app, [*words, "--help"], terminal_width=WIDTH, prog_name="reverie")
        sections += [f"## {shown}", "", "```text", helped.output.rstrip(), "```", ""]
    return "\n".join(sections)


def commands() -> Iterator[list[str]]:
    """The words of every command, groups before their commands."""
    root: Any = typer.main.get_command(app)
    yield []
    for name, command in root.commands.items():
        yield [name]
        for below in getattr(command, "commands", {}):
            yield [name, below]


def config_page() -> str:
    """Every setting with its type, default, range, variable and sentence."""
    lines = ["# Settings", "", WRITTEN, ""]
    lines += [
        "Strongest first: flags of the command line, the environment, `config.toml` in the home, the defaults below.",
        "A value out of range, and a setting that does not exist, are refused at the start. `reverie config` shows",
        "what counts now and where it comes from, `reverie config set KEY VALUE` changes one.",
        "",
    ]
    for name, info in Config.model_fields.items():
        section: Any = section_of(info)
        lines += _table(name if section is info.annotation else f"{name}.NAME", section)
    return "\n".join(lines)


def _table(table: str, section: Any) -> list[str]:
    """The settings of a table, then the tables in it."""
    inner = {
        key: info.annotation for key, info in section.model_fields.items() if hasattr(info.annotation, "model_fields")
    }
    lines = [f"## [{table}]", "", section.__doc__ or "", ""]
    lines += [
        "| setting | type | default | allowed | variable | meaning |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_row(f"{table}.{key}", info) for key, info in section.model_fields.items() if key not in inner]
    lines.append("")
    for key, below in inner.items():
        lines += _table(f"{table}.{key}", below)
    return lines


def _row(key: str, setting: FieldInfo) -> str:
    variable = "REVERIE_" + key.upper().replace(".", "__")
    cells = [f"`{key}`", _type(setting), _default(setting), _allowed(key, setting), f"`{variable}`"]
    return f"| {' | '.join([*cells, setting.description or ''])} |"


def _type(setting: FieldInfo) -> str:
    """A type in a reader's words."""
    choices = get_args(setting.annotation)
    if choices and all(isinstance(choice, str) for choice in choices):
        return " or ".join(f"`{choice}`" for choice in choices)
    shapes: dict[object, str] = {dict: "table", tuple: "list"}
    shape = shapes.get(get_origin(setting.annotation))
    if shape is not None:
        return shape
    names = {int: "integer", float: "number", str: "text", bool: "`true` or `false`", Path: "path"}
    return " or ".join(names.get(kind, f"`{kind}`") for kind in _kinds(setting.annotation))


def _kinds(annotation: Any) -> list[Any]:
    """The types of an annotation and its words, without None and what is annotated."""
    if isinstance(annotation, type):
        return [] if annotation is NoneType else [annotation]
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    if get_origin(annotation) is Annotated:
        return _kinds(get_args(annotation)[0])
    return [kind for choice in get_args(annotation) for kind in _kinds(choice)]


def _default(setting: FieldInfo) -> str:
    """A default as `config.toml` would write it, without the quotes of a text."""
    value: Any = setting.get_default(call_default_factory=True)
    if value is None:
        return "unset"
    if isinstance(value, dict | tuple):
        return f"`{json.dumps(value)}`" if value else "empty"
    return (
        f"`{str(value).lower()}`"
        if isinstance(value, bool)
        else f"`{value:g}`"
        if isinstance(value, float)
        else f"`{value}`"
    )


def _allowed(key: str, setting: FieldInfo) -> str:
    """The range of a number, or the form of a text; empty when anything goes."""
    patterns = [found.pattern for found in setting.metadata if getattr(found, "pattern", None)]
    if patterns:
        return f"`{patterns[0]}`"
    return field_range(tuple(key.split("."))).replace(key, "value")


PAGES = {"cli.md": cli_page, "config.md": config_page}


def stale() -> list[str]:
    """The pages that differ from what the code says."""
    return [name for name, page in PAGES.items() if not _same(REFERENCE / name, page())]


def _same(path: Path, text: str) -> bool:
    return path.exists() and path.read_text(encoding="utf-8") == text


def main() -> int:
    """Write, or check."""
    if "--check" in sys.argv[1:]:
        found = stale()
        for name in found:
            print(f"docs/reference/{name} is stale: run `make docs`", file=sys.stderr)
        return 1 if found else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, page in PAGES.items():
        (REFERENCE / name).write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
