"""A MemOS plugin's database as a source: known tables, read a page at a time in the order of their keys.

A column that a version does not have reads as NULL, and so does a value of another kind than its column's. A text
beyond the bound is cut, JSON and vectors beyond it are left in the file, so that no row is larger than a few hundred
kilobytes. Texts are read as bytes: those that are no text have the replacement character where they are none.

A row is found by its key, byte for byte. One that has no usable key cannot be gone on after: it is counted instead.
Everything here blocks.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from reverie.errors import ImportFileError
from reverie.importers.foreign_database import ForeignDatabase
from reverie.memory.text import clean
from reverie.storage.schema import load_queries

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from reverie.types import JsonObject

TEXT_CHARS_MAX = 16_000
JSON_CHARS_MAX = 128_000
BLOB_BYTES_MAX = 64 * 1024
"""A vector of 16,384 numbers."""
KEY_BYTES_MAX = 1_000
ROWS_AT_ONCE = 100
CHAR_BYTES_MAX = 4

Shape = Literal["text", "json", "number", "blob"]
TableName = Literal[
    "sessions",
    "episodes",
    "traces",
    "policies",
    "trace_policy_links",
    "l2_candidate_pool",
    "world_model",
    "skills",
    "feedback",
    "decision_repairs",
]


@dataclass(frozen=True, slots=True)
class SourceTable:
    """A table as it is read: its columns with their shapes, and the key of a row with what stands before all."""

    name: TableName
    columns: dict[str, Shape]
    keys: dict[str, str | int]


def _table(
    name: TableName,
    *,
    text: str = "",
    parsed: str = "",
    number: str = "",
    blob: str = "",
    keys: dict[str, str | int] | None = None,
) -> SourceTable:
    """A table from the names of its columns, shape by shape."""
    shapes: tuple[tuple[Shape, str], ...] = (("text", text), ("json", parsed), ("number", number), ("blob", blob))
    columns: dict[str, Shape] = {column: shape for shape, names in shapes for column in names.split()}
    return SourceTable(name, columns, keys or {"id": ""})


TABLES: tuple[SourceTable, ...] = (
    _table("sessions", text="id agent", number="started_at last_seen_at"),
    _table("episodes", text="id session_id status", parsed="meta_json", number="started_at ended_at r_task"),
    _table(
        "traces",
        text="id episode_id session_id user_text agent_text summary reflection agent_thinking",
        parsed="tool_calls_json tags_json error_signatures_json",
        number="ts value alpha r_human priority",
        blob="vec_summary vec_action",
        keys={"session_id": "", "ts": -(2**63), "id": ""},
    ),
    _table(
        "policies",
        text="id title trigger procedure verification boundary status experience_type evidence_polarity induced_by",
        parsed="source_episodes_json source_feedback_ids_json source_trace_ids_json decision_guidance_json "
        "verifier_meta_json",
        number="support gain salience confidence skill_eligible created_at updated_at edited_at",
        blob="vec",
    ),
    _table(
        "trace_policy_links",
        text="trace_id policy_id",
        number="created_at",
        keys={"trace_id": "", "policy_id": ""},
    ),
    _table(
        "l2_candidate_pool",
        text="id policy_id signature",
        parsed="evidence_trace_ids_json",
        number="similarity expires_at",
    ),
    _table(
        "world_model",
        text="id title body status induced_by",
        parsed="policy_ids_json structure_json domain_tags_json source_episodes_json",
        number="confidence version created_at updated_at edited_at archived_at",
        blob="vec",
    ),
    _table(
        "skills",
        text="id name status invocation_guide induced_by",
        parsed="procedure_json source_policies_json source_world_json evidence_anchors_json",
        number="eta support gain trials_attempted trials_passed version usage_count last_used_at created_at updated_at "
        "edited_at",
        blob="vec",
    ),
    _table(
        "feedback",
        text="id episode_id trace_id channel polarity rationale",
        parsed="raw_json",
        number="ts magnitude",
    ),
    _table(
        "decision_repairs",
        text="id context_hash preference anti_pattern",
        parsed="high_value_traces_json low_value_traces_json",
        number="ts validated",
    ),
)
"""What is read, in the order in which it is: what a row names stands before it."""
NEEDED = ("sessions", "episodes", "traces")
"""Without these it is no such database."""

_BOUNDED: dict[Shape, str] = {
    "text": f"""iif(typeof("{{0}}") = 'text', substr(CAST("{{0}}" AS BLOB), 1, {CHAR_BYTES_MAX * TEXT_CHARS_MAX}), NULL)
        AS "{{0}}\"""",
    "json": f"""iif(typeof("{{0}}") = 'text' AND length(CAST("{{0}}" AS BLOB)) <= {CHAR_BYTES_MAX * JSON_CHARS_MAX},
        CAST("{{0}}" AS BLOB), NULL) AS "{{0}}\"""",
    "number": """iif(typeof("{0}") IN ('integer', 'real'), "{0}", NULL) AS "{0}\"""",
    "blob": f"""iif(typeof("{{0}}") = 'blob' AND length("{{0}}") <= {BLOB_BYTES_MAX}, "{{0}}", NULL) AS "{{0}}\"""",
}
_USABLE: dict[Shape, str] = {
    "text": f"""typeof("{{0}}") = 'text' AND length(CAST("{{0}}" AS BLOB)) BETWEEN 1 AND {KEY_BYTES_MAX}""",
    "number": """typeof("{0}") IN ('integer', 'real')""",
}
"""What a part of a key must be, so that rows are read on after it."""
_ENCODINGS = {"UTF-8": "utf-8", "UTF-16le": "utf-16-le", "UTF-16be": "utf-16-be"}


@dataclass(frozen=True, slots=True)
class Page:
    """Rows in the order of their keys, and the key of the last one, after which the next page begins.

    In a row a part of the key is None where its text could not be stored as it is. `after` has texts as hex digits.
    """

    rows: list[JsonObject]
    after: list[str | int | float]


class MemosDatabase(ForeignDatabase):
    """One open database. Use it as a context.

    Raises, from every method:
        ImportFileError: it is not such a database, is damaged, or cannot be read without changing it.
    """

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise ImportFileError(f"{path} is not a file: name the plugin's SQLite database, such as memos.db")
        super().__init__(path, load_queries("memos"), "the MemOS plugin")
        self._names = {row[0] for row in self.run("list_tables")}
        self._encoding = _ENCODINGS[self.value("text_encoding")]
        missing = [name for name in NEEDED if name not in self._names]
        if missing:
            self.close()
            raise ImportFileError(f"{self.path} is no database of a MemOS plugin: it has no table {missing[0]!r}")

    def fingerprint(self) -> str:
        """What tells this state of the source from another."""
        return json.dumps([str(self.path), *self.states()])

    def count(self, table: SourceTable) -> int:
        """How many rows a table has; 0 for one that this version does not have."""
        return int(self.value("count_rows", table.name)) if table.name in self._names else 0

    def count_without_key(self, table: SourceTable) -> int:
        """How many rows no page has, because their key is missing, of another kind than it should be, or too long.

        Raises:
            ImportFileError: the table lacks its key, or cannot be read.
        """
        if table.name not in self._names:
            return 0
        self._columns(table)
        sql = self._queries["count_without_key"].replace("SOURCE", f'"{table.name}"')
        return next(int(row[0]) for row in self.run_sql(sql.replace("USABLE", _usable(table)), {}))

    def page(self, table: SourceTable, after: Sequence[str | int | float], limit: int = ROWS_AT_ONCE) -> Page:
        """Up to `limit` rows after a key, in order; after nothing when it is empty.

        Raises:
            ImportFileError: the table lacks its key, does not come in the order of it, or cannot be read.
        """
        if table.name not in self._names:
            return Page([], list(after))
        there = self._columns(table)
        start = list(after) or list(table.keys.values())
        marks = {f"key{number}": value for number, value in enumerate(start)}
        place = {name: bytes.fromhex(value) if isinstance(value, str) else value for name, value in marks.items()}
        sql = (
            self._queries["read_page"]
            .replace("SOURCE", f'"{table.name}"')
            .replace("COLUMNS", ", ".join(_selected(name, shape, there) for name, shape in table.columns.items()))
            .replace("KEYS", ", ".join(f'"{name}"' for name in table.keys))
            .replace("PLACE", ", ".join(_asked(name, value) for name, value in marks.items()))
            .replace("USABLE", _usable(table))
        )
        names = tuple(table.columns)
        found = [dict(zip(names, row, strict=True)) for row in self.run_sql(sql, {**place, "limit": limit})]
        if not found:
            return Page([], list(after))
        reached = [_place(found[-1][name]) for name in table.keys]
        if reached == start:
            message = f"{self.path} has a table {table.name!r} that comes out of order"
            raise ImportFileError(f"{message}: import a copy of it that was made with .dump")
        return Page([self._read(table, row) for row in found], reached)

    def _columns(self, table: SourceTable) -> set[Any]:
        there = {row[0] for row in self.run("list_columns", source=table.name)}
        if not there.issuperset(table.keys):
            raise ImportFileError(f"{self.path} has a table {table.name!r} without {', '.join(table.keys)}")
        return there

    def _read(self, table: SourceTable, row: JsonObject) -> JsonObject:
        """A row with its texts decoded."""
        read: JsonObject = {}
        for name, shape in table.columns.items():
            value = row[name]
            if name in table.keys:
                read[name] = _exactly(value, self._encoding) if isinstance(value, bytes) else value
            elif shape == "text" and value is not None:
                read[name] = value.decode(self._encoding, "replace")[:TEXT_CHARS_MAX]
            elif shape == "json" and value is not None:
                text = value.decode(self._encoding, "replace")
                read[name] = text if len(text) <= JSON_CHARS_MAX else None
            else:
                read[name] = value
        return read


def _selected(name: str, shape: Shape, there: set[Any]) -> str:
    return _BOUNDED[shape].format(name) if name in there else f'NULL AS "{name}"'


def _usable(table: SourceTable) -> str:
    return " AND ".join(_USABLE[table.columns[name]].format(name) for name in table.keys)


def _asked(name: str, value: str | float) -> str:
    """A part of the place, as a text of the same bytes where it is one."""
    return f"CAST(:{name} AS TEXT)" if isinstance(value, str) else f":{name}"


def _place(value: Any) -> str | int | float:
    """A part of a key as it is kept with the import."""
    return value.hex() if isinstance(value, bytes) else value


def _exactly(key: bytes, encoding: str) -> str | None:
    """A key that can be stored as it is; None for any other."""
    try:
        text = key.decode(encoding)
    except UnicodeDecodeError:
        return None
    return text if clean(text) == text else None
