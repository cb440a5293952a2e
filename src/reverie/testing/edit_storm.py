"""Thousands of notes, changed at random but always the same way, and what an index holds of them.

`write_notes` fills a workspace, `EditStorm` then edits, touches, renames, deletes and creates files in it. Whoever
indexes the workspace meanwhile is right when `indexed_files` equals that of an index made from the same files anew.
"""

from __future__ import annotations

import os
import random
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import apsw

if TYPE_CHECKING:
    from pathlib import Path

FILES_PER_FOLDER = 200
NOTE_BYTES_MIN = 2_000
NOTE_BYTES_MAX = 6_000
_EVERYDAY = """
account apple arrival autumn baker basket battery bearing bicycle blanket boiler bottle branch bridge button cabin
candle carpet ceiling cellar cherry circle clinic coffee corner cotton curtain dentist desk dinner drawer engine evening
factory feather ferry filter finger flour forest garden garlic glass grain hammer harbour helmet hinge holiday honey
island jacket journey kettle kitchen ladder lantern leather lemon letter library lock machine market meadow mirror
morning motor mountain needle neighbour notebook office onion orchard oven painter paper parcel pepper piano pillow
pocket potato printer radio river roaster roof saddle sailor salad scarf school screw season shadow shelf silver soap
spoon spring station stove summer table teacher theatre ticket tomato tower train tunnel valley village violin wagon
walnut water wheel window winter wood workshop yard bought borrowed carried cleaned closed counted delivered described
fixed found gave greased heard kept left measured moved opened ordered painted planned promised put repaired replaced
returned saw sold sorted started stopped took told visited washed watched weighed wrote
"""
_WORDS = tuple(_EVERYDAY.split())
_VOCABULARY = _WORDS * 30 + tuple(first + second for first in _WORDS[:60] for second in _WORDS[60:])
"""As in real notes, few words are in most sentences and many in few."""

_HEADING_SHARE, _LIST_SHARE, _IN_PLACE_SHARE = 0.12, 0.23, 0.5


def note_text(choose: random.Random, size: int) -> str:
    """A note of about `size` bytes: headings, paragraphs and lists, with a word in it that no other note has."""
    parts = [f"# {choose.choice(_WORDS).title()} {choose.getrandbits(48):012x}"]
    length = 0
    while length < size:
        parts.append(_paragraph(choose))
        length += len(parts[-1])
    return "\n\n".join(parts) + "\n"


def _paragraph(choose: random.Random) -> str:
    kind = choose.random()
    if kind < _HEADING_SHARE:
        return f"## {' '.join(choose.choices(_WORDS, k=3)).capitalize()}"
    if kind < _HEADING_SHARE + _LIST_SHARE:
        return "\n".join(f"- {_sentence(choose)}" for _ in range(choose.randrange(2, 6)))
    return " ".join(_sentence(choose) for _ in range(choose.randrange(1, 5)))


def _sentence(choose: random.Random) -> str:
    return (
        f"{' '.join(choose.choices(_VOCABULARY, k=choose.randrange(7, 16))).capitalize()} {choose.randrange(10_000)}."
    )


def write_notes(
    workspace: Path, count: int, *, seed: int, size_min: int = NOTE_BYTES_MIN, size_max: int = NOTE_BYTES_MAX
) -> list[str]:
    """Write `count` notes below `memory/`, a fifth of them named by a day; returns their paths."""
    choose = random.Random(seed)  # noqa: S311 (seeded on purpose)
    paths: list[str] = []
    for number in range(count):
        name = f"2026-{number % 12 + 1:02}-{number % 28 + 1:02}-{number}" if number % 5 == 0 else f"note-{number}"
        path = f"memory/folder-{number // FILES_PER_FOLDER}/{name}.md"
        _write(workspace / path, note_text(choose, choose.randrange(size_min, size_max)))
        paths.append(path)
    return paths


class EditStorm:
    """Random changes to the notes of a workspace. The same seed and paths make the same changes."""

    def __init__(self, workspace: Path, paths: list[str], *, seed: int) -> None:
        self._workspace = workspace
        self._paths = list(paths)
        self._choose = random.Random(seed)  # noqa: S311 (seeded on purpose)
        self._made = 0
        self.counts: dict[str, int] = {}

    def change(self) -> None:
        """One change: half of them edit a file, the others touch, rename, delete or create one, or move a folder."""
        kinds = ("edited", "touched", "renamed", "deleted", "created", "folder moved")
        [kind] = self._choose.choices(kinds, weights=(500, 150, 120, 110, 119, 1))
        self.counts[kind] = self.counts.get(kind, 0) + 1
        match kind:
            case "edited":
                self._edit(self._workspace / self._choose.choice(self._paths))
            case "touched":
                os.utime(self._workspace / self._choose.choice(self._paths))
            case "renamed":
                self._rename()
            case "deleted":
                (self._workspace / self._taken()).unlink()
            case "created":
                path = self._new_path()
                _write(self._workspace / path, note_text(self._choose, 1_000))
                self._paths.append(path)
            case _:
                self._move_folder()

    def _edit(self, file: Path) -> None:
        """Replace one paragraph, or add one; half of the edits write in place, half as an editor that renames."""
        parts = file.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
        at = self._choose.randrange(1, len(parts) + 1)
        parts[at : at + 1] = [_paragraph(self._choose)]
        text = "\n\n".join(parts) + "\n"
        if self._choose.random() < _IN_PLACE_SHARE:
            file.write_text(text, encoding="utf-8")
            return
        beside = file.with_name(f".{file.name}.swp")
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)

    def _rename(self) -> None:
        old, new = self._taken(), self._new_path()
        (self._workspace / new).parent.mkdir(parents=True, exist_ok=True)
        (self._workspace / old).rename(self._workspace / new)
        self._paths.append(new)

    def _move_folder(self) -> None:
        old = self._choose.choice(self._paths).rpartition("/")[0]
        new = f"memory/moved-{self._made}"
        self._made += 1
        (self._workspace / old).rename(self._workspace / new)
        self._paths = [f"{new}/{p.rpartition('/')[2]}" if p.rpartition("/")[0] == old else p for p in self._paths]

    def _taken(self) -> str:
        """A path that is given up; the last one takes its place, so that nothing is moved up."""
        at = self._choose.randrange(len(self._paths))
        self._paths[at], self._paths[-1] = self._paths[-1], self._paths[at]
        return self._paths.pop()

    def _new_path(self) -> str:
        self._made += 1
        return f"memory/new-{self._made // FILES_PER_FOLDER}/made-{self._made}.md"


class IndexedFile(NamedTuple):
    """What an index holds of a file: the hash of its content, and hash and lines of its chunks in reading order."""

    content_hash: bytes
    chunks: tuple[tuple[bytes, int, int, int, int], ...]


def indexed_files(index_db: Path, agent: str = "main") -> dict[str, IndexedFile]:
    """Every file in an index.db, by path. Reads the whole index: for tests and benchmarks."""
    files = (
        "SELECT d.id, d.path, d.content_hash FROM documents d JOIN agents a ON a.id = d.agent_id "
        "WHERE a.name = ? AND d.source = 'memory'"
    )
    chunks = (
        "SELECT content_hash, start_line, end_line, unit, part FROM chunks WHERE document_id = ? ORDER BY unit, part"
    )
    with closing(apsw.Connection(str(index_db), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5_000)
        return {
            path: IndexedFile(content_hash, tuple(connection.execute(chunks, (document_id,))))
            for document_id, path, content_hash in connection.execute(files, (agent,))
        }


def damage(index_db: Path) -> list[str]:
    """What is wrong inside an index.db, by SQLite's own check and by counting; empty when nothing is."""
    with closing(apsw.Connection(str(index_db), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5_000)
        found = [str(row[0]) for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        found += [f"foreign key: {row}" for row in connection.execute("PRAGMA foreign_key_check")]
        for what, sql in (
            ("chunks without words", "SELECT count(*) FROM chunks WHERE id NOT IN (SELECT id FROM chunks_fts_docsize)"),
            ("words without chunk", "SELECT count(*) FROM chunks_fts_docsize WHERE id NOT IN (SELECT id FROM chunks)"),
        ):
            if count := connection.execute(sql).get:
                found.append(f"{count} {what}")
        return found


def indexed_times(index_db: Path, agent: str = "main") -> dict[str, int]:
    """The modification time of every file in an index.db as it was last read, in nanoseconds, by path."""
    sql = (
        "SELECT d.path, d.mtime_ns FROM documents d JOIN agents a ON a.id = d.agent_id "
        "WHERE a.name = ? AND d.source = 'memory'"
    )
    with closing(apsw.Connection(str(index_db), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
        connection.set_busy_timeout(5_000)
        return dict(connection.execute(sql, (agent,)))


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
