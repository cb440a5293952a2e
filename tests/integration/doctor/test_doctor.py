"""Each kind of damage in a real home: it is found, repaired where that is safe, and gone at the second look."""

from __future__ import annotations

import asyncio
import hashlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any

import apsw
import filelock
import pytest

from reverie.app import open_memory
from reverie.config import load_config
from reverie.doctor import Surroundings
from reverie.doctor.reading import LookedAt
from reverie.errors import EmbedderError
from reverie.sessions.store import PastMessage
from reverie.storage import INDEX
from reverie.types import SessionKey
from tests.integration.doctor.conftest import finding, fixed, wrong
from tests.learning_rows import seed

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.storage import Transaction
    from tests.integration.doctor.conftest import Ward

pytestmark = pytest.mark.anyio


def digest(path: Path) -> str:
    """What a file holds, in short."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def test_a_healthy_home(ward: Ward) -> None:
    """A healthy home has no finding but that all is well, sizes by table are told, and looking changes no database."""
    names = ("state.db", "index.db", "embeddings.db", "config.toml")
    before = {name: digest(ward.home.path / name) for name in names}

    seen = await ward.examine()

    assert wrong(seen) == []
    assert seen.ok
    assert finding(seen, "files.in_step").what == "main: 3 files in step"
    assert finding(seen, "vectors.complete").what == "4 vectors, no passage waits for one"
    assert {table.database for table in seen.tables} == {"state.db", "index.db", "embeddings.db"}
    assert next(table.bytes for table in seen.tables if table.table == "vectors") >= 4096
    assert {name: digest(ward.home.path / name) for name in names} == before


# -- files -------------------------------------------------------------------------------------------------------------


async def test_flipped_bytes_in_the_index(ward: Ward) -> None:
    """A damaged page of the index is an error; --fix puts the file aside and builds it anew, so that all is found."""
    ward.flip_bytes("index.db", "chunks")

    seen = await ward.examine()
    assert wrong(seen) == [("error", "database.index_damaged")]
    assert not seen.ok

    treated = await ward.treat()
    assert fixed(treated) == ["database.index_damaged"]
    assert treated.ok

    assert wrong(await ward.examine()) == [("note", "leftovers.damaged")]
    assert await ward.found("plumber") == ["MEMORY.md"]
    assert len(await ward.found("walrus")) == 1
    assert fixed(await ward.treat()) == ["leftovers.damaged"]
    assert wrong(await ward.examine()) == []


async def test_flipped_bytes_in_the_cache(ward: Ward) -> None:
    """A damaged cache is put aside, and an empty one takes its place."""
    ward.flip_bytes("embeddings.db", "embeddings")

    assert wrong(await ward.examine()) == [("error", "database.embeddings_damaged")]
    assert fixed(await ward.treat()) == ["database.embeddings_damaged"]
    seen = await ward.examine()
    assert wrong(seen) == [("note", "cache.coverage"), ("note", "leftovers.damaged")]
    assert finding(seen, "cache.coverage").what.startswith("0% of 4 sampled passages")


async def test_flipped_bytes_in_the_record(ward: Ward) -> None:
    """A damaged state.db is never touched, the remedy is the backup, and the index does not follow it."""
    ward.flip_bytes("state.db", "messages")
    ward.note("MEMORY.md", "The plumber is Green.\n")
    before = digest(ward.home.state_db)

    treated = await ward.treat()

    assert not treated.ok
    damaged = finding(treated, "database.state_damaged")
    assert (damaged.fixable, damaged.fixed) == (False, False)
    assert "restore it from a backup" in damaged.remedy
    assert ("error", "repair.refused") in wrong(treated)
    assert ("warning", "files.changed") in wrong(treated)
    assert digest(ward.home.state_db) == before


async def test_record_is_gone(ward: Ward) -> None:
    """Without state.db the index is kept: one that followed an empty record would forget every conversation."""
    ward.home.state_db.unlink()
    ward.note("MEMORY.md", "The plumber is Green.\n")

    treated = await ward.treat()

    assert ("error", "database.state_missing") in wrong(treated)
    assert ("error", "repair.refused") in wrong(treated)
    assert not ward.home.state_db.exists()


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("PRAGMA application_id = 7", ("error", "database.index_foreign")),
        ("PRAGMA user_version = 99", ("error", "database.index_too_new")),
        ("PRAGMA user_version = 1", ("note", "database.index_older")),
    ],
)
async def test_a_file_that_is_not_ours(ward: Ward, statement: str, expected: tuple[str, str]) -> None:
    """A foreign, newer or older file is told apart from a damaged one, and not looked into."""
    ward.sql("index.db", statement)

    assert wrong(await ward.examine()) == [expected]


async def test_not_a_database(ward: Ward) -> None:
    """A file that is no database at all is damaged."""
    (ward.home.path / "index.db").write_bytes(b"not a database, but long enough to look like one" * 40)

    assert wrong(await ward.examine()) == [("error", "database.index_damaged")]
    assert (await ward.treat()).ok
    assert await ward.found("plumber") == ["MEMORY.md"]


async def test_deleted_index(ward: Ward) -> None:
    """An index that was deleted is made anew."""
    for file in ward.home.path.glob("index.db*"):
        file.unlink()

    assert wrong(await ward.examine()) == [("note", "database.index_missing")]
    assert fixed(await ward.treat()) == ["database.index_missing"]
    assert wrong(await ward.examine()) == []
    assert await ward.found("plumber") == ["MEMORY.md"]


# -- rows of the index -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        (["DELETE FROM chunks_fts WHERE rowid = 4"], ["index.words_missing"]),
        (
            ["INSERT INTO chunks_fts (rowid, body, header, scope) VALUES (999, 'ghost', '', 'scope1memory')"],
            ["index.words_orphaned"],
        ),
        (["DELETE FROM vectors WHERE chunk_id = 4"], ["index.vector_missing"]),
        (["UPDATE chunks SET embedded = 0 WHERE id = 4"], ["index.vector_unmarked", "vectors.waiting"]),
        (["INSERT INTO vectors VALUES (999, zeroblob(256))"], ["index.vector_orphaned"]),
        (["UPDATE vectors SET vector = zeroblob(12) WHERE chunk_id = 4"], ["index.vector_misfit"]),
        (["UPDATE tally SET chunks = chunks + 1"], ["index.tally"]),
        (["UPDATE tally SET vectors_checksum = vectors_checksum + 1"], ["index.tally"]),
        (
            ["DELETE FROM documents WHERE path = 'MEMORY.md'"],
            ["index.document_missing", "files.missing"],
        ),
        (
            ["DELETE FROM chunks WHERE id = 4"],
            ["index.words_orphaned", "index.vector_orphaned"],
        ),
    ],
)  # fmt: skip
async def test_rows_that_belong_to_nothing(ward: Ward, statements: list[str], found: list[str]) -> None:
    """Each kind of orphan is found, repaired in transactions, and gone at the second look."""
    for statement in statements:
        ward.sql("index.db", statement)

    assert [check for _, check in wrong(await ward.examine())] == found
    treated = await ward.treat()

    assert fixed(treated) == found
    assert wrong(treated) == []
    assert wrong(await ward.examine()) == []


async def test_words_are_written_as_they_were(ward: Ward) -> None:
    """A repaired passage is found by exactly the words that it had, in its own agent and source only."""
    vocabulary = "CREATE VIRTUAL TABLE IF NOT EXISTS temp.words USING fts5vocab(main, chunks_fts, instance)"
    (ward.home.path / "copy").mkdir()

    def words() -> list[Any]:
        connection = apsw.Connection(str(ward.home.path / "index.db"))
        connection.execute(vocabulary)
        held = list(connection.execute("SELECT term, doc, col, offset FROM temp.words ORDER BY 1, 2, 3, 4"))
        connection.close()
        return held

    before = words()
    ward.sql("index.db", "DELETE FROM chunks_fts")
    assert words() == []

    assert fixed(await ward.treat()) == ["index.words_missing"]
    assert words() == before


async def test_many_rows(ward: Ward) -> None:
    """More rows than one batch holds are all repaired, and the largest number does not matter."""
    ward.note("memory/many.md", "\n\n".join(f"# Title {n}\n\nParagraph {n}." for n in range(1_200)))
    await ward.index()
    ward.sql("index.db", "DELETE FROM chunks_fts")
    ward.sql("index.db", "DELETE FROM vectors WHERE chunk_id % 2 = 0")
    ward.sql("index.db", "INSERT INTO vectors VALUES (500000, zeroblob(256))")

    treated = await ward.treat()

    assert set(fixed(treated)) == {"index.words_missing", "index.vector_missing", "index.vector_orphaned"}
    assert finding(treated, "index.words_missing").what.startswith("1,204 passages cannot be found by their words")
    assert wrong(await ward.examine()) == []


async def test_impossible_lines(ward: Ward) -> None:
    """Lines that cannot be are told, with a rebuild as the remedy."""
    ward.sql("index.db", "UPDATE chunks SET end_line = 0 WHERE id = 4")

    seen = await ward.treat()

    assert wrong(seen) == [("error", "index.implausible")]
    assert "--rebuild" in finding(seen, "index.implausible").remedy


# -- index against disk ------------------------------------------------------------------------------------------------


async def test_files_changed_behind_its_back(ward: Ward) -> None:
    """Files written, edited and deleted while nothing watched are found and followed."""
    ward.note("MEMORY.md", "The plumber is Green.\n")
    ward.note("memory/new.md", "A zebra.\n")
    (ward.workspace / "memory" / "2026-05-04.md").unlink()

    seen = await ward.examine()
    assert wrong(seen) == [("warning", "files.missing"), ("warning", "files.changed"), ("warning", "files.vanished")]
    assert finding(seen, "files.missing").what == "main: 1 file on disk and not in the index: memory/new.md"

    assert fixed(await ward.treat()) == ["files.missing", "files.changed", "files.vanished"]
    assert wrong(await ward.examine()) == []
    assert await ward.found("zebra") == ["memory/new.md"]


async def test_same_size_and_time(ward: Ward) -> None:
    """A change that kept size and time is seen with --deep, which compares contents."""
    file = ward.workspace / "MEMORY.md"
    os.utime(file, ns=(10**18, 10**18))
    await ward.index()
    ward.note("MEMORY.md", "The plumber is Green.\n")
    os.utime(file, ns=(10**18, 10**18))

    assert wrong(await ward.examine()) == []
    ward.deep = True
    assert wrong(await ward.examine()) == [("warning", "files.changed")]


async def test_a_touched_file(ward: Ward) -> None:
    """A file with another time and the same content has not changed."""
    os.utime(ward.workspace / "MEMORY.md", ns=(10**18, 10**18))

    assert wrong(await ward.examine()) == []


async def test_skipped_files(ward: Ward) -> None:
    """What is not indexed is named with its reason: too large, a link."""
    ward.home.config_file.write_text("[memory]\nwatch = false\nfile_bytes_max = 1024\n", encoding="utf-8")
    ward.note("memory/large.md", "x" * 2000)
    (ward.workspace / "memory" / "linked.md").symlink_to(ward.workspace / "MEMORY.md")

    seen = await ward.examine()

    assert wrong(seen) == [("note", "files.skipped")]
    what = finding(seen, "files.skipped").what
    assert "memory/linked.md (a symbolic link: not followed)" in what
    assert "memory/large.md (2,000 bytes, more than the limit of 1,024" in what


async def test_messages_that_were_not_read(ward: Ward) -> None:
    """What was said while nothing indexed it is found afterwards."""
    await ward.say("A zebra crossed.", "Twice.", key="second")

    seen = await ward.examine()
    assert wrong(seen) == [("warning", "transcripts.behind")]
    assert finding(seen, "transcripts.behind").what == "2 messages not indexed yet"

    assert fixed(await ward.treat()) == ["transcripts.behind"]
    assert wrong(await ward.examine()) == []
    assert len(await ward.found("zebra")) == 1


async def test_an_older_record(ward: Ward) -> None:
    """An index that has read further than the record goes is made to follow the record again."""
    ward.sql("index.db", "UPDATE meta SET value = '900' WHERE key = 'log_position'")

    assert wrong(await ward.examine()) == [("warning", "transcripts.log_shrank")]
    assert fixed(await ward.treat()) == ["transcripts.log_shrank"]
    assert wrong(await ward.examine()) == []
    assert len(await ward.found("walrus")) == 1


async def test_a_session_that_was_lost(ward: Ward) -> None:
    """When a transcript's document is gone, its damaged rows are removed and the index is rebuilt with it."""
    ward.sql("index.db", "DELETE FROM documents WHERE source = 'sessions'")

    seen = await ward.examine()
    assert wrong(seen) == [("error", "index.document_missing"), ("error", "transcripts.left_out")]

    assert fixed(await ward.treat()) == ["index.document_missing", "transcripts.left_out"]
    assert wrong(await ward.examine()) == []
    assert len(await ward.found("walrus")) == 1


# -- vectors and cache -------------------------------------------------------------------------------------------------


async def test_another_embedder(ward: Ward) -> None:
    """Vectors of another embedder pause search by meaning; only a rebuild helps, and --fix does not start one."""
    ward.dims = 32

    seen = await ward.treat()

    assert wrong(seen) == [("warning", "vectors.paused"), ("note", "cache.unused")]
    assert "fake/bag-of-words/1/64/unit" in finding(seen, "vectors.paused").cause


async def test_an_embedder_that_fails(ward: Ward) -> None:
    """An embedder that does not answer is told with its cause, and costs nothing but the vectors."""
    ward.error = EmbedderError("the model file is gone")

    seen = await ward.examine()

    assert wrong(seen) == [("warning", "vectors.embedder")]
    assert finding(seen, "vectors.embedder").cause == "the model file is gone"


async def test_a_setting_that_changed(ward: Ward) -> None:
    """An index that was cut in another way than the settings say has a note."""
    ward.home.config_file.write_text('[memory]\nchunker = "lines"\n', encoding="utf-8")

    seen = await ward.examine()

    assert ("note", "vectors.generation") in wrong(seen)


def keep(ward: Ward, identity: str, dims: int, texts: list[str], *, size: int | None = None) -> None:
    """Put vectors into the cache."""
    ward.sql("embeddings.db", "INSERT OR IGNORE INTO vector_spaces (identity, dims) VALUES (?, ?)", identity, dims)
    (space,) = ward.sql("embeddings.db", "SELECT id FROM vector_spaces WHERE identity = ?", identity)
    for text in texts:
        key = hashlib.sha256(text.encode()).digest()[:16]
        sql = "INSERT INTO embeddings (space_id, text_hash, used_at, vector) VALUES (?, ?, 1, zeroblob(?))"
        ward.sql("embeddings.db", sql, space[0], key, size or 4 * dims)


async def test_the_cache(ward: Ward) -> None:
    """The cache tells what it holds of whom, what of it is not used, and how much of the index it covers."""
    ward.sql("embeddings.db", "DELETE FROM embeddings")
    keep(ward, "fake/bag-of-words/1/64/unit", 64, ["The plumber is Brown.", "The walrus sleeps."])
    keep(ward, "old/model/1/8/unit", 8, ["whatever"])

    seen = await ward.examine()

    assert finding(seen, "cache.entries").what.endswith(
        "fake/bag-of-words/1/64/unit 2 vectors (512 B), old/model/1/8/unit 1 vector (32 B)"
    )
    assert finding(seen, "cache.unused").what.startswith("32 B of vectors belong to embedders that are not used here")
    assert finding(seen, "cache.coverage").what == "50% of 4 sampled passages have their vector in the cache"
    assert [severity for severity, _ in wrong(seen)] == ["note", "note"]


async def test_vectors_of_a_wrong_size_in_the_cache(ward: Ward) -> None:
    """Kept vectors of a wrong size are removed."""
    ward.sql("embeddings.db", "DELETE FROM embeddings")
    keep(ward, "fake/bag-of-words/1/64/unit", 64, ["good"])
    keep(ward, "fake/bag-of-words/1/64/unit", 64, ["bad", "worse"], size=12)

    seen = await ward.examine()
    assert ("warning", "cache.misfit") in wrong(seen)
    assert finding(seen, "cache.misfit").what == "2 of 3 sampled vectors are not of their embedder's size"

    assert fixed(await ward.treat()) == ["cache.misfit"]
    assert ward.sql("embeddings.db", "SELECT count(*) FROM embeddings") == [(1,)]


# -- the home ----------------------------------------------------------------------------------------------------------


async def test_leftovers(ward: Ward) -> None:
    """A killed rebuild's file and an old unfinished write are swept; a young one may be under way and stays."""
    (ward.home.path / "index.7.db").write_bytes(b"half an index")
    (ward.home.path / "index.7.db-wal").write_bytes(b"its log")
    old, young = ward.workspace / "memory" / ".a.md.0123abcd.tmp", ward.workspace / ".b.md.0123abcd.tmp"
    old.write_text("half", encoding="utf-8")
    young.write_text("half", encoding="utf-8")
    os.utime(old, (time.time() - 7200, time.time() - 7200))

    seen = await ward.examine()
    assert wrong(seen) == [("warning", "leftovers.stale"), ("note", "leftovers.temporary")]
    assert finding(seen, "leftovers.stale").what == "index.7.db beside the live index, 20 B"

    assert fixed(await ward.treat()) == ["leftovers.stale", "leftovers.temporary"]
    assert wrong(await ward.examine()) == []
    assert (old.exists(), young.exists(), list(ward.home.path.glob("index.7.db*"))) == (False, True, [])


async def test_permissions_and_a_dead_server(ward: Ward) -> None:
    """A home that others may read is made private, and the announcement of a killed server is removed."""
    ward.home.path.chmod(0o755)
    (ward.home.path / "server.json").write_text('{"pid": 4194304, "url": "http://127.0.0.1:9"}', encoding="utf-8")

    assert wrong(await ward.examine()) == [("note", "home.server"), ("warning", "home.permissions")]
    assert set(fixed(await ward.treat())) == {"home.server", "home.permissions"}
    assert wrong(await ward.examine()) == []
    assert ward.home.path.stat().st_mode & 0o777 == 0o700


async def test_a_secret_that_everyone_may_read(ward: Ward, tmp_path: Path) -> None:
    """A secret's file that is open to all is told, and one that is missing."""
    token = tmp_path / "token"
    token.write_text("made up", encoding="utf-8")
    token.chmod(0o644)
    with ward.home.config_file.open("a", encoding="utf-8") as config:
        config.write(f'[gateway]\ntoken_file = "{token}"\n[upstream]\napi_key_file = "{tmp_path / "none"}"\n')

    seen = await ward.examine()

    assert wrong(seen) == [("warning", "home.secret"), ("error", "home.secret_missing")]
    assert "made up" not in str(seen)


async def test_settings_that_are_not_valid(ward: Ward) -> None:
    """With a wrong setting everything that needs none is examined all the same."""
    with ward.home.config_file.open("a", encoding="utf-8") as config:
        config.write("[gateway]\nport = 99999999\n")

    seen = await ward.examine()

    assert wrong(seen) == [("error", "home.config")]
    assert "gateway.port" in finding(seen, "home.config").cause
    assert finding(seen, "index.rows").severity == "ok"


async def test_upstream_that_does_not_answer(ward: Ward) -> None:
    """A model's server that does not answer is a warning: the home itself is well."""
    ward.surroundings = Surroundings(upstream_url="http://127.0.0.1:9/v1", upstream_problem="cannot connect")

    seen = await ward.examine()

    assert (wrong(seen), seen.ok) == ([("warning", "home.upstream")], True)


async def test_beside_a_busy_writer(ward: Ward) -> None:
    """While notes, messages and vectors are written, no look finds anything wrong: each sees one state of a file."""
    config = await asyncio.to_thread(load_config, ward.home)
    enough = asyncio.Event()
    async with open_memory(ward.home, config, embedder=ward.embedder()) as opened:

        async def write() -> int:
            number = 0
            while not enough.is_set():
                number += 1
                said = [PastMessage("user", f"message {number} {n}", "Vera", "", 1) for n in range(3)]
                await opened.sessions.import_session(SessionKey("main", f"busy {number}"), "talk", said)
                ward.note(f"memory/busy-{number % 7}.md", "\n\n".join(f"Line {n} of {number}." for n in range(20)))
                await opened.memory.sync_workspace("main")
                await opened.memory.settle()
            return number

        writing = asyncio.create_task(write())
        looks = [await ward.examine() for _ in range(6)]
        enough.set()
        rounds = await writing

    assert [each for seen in looks for each in seen.findings if each.severity in {"warning", "error"}] == []
    assert rounds > 1
    assert wrong(await ward.examine()) == []


async def test_a_look_that_is_given_up(ward: Ward) -> None:
    """Ctrl-C during a long statement ends the statement, not only the waiting for it."""
    ward.note("memory/many.md", "\n\n".join(f"# Title {n}\n\nParagraph {n}." for n in range(1_500)))
    await ward.index()
    file = LookedAt(ward.home.path / "index.db", INDEX)
    began = threading.Event()
    give_up_at = time.monotonic() + 30
    ended: list[BaseException] = []

    def work(tx: Transaction) -> None:
        began.set()
        try:
            while time.monotonic() < give_up_at:
                tx.value("count_tally")
        except apsw.InterruptError as error:
            ended.append(error)
            raise

    look = asyncio.create_task(file.read(work))
    await asyncio.to_thread(began.wait, 10)
    await asyncio.sleep(0.05)
    look.cancel()
    await asyncio.gather(look, return_exceptions=True)

    assert look.cancelled()
    assert len(ended) == 1


async def test_home_in_use(ward: Ward) -> None:
    """While another process has the home nothing is repaired; it is said which one, and what would have been done."""
    ward.sql("index.db", "DELETE FROM chunks_fts")
    (ward.home.path / "reverie.pid").write_text(f"{os.getpid()}\n", encoding="utf-8")
    before = digest(ward.home.path / "index.db")

    with filelock.FileLock(ward.home.lock_file):
        treated = await ward.treat()

    refused = finding(treated, "repair.in_use")
    assert refused.what == "nothing was repaired; --fix would see to index.words_missing"
    assert f"is in use by process {os.getpid()}" in refused.cause
    assert (fixed(treated), treated.ok) == ([], False)
    assert digest(ward.home.path / "index.db") == before


# -- the record --------------------------------------------------------------------------------------------------------


async def test_contradictions_in_the_record(ward: Ward) -> None:
    """Turns without end, sessions that miscount and numbers given out twice are told; nothing of it is repaired."""
    (session,) = ward.sql("state.db", "SELECT id FROM sessions")
    await ward.say("another", key="other")
    await ward.index()
    ward.sql(
        "state.db",
        "INSERT INTO turns (id, session_id, position, state, request, accepted_at) "
        "VALUES ('t1', ?, 1, 'running', '{}', 1)",
        session[0],
    )
    ward.sql("state.db", "UPDATE sessions SET message_count = 9")
    ward.sql("state.db", "UPDATE sqlite_sequence SET seq = 0 WHERE name = 'messages'")
    before = digest(ward.home.state_db)

    treated = await ward.treat()

    assert wrong(treated) == [
        ("note", "state.unfinished"), ("warning", "state.message_count"), ("warning", "state.sequence"),
    ]  # fmt: skip
    assert finding(treated, "state.message_count").what.startswith("1 session of the 500 used last")
    assert digest(ward.home.state_db) == before


async def test_learning_that_does_not_go_on(ward: Ward) -> None:
    """Jobs that were given up are named, work that stands still is told of, and so is a damaged file of the engine."""
    now_ms = time.time_ns() // 1_000_000
    seed(ward.home.state_db, "job_requests", key="reward:ta_1:1", kind="reward", state="dead", error="no answer",
         ended_at=now_ms)  # fmt: skip
    seed(ward.home.state_db, "job_requests", key="window:ep_1:1", kind="window", due_at=now_ms - 30 * 3_600_000)
    ward.home.jobs_db.write_bytes(b"SQLite format 3\0" + b"\xff" * 4_080)

    seen = await ward.examine()

    assert finding(seen, "learning.dead_jobs").what == "1 job of learning failed too often: reward:ta_1:1: no answer"
    assert finding(seen, "learning.still").what == "a job of learning could have been done for 30 hours"
    assert finding(seen, "learning.engine_damaged").severity == "error"
