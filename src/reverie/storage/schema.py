"""Which databases exist, where their SQL lives, and what a person can do when one is damaged."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_MIGRATION_NAME = re.compile(r"^(\d{4})_[a-z0-9_]+\.sql$")
_QUERY_HEAD = re.compile(r"^-- name: (\w+)\s*$")


@dataclass(frozen=True, slots=True)
class Migration:
    """One forward step of a schema: `0001_initial.sql` is version 1."""

    version: int
    name: str
    sql: str
    checksum: str


@dataclass(frozen=True, slots=True)
class Schema:
    """A database file's identity: its name, its SQL, and the remedy printed when it is damaged.

    `application_id` is written into the file's header, so that a file of something else is recognised and refused.
    `page_bytes` is the size of a page in a file that is made anew; one that exists keeps its own.
    """

    name: str
    application_id: int
    remedy: str
    durable: bool
    page_bytes: int = 4_096

    def migrations(self) -> tuple[Migration, ...]:
        """The steps from an empty file to today's schema, in order."""
        return _load_migrations(self.name)

    def queries(self) -> dict[str, str]:
        """The named queries of this database."""
        return load_queries(self.name)


STATE = Schema(
    name="state",
    application_id=0x52565331,
    remedy="It is the record of your conversations: restore it from a backup, or move it away to start empty.",
    durable=True,
)
INDEX = Schema(
    name="index",
    application_id=0x52564931,
    remedy="It is derived: move or delete it, and the next start rebuilds it from your files and conversations.",
    durable=False,
)
EMBEDDINGS = Schema(
    name="embeddings",
    application_id=0x52564531,
    remedy="It is a cache: move or delete it, and texts are embedded again as they are needed.",
    durable=False,
    page_bytes=32_768,  # several vectors fit a page: 512 numbers would fill half of a small one, and waste the rest
)


def _sqlite_folder() -> Traversable:
    return files("reverie.storage").joinpath("sqlite")


@cache
def _load_migrations(database: str) -> tuple[Migration, ...]:
    found: list[Migration] = []
    for entry in _sqlite_folder().joinpath("migrations", database).iterdir():
        match = _MIGRATION_NAME.match(entry.name)
        if match is None:
            continue
        sql = entry.read_text(encoding="utf-8")
        checksum = hashlib.sha256(sql.encode()).hexdigest()
        found.append(Migration(version=int(match[1]), name=entry.name, sql=sql, checksum=checksum))
    found.sort(key=lambda migration: migration.version)
    expected = list(range(1, len(found) + 1))
    assert [m.version for m in found] == expected, f"migrations of {database} must be numbered 1..n without gaps"
    return tuple(found)


@cache
def load_queries(name: str) -> dict[str, str]:
    """Parse `queries/<name>.sql` and its parts `queries/<name>_<part>.sql`.

    Each query starts with `-- name: find_session`, then a `--` description line; no two have one name.
    """
    folder = _sqlite_folder().joinpath("queries")
    parts = sorted(entry.name for entry in folder.iterdir() if re.fullmatch(rf"{name}(_\w+)?\.sql", entry.name))
    return parse_queries("\n".join(folder.joinpath(part).read_text(encoding="utf-8") for part in parts))


def parse_queries(text: str) -> dict[str, str]:
    """Split a `.sql` file into its named queries; a name that stands twice is a programming error."""
    queries: dict[str, list[str]] = {}
    current: list[str] | None = None
    for line in text.splitlines():
        head = _QUERY_HEAD.match(line)
        if head is not None:
            assert head[1] not in queries, f"query {head[1]} is defined twice"
            current = queries.setdefault(head[1], [])
        elif current is not None and not line.startswith("--"):
            current.append(line)
    return {name: "\n".join(lines).strip() for name, lines in queries.items()}
