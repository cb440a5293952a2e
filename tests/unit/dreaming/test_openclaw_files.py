"""OpenClaw's files of recalls, read and written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from reverie.dreaming.entry import RecallEntry, query_hash
from reverie.dreaming.openclaw_files import (
    FILE_BYTES_MAX,
    PhaseSignal,
    file_head,
    file_tail,
    javascript_number,
    phase_lines,
    read_phase_file,
    read_recall_file,
    recall_lines,
    with_phases,
)
from reverie.errors import ImportFileError

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_775_300_000_123
GOOD: dict[str, Any] = {"path": "memory/2026-04-01.md", "startLine": 3, "endLine": 4, "source": "memory"}


def stored(path: Path, /, *values: Any, **named: Any) -> Path:
    entries = {f"k{number}": value for number, value in enumerate(values)} | named
    path.write_text(json.dumps({"version": 1, "entries": entries}), encoding="utf-8")
    return path


def only(file: Path, /, **fields: Any) -> RecallEntry:
    (entry,) = read_recall_file(stored(file, GOOD | fields), NOW).entries
    return entry


def test_what_is_missing_is_put_right(tmp_path: Path) -> None:
    """Counts are none, times are now, the key is made of the place."""
    assert only(tmp_path / "f") == RecallEntry(
        "memory:memory/2026-04-01.md:3:4", GOOD["path"], 3, 4, "", first_recalled_at_ms=NOW, last_recalled_at_ms=NOW
    )


def test_what_is_odd_is_put_right(tmp_path: Path) -> None:
    """Counts, scores, lists and paths become what they may be; unknown fields are passed over."""
    entry = only(
        tmp_path / "f",
        path=".\\memory\\2026-04-01.md",
        startLine=0,
        recallCount=2.9,
        dailyCount=-4,
        groundedCount="3",
        totalScore=-1,
        maxScore=7,
        lastRecalledAt="yesterday",
        firstRecalledAt="2026-04-04T03:00:00.250+02:00",
        queryHashes=[" a ", "a", "", 4, *[f"q{n}" for n in range(40)]],
        recallDays=["2026-04-03T10:00", "soon", "2026-04-02", "2026-04-02"],
        conceptTags=["Kiln", "kiln", *"abcdefghijk"],
        snippet=" two\n words ",
        promotedAt="some day",
        projectKey="x",
        claimHash="abc",
    )

    assert (entry.key, entry.path, entry.start_line) == (
        "memory:memory/2026-04-01.md:1:4:abc",
        "memory/2026-04-01.md",
        1,
    )
    assert (entry.recall_count, entry.daily_count, entry.grounded_count) == (2, 0, 3)
    assert (entry.total_score, entry.max_score, entry.snippet) == (0.0, 1.0, "two words")
    assert (entry.first_recalled_at_ms, entry.last_recalled_at_ms) == (1_775_264_400_250, NOW)
    assert (entry.queries[:2], len(entry.queries), entry.days) == (("a", "q0"), 32, ("2026-04-02", "2026-04-03"))
    assert (entry.tags, entry.promoted_at_ms) == (("kiln", *"abcdefg"), NOW)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("text", "not an object"),
        (GOOD | {"path": "  "}, "no path"),
        (GOOD | {"path": 7}, "no path"),
        (GOOD | {"startLine": "3"}, "a line is not an integer"),
        (GOOD | {"endLine": 3.5}, "a line is not an integer"),
        (GOOD | {"endLine": True}, "a line is not an integer"),
        (GOOD | {"source": "sessions"}, "source is not memory"),
        (GOOD | {"path": "x" * 5_000}, "key or path too long"),
    ],
)
def test_an_invalid_entry_is_left_out_with_its_reason(tmp_path: Path, value: Any, reason: str) -> None:
    """Those beside it are read."""
    read = read_recall_file(stored(tmp_path / "f", value, GOOD, value), NOW)

    assert (len(read.entries), read.invalid) == (1, {reason: 2})


def test_concepts_are_named_where_there_are_none(tmp_path: Path) -> None:
    """Those that are there stay."""
    path = stored(tmp_path / "f", GOOD | {"snippet": "Kiln"}, GOOD | {"startLine": 1, "conceptTags": ["own"]})

    read = read_recall_file(path, NOW, lambda _path, snippet: (snippet.lower(),))
    assert [entry.tags for entry in read.entries] == [("kiln",), ("own",)]


def test_queries_of_openclaws_own_passes_are_nobodys(tmp_path: Path) -> None:
    """They are told by the days of the entry; a file that names the users' queries is believed."""
    own = [query_hash(f"__dreaming_daily__:2026-04-0{day}") for day in (1, 2)]
    asked, counts = query_hash("kiln?"), {"recallCount": 1, "dailyCount": 2, "recallDays": ["2026-04-02"]}
    hashes = [*own, asked]

    assert only(tmp_path / "f", queryHashes=hashes, **counts).user_queries == (asked,)
    assert only(tmp_path / "f", queryHashes=hashes, dailyCount=3).user_queries == ()
    assert only(tmp_path / "f", queryHashes=hashes, recallCount=3).user_queries == tuple(hashes)
    assert only(tmp_path / "f", queryHashes=hashes, userQueryHashes=["z"], **counts).user_queries == ("z",)


def test_where_an_entry_comes_from(tmp_path: Path) -> None:
    """What the file says; unknown words are not trusted, nor are days of transcripts; a daily note is its owner's."""
    corpus = "memory/.dreams/session-corpus/2026-04-01.txt"
    origins = [{}, {"path": corpus}, {"provenance": {"originClass": "agent"}}, {"provenance": {"originClass": "alien"}}]

    found = [only(tmp_path / "f", **fields).provenance for fields in origins]
    assert found == ["owner", "untrusted", "agent", "untrusted"]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "is no JSON"),
        (b"[]", "is no store of OpenClaw"),
        (b'{"version": 2, "entries": {}}', "is of version 2"),
        (b'{"version": 1, "entries": []}', "`entries` are no object"),
        (b"\xff", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, data: bytes, said: str) -> None:
    """The error names the file and what to give instead."""
    path = tmp_path / "f"
    path.write_bytes(data)

    for read in (read_recall_file, read_phase_file):
        with pytest.raises(ImportFileError, match=said):
            read(path, NOW)


def test_only_a_file_of_bounded_size_is_read(tmp_path: Path) -> None:
    """A missing one and a huge one are refused; an empty one is an empty store."""
    path = tmp_path / "f"
    with pytest.raises(ImportFileError, match="cannot be read: No such file"):
        read_recall_file(path, NOW)
    path.write_text(" \n", encoding="utf-8")
    assert read_recall_file(path, NOW).entries == []
    with path.open("r+b") as file:
        file.truncate(FILE_BYTES_MAX + 1)
    with pytest.raises(ImportFileError, match="larger than 64 MiB"):
        read_recall_file(path, NOW)


def test_phase_signals(tmp_path: Path) -> None:
    """Those without hits are passed over, hits have a highest number, and each goes to its entry."""
    path = stored(
        tmp_path / "f",
        3,
        {"lightHits": 0, "remHits": 0},
        a={"key": "a", "lightHits": 20_000, "remHits": 1, "lastRemAt": "2026-04-04T03:00:00.000Z"},
        b={"lightHits": 1},
    )

    read = read_phase_file(path, NOW)
    assert read.signals == {"a": PhaseSignal(9_999, None, 1, 1_775_271_600_000), "b": PhaseSignal(light_hits=1)}
    assert read.invalid == {"not an object": 1}
    entries = [RecallEntry(key, "p", 1, 1, "") for key in ("a", "c")]
    assert with_phases(entries, read.signals) == [
        replace(entries[0], light_hits=9_999, rem_hits=1, rem_at_ms=1_775_271_600_000),
        entries[1],
    ]


def test_files_are_written_as_openclaw_writes_them() -> None:
    """Two spaces, one value a line, times with milliseconds, no field that says nothing; empty stores too."""
    entry = RecallEntry(
        "k",
        "memory/2026-04-01.md",
        1,
        2,
        'Größe "5"',
        total_score=2.0,
        max_score=0.9,
        days=("2026-04-01",),
        light_hits=1,
        light_at_ms=NOW,
        first_recalled_at_ms=NOW,
        last_recalled_at_ms=NOW,
    )

    assert recall_lines([entry], first=False) == (
        ',\n    "k": {\n      "key": "k",\n      "path": "memory/2026-04-01.md",\n      "startLine": 1,\n'
        '      "endLine": 2,\n      "source": "memory",\n      "snippet": "Größe \\"5\\"",\n'
        '      "recallCount": 0,\n      "dailyCount": 0,\n      "groundedCount": 0,\n      "totalScore": 2,\n'
        '      "maxScore": 0.9,\n      "firstRecalledAt": "2026-04-04T10:53:20.123Z",\n'
        '      "lastRecalledAt": "2026-04-04T10:53:20.123Z",\n      "queryHashes": [],\n'
        '      "recallDays": [\n        "2026-04-01"\n      ],\n      "conceptTags": []\n    }'
    )
    assert phase_lines([entry, replace(entry, light_hits=0)], first=True) == (
        '\n    "k": {\n      "key": "k",\n      "lightHits": 1,\n      "remHits": 0,\n'
        '      "lastLightAt": "2026-04-04T10:53:20.123Z"\n    }'
    )
    assert file_head(0) + file_tail(any_entries=False) == (
        '{\n  "version": 1,\n  "updatedAt": "1970-01-01T00:00:00.000Z",\n  "entries": {}\n}\n'
    )


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (0.0, "0"),
        (1.0, "1"),
        (2.35, "2.35"),
        (0.1 + 0.2, "0.30000000000000004"),
        (0.00001, "0.00001"),
        (1.5e-7, "1.5e-7"),
        (1e-6, "0.000001"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
    ],
)
def test_numbers_are_written_as_in_javascript(value: float, written: str) -> None:
    """Whole numbers without a fraction, small ones without an exponent."""
    assert javascript_number(value) == written


def test_newer_fields_are_written_where_a_reader_needs_them(tmp_path: Path) -> None:
    """What is written is read as it was."""
    plain = RecallEntry("a", "memory/2026-04-01.md", 1, 1, "s", recall_count=2, queries=("q",), user_queries=("q",))
    mixed = replace(plain, key="b", user_queries=(), provenance="untrusted")
    path = tmp_path / "f"
    path.write_text(file_head(5) + recall_lines([plain, mixed], first=True) + file_tail(any_entries=True), "utf-8")

    stored_fields = json.loads(path.read_text("utf-8"))["entries"]
    read = read_recall_file(path, NOW)
    assert (read.entries, read.updated_at_ms) == ([plain, mixed], 5)
    assert {"userQueryHashes", "provenance"} & set(stored_fields["a"]) == set()
    assert {"userQueryHashes", "provenance"} <= set(stored_fields["b"])
