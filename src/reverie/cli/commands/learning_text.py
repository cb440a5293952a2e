"""What was learned, for people: rows of tables, one thing line by line, an explanation section by section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias, cast

from reverie.cli.output import bold, columns, counted, printable
from reverie.clock import iso_minute

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from reverie.learning.surfaces.ports import Kind
    from reverie.types import JsonObject

    Cell: TypeAlias = Callable[[JsonObject], str]

TITLE_CHARS = 60
LINE_CHARS = 400
LINES_SHOWN = 20
"""Rows of a section of an explanation; `--json` has all of them."""
MS_PER_S = 1_000
MINUTE_S, HOUR_S, DAY_S = 60, 3_600, 86_400
HIDDEN = frozenset({"object", "id", "has_vector", "gain_known"})


def _when(field: str) -> Cell:
    return lambda row: "" if row[field] is None else iso_minute(row[field])


def _number(field: str) -> Cell:
    return lambda row: "" if row[field] is None else f"{row[field]:.2f}"


def _words(field: str) -> Cell:
    return lambda row: _short(str(row[field] if row[field] is not None else ""))


def _count(field: str) -> Cell:
    return lambda row: f"{row[field]:,}"


def _skill_state(row: JsonObject) -> str:
    return f"{row['status']}, disabled" if row["disabled"] else row["status"]


def _episode_state(row: JsonObject) -> str:
    task = "archived" if row["archived_at_ms"] is not None else row["task_state"]
    return f"{row['state']}, provisional" if row["provisional"] else f"{row['state']}, {task}"


TABLES: dict[Kind, tuple[tuple[str, Cell], ...]] = {
    "episodes": (("id", _words("id")), ("opened (UTC)", _when("opened_at_ms")), ("state", _episode_state),
                 ("R", _number("r_human")), ("turns", _count("entries")), ("steps", _count("steps")),
                 ("opened for", _words("opened_for")), ("about", _words("title"))),
    "traces": (("id", _words("id")), ("at (UTC)", _when("at_ms")), ("V", _number("value")), ("α", _number("alpha")),
               ("priority", _number("priority")), ("where", _words("citation")), ("what", _words("summary"))),
    "policies": (("id", _words("id")), ("status", _words("status")), ("type", _words("type")),
                 ("gain", _number("gain")), ("support", _count("support")), ("title", _words("title"))),
    "world-models": (("id", _words("id")), ("status", _words("status")), ("domain", _words("domain")),
                     ("confidence", _number("confidence")), ("version", _count("version")), ("title", _words("title"))),
    "skills": (("name", _words("name")), ("status", _skill_state), ("η", _number("eta")),
               ("shown", _count("exposures")), ("used", _count("uses")), ("trials", _count("trials")),
               ("passed", _count("passes")), ("version", _count("version")), ("what for", _words("description"))),
    "feedback": (("id", _words("id")), ("at (UTC)", _when("at_ms")), ("channel", _words("channel")),
                 ("polarity", _words("polarity")), ("magnitude", _number("magnitude")), ("text", _words("text"))),
    "jobs": (("key", _words("id")), ("state", _words("state")), ("lane", _words("lane")),
             ("attempts", _count("attempts")), ("asked for (UTC)", _when("requested_at_ms")),
             ("waits for", _words("waits_for")), ("error", _words("error"))),
}  # fmt: skip


def listed_rows(kind: Kind, items: list[JsonObject]) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The heads and the rows of a table of things of a kind. Ids are never cut off."""
    table = TABLES[kind]
    rows = [
        tuple(printable(str(item["id"])) if cell_is_id(head) else cell(item) for head, cell in table) for item in items
    ]
    return tuple(head for head, _ in table), rows


def cell_is_id(head: str) -> bool:
    """Whether a column names the thing, so that it can be asked for."""
    return head in {"id", "key"}


def item_lines(item: JsonObject) -> list[str]:
    """One thing: its id, then every field that says something; long texts stand below their names."""
    short: list[tuple[str, str]] = []
    long: list[str] = []
    for name, value in item.items():
        if name in HIDDEN or value in (None, "", [], {}):
            continue
        text = _value(name, value)
        if "\n" in text or len(text) > LINE_CHARS:
            long += ["", bold(_label(name)), printable(text, lines=True)]
        else:
            short.append((_label(name), printable(text)))
    return [bold(printable(str(item["id"]))), *columns(short), *long]


def explained_lines(explained: JsonObject) -> list[str]:
    """An explanation: the thing, then what is on record around it."""
    lines = item_lines(explained["item"])
    for name, value in explained.items():
        if name in {"object", "kind", "item"} or not value:
            continue
        lines += ["", bold(_label(name)), *_section(value)]
    return lines


def _section(value: Any) -> list[str]:
    if isinstance(value, list):
        rows = cast("list[Any]", value)
        left = len(rows) - LINES_SHOWN
        return [*(f"  {_line(row)}" for row in rows[:LINES_SHOWN]), *([f"  and {left:,} more"] if left > 0 else [])]
    lines: list[str] = []
    simple: JsonObject = {}
    for name, part in cast("JsonObject", value).items():
        if isinstance(part, list) and part:
            lines += [f"  {_label(name)}:", *(f"  {line}" for line in _section(part))]
        else:
            simple[name] = part
    return [f"  {_line(simple)}", *lines]


def _line(row: Any) -> str:
    """A row in one line: its fields that say something."""
    if not isinstance(row, dict):
        return _short(str(row), LINE_CHARS)
    fields = cast("JsonObject", row)
    said = [
        f"{_label(name)} {_value(name, value)}" for name, value in fields.items() if value not in (None, "", [], {})
    ]
    return _short(", ".join(said), LINE_CHARS)


def _label(name: str) -> str:
    return name.removesuffix("_ms").replace("_", " ")


def _value(name: str, value: Any) -> str:
    """A value in words. Instants are minutes, figures have two places, lists stand in one line."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name.endswith("_ms") and isinstance(value, int):
        return f"{value:,} ms" if name in {"gap_ms", "duration_ms"} else iso_minute(value)
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list):
        return "; ".join(_value("", each) for each in cast("list[Any]", value))
    if isinstance(value, dict):
        return ", ".join(f"{_label(key)} {_value(key, each)}" for key, each in cast("JsonObject", value).items())
    return str(value)


def _short(text: str, most: int = TITLE_CHARS) -> str:
    one_line = printable(" ".join(text.split()))
    return one_line if len(one_line) <= most else f"{one_line[: most - 1]}…"


# -- status --------------------------------------------------------------------------------------------------------


def status_lines(status: JsonObject, now_ms: int) -> list[str]:
    """How learning does: what it spent, what waits, what runs, what holds it up."""
    rows = [("mode", status["mode"])]
    rows += [(f"this {span}", _spent(status["spend"][span])) for span in ("hour", "day")]
    rows += [(lane, _lane(figures, now_ms)) for lane, figures in status["lanes"].items()]
    calls = status["calls"]
    rows.append(("calls", f"{calls['in_flight']} of {calls['limit']} at the same time"))
    rows += [("runs", printable(each["id"])) for each in status["in_flight"]]
    rows += [
        ("paused", (f"{each['lane']}: {_waiting(each['jobs'])}: {printable(each['waits_for'])}, until "
                   f"{iso_minute(each['until_ms'])} UTC"))
        for each in status["paused"]
    ]  # fmt: skip
    rows += [
        ("not asked", (f"{printable(each['provider'])} until {iso_minute(each['until_ms'])} UTC: "
                      f"{printable(each['reason'])}"))
        for each in status["providers"]
    ]  # fmt: skip
    rows += _unusable(status["answers"])
    rows.append(("learned", ", ".join(f"{_label(name)} {total:,}" for name, total in status["counts"].items())))
    kinds: list[JsonObject] = status["spend"]["day"]["kinds"]
    table = [(each["kind"], counted(each["calls"], "call"), f"{each['tokens']:,} tokens") for each in kinds]
    return [*columns(rows, indent=""), *(["", bold("today"), *columns(table)] if table else [])]


def _waiting(jobs: int) -> str:
    return f"{counted(jobs, 'job')} {'waits' if jobs == 1 else 'wait'}"


def _unusable(answers: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is told of answers that were of no use; nothing when all were."""
    last = answers["last"]
    if last is None:
        return []
    told = f"{answers['unusable']:,} of {counted(answers['today'], 'answer')} today; the last, to {last['op']}"
    return [("of no use", f"{told}: {_short(last['wrong'])}")]


def _spent(spent: Mapping[str, Any]) -> str:
    limits = spent["limits"]
    text = f"{spent['calls']:,} of {limits['calls']:,} calls, {spent['tokens']:,} of {limits['tokens']:,} tokens"
    if limits["money"] is not None:
        return f"{text}, {spent['money']:.2f} of {limits['money']:.2f} money"
    return f"{text}, {spent['money']:.2f} money" if spent["money"] else text


def _lane(figures: Mapping[str, Any], now_ms: int) -> str:
    text = f"{figures['waiting']:,} wait, {figures['running']:,} run, {figures['dead']:,} dead"
    if figures["oldest_s"]:
        return f"{text}; due for {_span(figures['oldest_s'])}"
    if figures["next_at_ms"] is not None:
        return f"{text}; the next in {_span((figures['next_at_ms'] - now_ms) / MS_PER_S)}"
    return text


def _span(seconds: float) -> str:
    for length, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
