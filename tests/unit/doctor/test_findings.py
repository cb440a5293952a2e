"""The doctor's decisions on values alone: what a set of facts comes to, and what a repair is believed to have done."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from reverie.cli.commands.doctor import TITLES, as_lines, as_object, parse_metrics
from reverie.config import Home
from reverie.doctor import Examination, Finding, TableSize, run
from reverie.doctor.cache import coverage_finding, held_finding, hit_rate_finding, unused_spaces
from reverie.doctor.databases import wal_size
from reverie.doctor.finding import GROUPS, examples, merged, size_words, spread
from reverie.doctor.home import permission_finding, room_finding, server_finding, watch_finding
from reverie.doctor.index_rows import KINDS, row_finding
from reverie.doctor.leftovers import stale_finding
from reverie.doctor.on_disk import Compared, file_findings, position_finding
from reverie.doctor.reading import LookedAt
from reverie.doctor.run import in_use
from reverie.doctor.state_rows import sequence_findings, turn_findings
from reverie.doctor.vectors import vector_findings
from reverie.llm.embeddings import EmbedderIdentity
from reverie.storage import INDEX

if TYPE_CHECKING:
    from collections.abc import Sequence

MIB = 1024 * 1024
IDENTITY = EmbedderIdentity("fake", "bag", "1", 64)


def told(findings: Sequence[Finding]) -> list[tuple[str, str, bool]]:
    """Severity, check and whether `--fix` helps."""
    return [(each.severity, each.check, each.fixable) for each in findings]


def test_every_finding_has_its_place() -> None:
    """The groups of all findings are known: what a repair leaves is told in their order."""
    source = Path(run.__file__ or "").parent
    texts = [path.read_text(encoding="utf-8") for path in source.glob("*.py")]
    found = {group for text in texts for group in re.findall(r'"(?:ok|note|warning|error)",\s+"(\w+)\.\w+"', text)}

    assert len(found) > 8
    assert found - set(GROUPS) == set()
    assert set(GROUPS) <= set(TITLES)


class TestRepairs:
    def test_what_is_gone_was_fixed(self) -> None:
        """A finding that the second look does not have is fixed; one that it has stays as the second look tells it."""
        gone = Finding("error", "index.tally", "wrong", fixable=True)
        stays = Finding("warning", "files.missing", "2 files", fixable=True)
        after = Examination(
            (Finding("ok", "home.room", "room"), Finding("warning", "files.missing", "1 file", fixable=True)), ()
        )

        result = merged([stays, gone], after)

        assert [(each.check, each.what, each.fixed) for each in result.findings] == [
            ("home.room", "room", False),
            ("index.tally", "wrong", True),
            ("files.missing", "1 file", False),
        ]
        assert result.ok

    def test_an_error_that_stays(self) -> None:
        """As long as one error was not repaired, the home is not well."""
        stays = Finding("error", "index.tally", "wrong", fixable=True)

        assert not merged([stays], Examination((stays,), ())).ok

    def test_in_use(self) -> None:
        """When the home is not ours, it is said what would have been done, each thing once."""
        todo = Examination(tuple(Finding("warning", f"files.{word}", "", fixable=True) for word in ("a", "a", "b")), ())

        assert in_use("process 7 has it", todo).what == "nothing was repaired; --fix would see to files.a, files.b"

    def test_every_kind_of_row_has_cause_and_remedy(self) -> None:
        """Each kind of damaged row says what, why and what to do, in words that fit a count."""
        for name in KINDS:
            found = row_finding(name, 3, 17)
            assert found.what.startswith("3 ")
            assert found.what.endswith("(the first: 17)")
            assert found.cause
            assert found.remedy


class TestWords:
    def test_examples(self) -> None:
        """At most five are named, the others counted."""
        assert examples(["a", "b"], 2) == "a, b"
        assert examples(list("abcdefg"), 1_234) == "a, b, c, d, e and 1,229 more"

    @pytest.mark.parametrize(
        ("size", "words"), [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (3 * 1024**3, "3.0 GiB")]
    )
    def test_sizes(self, size: int, words: str) -> None:
        """Sizes are told in the largest unit that fits."""
        assert size_words(size) == words

    def test_spread(self) -> None:
        """A sample is taken evenly over all numbers; of few rows each is taken."""
        assert spread(3, 400) == [1, 2, 3]
        assert spread(0, 400) == []
        assert spread(1_000_000, 4) == [1, 250_001, 500_001, 750_001]


class TestCache:
    def test_hit_rate(self) -> None:
        """The hit rate is the running server's; without one there is none, and before the first question neither."""
        counts = {"embedding_cache_hits": 30.0, "embedding_cache_misses": 10.0}

        assert hit_rate_finding(counts, served=True).what == "75% of 40 texts were there since the server's start"
        assert "no server runs" in hit_rate_finding({}, served=False).what
        assert "does not tell" in hit_rate_finding({}, served=True).what
        assert "nothing was asked" in hit_rate_finding(dict.fromkeys(counts, 0.0), served=True).what

    def test_coverage(self) -> None:
        """Below nine tenths a rebuild would embed again, which is worth a note."""
        assert coverage_finding(90, 100).severity == "ok"
        assert coverage_finding(89, 100).severity == "note"

    def test_bounds(self) -> None:
        """What is over a bound is a note: it gives way by itself."""
        spaces = [{"identity": IDENTITY.key, "dims": 64, "entries": 10}]

        assert held_finding(spaces, 10, 2560).severity == "ok"
        assert held_finding(spaces, 9, 2560).check == "cache.over_bounds"
        assert held_finding(spaces, 10, 2559).check == "cache.over_bounds"

    def test_unused(self) -> None:
        """An embedder that has not told its size is known by the rest of its name; an empty space is nobody's."""
        spaces = [{"identity": "openai/m/1/1536/unit", "dims": 1536, "entries": 1},
                  {"identity": "old/m/1/8/unit", "dims": 8, "entries": 0}]  # fmt: skip

        assert unused_spaces(spaces, EmbedderIdentity("openai", "m", "1", 0)) == []
        assert told(unused_spaces(spaces, IDENTITY)) == [("note", "cache.unused", False)]
        assert told(unused_spaces(spaces, None)) == [("note", "cache.unused", False)]


class TestVectors:
    @pytest.mark.parametrize(
        ("built_with", "waiting", "served", "free", "expected"),
        [
            (IDENTITY.key, 0, False, True, ("ok", "vectors.complete", False)),
            ("other/m/1/8/unit", 0, False, True, ("warning", "vectors.paused", False)),
            (IDENTITY.key, 3, True, True, ("note", "vectors.waiting", False)),
            (IDENTITY.key, 3, False, True, ("note", "vectors.waiting", True)),
            (IDENTITY.key, 3, False, False, ("note", "vectors.waiting", False)),
        ],
    )
    def test_what_they_come_to(
        self, *, built_with: str, waiting: int, served: bool, free: bool, expected: tuple[str, str, bool]
    ) -> None:
        """Passages that wait are embedded by --fix only when nobody has the home and nobody charges for it."""
        assert told(vector_findings(IDENTITY, built_with, 5, waiting, served=served, free=free)) == [expected]

    def test_nothing_embedded_yet(self) -> None:
        """An index without vectors is of no embedder, and not paused."""
        assert told(vector_findings(IDENTITY, "", 0, 2, served=False, free=True)) == [("note", "vectors.waiting", True)]


class TestFiles:
    def test_beside_a_server(self) -> None:
        """Beside a server the cause is its watcher; without one, that nothing watched."""
        compared = Compared()
        compared.missing.add("memory/a.md")

        assert "nothing watched" in file_findings("main", compared, served=False)[0].cause
        assert "memory.watch is off" in file_findings("main", compared, served=True)[0].cause

    def test_just_changed(self) -> None:
        """A file on its way into the index is no finding."""
        compared = Compared(same=2, settling=1)

        (found,) = file_findings("main", compared, served=True)
        assert (found.severity, found.what) == ("ok", "main: 2 files in step (1 just changed)")

    @pytest.mark.parametrize(
        ("position", "last", "behind", "served", "expected"),
        [
            (5, 5, 0, False, ("ok", "transcripts.in_step", False)),
            (5, 9, 4, False, ("warning", "transcripts.behind", True)),
            (5, 9, 4, True, ("note", "transcripts.behind", False)),
            (9, 5, 0, False, ("warning", "transcripts.log_shrank", True)),
        ],
    )
    def test_log_position(
        self, *, position: int, last: int, behind: int, served: bool, expected: tuple[str, str, bool]
    ) -> None:
        """The index may be behind the log, never before it."""
        assert told([position_finding(position, last, behind, served=served)]) == [expected]


class TestHome:
    @pytest.mark.parametrize(
        ("announced", "held_by", "url", "expected"),
        [
            (None, None, "", ("ok", "home.server", False)),
            (7, 7, "http://127.0.0.1:1", ("ok", "home.server", False)),
            (None, 7, "", ("ok", "home.server", False)),
            (7, 7, "", ("warning", "home.server", False)),
            (7, None, "", ("note", "home.server", True)),
        ],
    )
    def test_server(
        self, announced: int | None, held_by: int | None, url: str, expected: tuple[str, str, bool]
    ) -> None:
        """A server that runs, one that does not answer, and one that was killed are told apart."""
        assert told([server_finding(announced, held_by, url, alive=False)]) == [expected]

    def test_permissions(self) -> None:
        """Whatever others may do in the home is too much."""
        assert permission_finding(0o700).severity == "ok"
        assert permission_finding(0o750).fixable
        assert permission_finding(0o701).fixable

    def test_room(self) -> None:
        """A rebuild needs one and a half times the index; with next to nothing free no turn can be written."""
        assert room_finding(200 * MIB, 100 * MIB).severity == "ok"
        assert room_finding(149 * MIB, 100 * MIB).severity == "warning"
        assert room_finding(63 * MIB, 0).severity == "error"

    def test_watches(self) -> None:
        """More folders than the system lets anybody watch is a warning."""
        assert watch_finding(8192, 8192).severity == "ok"
        assert watch_finding(8193, 8192).severity == "warning"

    def test_stale(self) -> None:
        """Beside a process that has the home, an index that is not live may be a rebuild under way."""
        assert told([stale_finding(["index.2.db"], 1, served=True)]) == [("note", "leftovers.stale", False)]
        assert told([stale_finding(["index.2.db"], 1, served=False)]) == [("warning", "leftovers.stale", True)]

    def test_write_ahead_log(self) -> None:
        """A log of four times its limit was not folded in for long."""
        file = LookedAt(Path("index.db"), INDEX)

        assert wal_size(file, {"index.db-wal": 256 * MIB}) == []
        assert told(wal_size(file, {"index.db-wal": 256 * MIB + 1})) == [("warning", "database.index_wal", False)]


class TestRecord:
    def test_unfinished(self) -> None:
        """Without a server the next start ends them; beside one, something hangs."""
        rows = [{"id": "t1"}]

        assert turn_findings([], served=True) == []
        assert turn_findings(rows, served=False)[0].severity == "note"
        assert turn_findings(rows, served=True)[0].severity == "warning"

    def test_sequences(self) -> None:
        """A number that stands beyond the last one given out would be given out again."""
        assert sequence_findings({"messages": 5}, {"messages": 5, "recall_events": 0}) == []
        assert "messages (4, the last row is 5)" in sequence_findings({"messages": 4}, {"messages": 5})[0].what


class TestShown:
    SEEN = Examination(
        (
            Finding("ok", "home.config", "the configuration is valid"),
            Finding("error", "index.tally", "it is wrong", "somebody wrote", "--fix counts again", fixable=True),
            Finding("note", "leftovers.damaged", "a file", "it broke", "remove it", fixable=True, fixed=True),
        ),
        (TableSize("index.db", "chunks", 4096), TableSize("index.db", "vectors", 8192)),
    )

    def test_lines(self) -> None:
        """People get groups, each finding with its cause, and its remedy as long as it is needed."""
        assert [click.unstyle(line) for line in as_lines(Home(Path("/h")), self.SEEN, fix=False)] == [
            "/h",
            "",
            "Home",
            "  ok       the configuration is valid",
            "           index.db  chunks 4.0 KiB, vectors 8.0 KiB",
            "",
            "Rows of the index",
            "  error    it is wrong  [index.tally]",
            "           cause: somebody wrote",
            "           remedy: --fix counts again",
            "",
            "Leftovers",
            "  fixed    a file  [leftovers.damaged]",
            "           cause: it broke",
            "",
            "1 error; 1 repaired; `reverie doctor --fix` repairs 1 of them.",
        ]

    def test_object(self) -> None:
        """Programs get the findings, the sizes, and whether an error remains."""
        shown = as_object(Home(Path("/h")), self.SEEN)

        assert shown.keys() == {"home", "findings", "tables", "ok"}
        assert shown["ok"] is False
        assert shown["tables"] == [
            {"database": "index.db", "table": "chunks", "bytes": 4096},
            {"database": "index.db", "table": "vectors", "bytes": 8192},
        ]

    def test_every_group_has_a_title(self) -> None:
        """No finding is left out because its group has no title."""
        assert list(TITLES) == list(GROUPS)

    def test_metrics(self) -> None:
        """Figures without labels are read, and what is none is passed over."""
        text = '# HELP x y\nreverie_vectors 12.0\nreverie_requests_total{endpoint="x"} 3.0\nreverie_odd none\nother 1\n'

        assert parse_metrics(text) == {"vectors": 12.0}
