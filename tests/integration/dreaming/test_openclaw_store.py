"""OpenClaw's files of recalls in a workspace: audited, put right, and locked together with the other program."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import time
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from reverie.dreaming.concepts import concept_tags
from reverie.dreaming.openclaw_files import entry_fields, parse_entry, written
from reverie.dreaming.openclaw_lock import CLAIM, LOCK, POLL_MS, STALE_MS, SYSTEM_LOCK, is_alive, look, promotion_lock
from reverie.dreaming.openclaw_store import (
    ENTRIES_MAX,
    PHASES,
    STORE,
    FilesRepair,
    Reading,
    audit_files,
    exists,
    forget_in_files,
    repair_files,
)
from reverie.errors import ReverieError, StorageError
from reverie.testing import FakeClock

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event
    from pathlib import Path

    from reverie.dreaming.store_audit import StoreAudit

NOW = 1_775_304_000_000
AT = "2026-04-04T12:00:00.000Z"
READING = Reading(NOW, concept_tags)
WAITS = 3
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    """A workspace with OpenClaw's folder, and no file in it."""
    (tmp_path / "memory/.dreams").mkdir(parents=True)
    return tmp_path


def recalled(line: int = 1, **more: Any) -> dict[str, Any]:
    """A raw entry of a file, with nothing that would be derived."""
    return {
        "key": f"memory:memory/2026-04-03.md:{line}:{line}", "path": "memory/2026-04-03.md", "startLine": line,
        "endLine": line, "source": "memory", "snippet": "Configured VLAN 10 for the router at the office.",
        "recallCount": 1, "totalScore": 0.9, "maxScore": 0.9, "firstRecalledAt": AT, "lastRecalledAt": AT,
        "queryHashes": ["a" * 12],
    } | more  # fmt: skip


def right(**more: Any) -> dict[str, Any]:
    """The same as the program writes it when nothing is to be put right."""
    entry = parse_entry(recalled(recallDays=["2026-04-04"], **more), NOW, concept_tags)
    return entry_fields(entry, {})


def store(workspace: Path, *entries: Any, path: str = STORE) -> bytes:
    """Write a file with these entries, by their keys if they have any, as the program writes it; returns its bytes."""
    named = {each.get("key", f"k{number}"): each for number, each in enumerate(entries)}
    data = (written({"version": 1, "updatedAt": AT, "entries": named}) + "\n").encode()
    (workspace / path).write_bytes(data)
    return data


def held(workspace: Path, path: str = STORE) -> dict[str, Any]:
    """The entries of a file now."""
    return json.loads((workspace / path).read_bytes())["entries"]


def lock(workspace: Path, content: str, *, age_ms: int = 0, now_ms: int = NOW) -> None:
    """A lock file that somebody made a while ago."""
    (workspace / LOCK).write_text(content)
    at = (now_ms - age_ms) / 1000
    os.utime(workspace / LOCK, (at, at))


def codes(audit: StoreAudit) -> list[str]:
    return [issue.code for issue in audit.issues]


def repaired(workspace: Path, *, dry_run: bool = False, **more: Any) -> FilesRepair:
    return asyncio.run(repair_files(workspace, more.pop("clock", FakeClock(NOW)), READING, dry_run=dry_run, **more))


def no_process() -> int:
    """The number of a process that has ended."""
    child = FORK.Process(target=int)
    child.start()
    child.join()
    assert child.pid is not None
    return child.pid


def taken_once(workspace: Path, clock: FakeClock | None = None) -> bool:
    """Take the lock without waiting, and give it back; whether one that was left behind was removed."""

    async def work() -> bool:
        async with promotion_lock(workspace, clock or FakeClock(NOW), wait_ms_max=0) as removed:
            return removed

    return asyncio.run(work())


# -- audit and repair ------------------------------------------------------------------------------------------------


def test_an_invalid_entry_and_a_stale_lock(workspace: Path) -> None:
    """They are told, and put right; what is derived of the good entry is filled in. A second repair does nothing."""
    store(workspace, recalled(), {"path": "memory/2026-04-03.md", "startLine": 1.5, "endLine": 2, "source": "memory"})
    lock(workspace, f"{no_process()}:1\n", age_ms=STALE_MS + 1)
    audit = audit_files(workspace, READING)
    planned = repaired(workspace, dry_run=True)
    done = repaired(workspace)

    assert codes(audit) == ["recall-store-invalid", "recall-lock-stale"]
    assert audit.invalid == {"a line is not an integer": 1}
    assert all(issue.fixable for issue in audit.issues)
    assert planned == done
    assert (done.changed, done.rewrote_store, done.removed_stale_lock) == (True, True, True)
    assert done.as_json()["removedInvalidEntries"] == 1
    (entry,) = held(workspace).values()
    assert entry["recallDays"] == ["2026-04-04"]
    assert {"vlan", "router"} <= set(entry["conceptTags"])
    assert not (workspace / LOCK).exists()
    assert codes(audit_files(workspace, READING)) == []
    assert not repaired(workspace).changed


@pytest.mark.parametrize("data", [b"", b" \n\t\n"])
def test_an_empty_store_becomes_one_without_entries(workspace: Path, data: bytes) -> None:
    """White space is a store of version 1 that holds nothing."""
    (workspace / STORE).write_bytes(data)
    audit = audit_files(workspace, READING)
    done = repaired(workspace)

    assert codes(audit) == ["recall-store-empty"]
    assert done.rewrote_store
    assert json.loads((workspace / STORE).read_bytes()) == {"version": 1, "updatedAt": AT, "entries": {}}


def test_a_store_that_is_right_keeps_every_byte(workspace: Path) -> None:
    """It is not written, neither is the lock taken; fields that nobody knows stay."""
    data = store(workspace, right(), right(key="memory:claim:abc") | {"projectKey": {"a": [1, 2.5]}})
    before = (workspace / STORE).stat().st_mtime_ns
    done = repaired(workspace)

    assert not done.changed
    assert (workspace / STORE).read_bytes() == data
    assert (workspace / STORE).stat().st_mtime_ns == before
    assert sorted(path.name for path in (workspace / "memory/.dreams").iterdir()) == ["short-term-recall.json"]


def test_a_live_lock_is_waited_for(workspace: Path) -> None:
    """It is looked at every 40 ms; when its holder has removed it, the repair goes on."""
    store(workspace, recalled())
    lock(workspace, f"{os.getpid()}:1\n", age_ms=STALE_MS + 1)
    clock, waits = FakeClock(NOW), list[float]()

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        clock.advance(seconds=seconds)
        if len(waits) == WAITS:
            await asyncio.to_thread((workspace / LOCK).unlink)

    done = repaired(workspace, clock=clock, sleep=sleep)

    assert waits == [POLL_MS / 1000] * WAITS
    assert done.rewrote_store
    assert not done.removed_stale_lock


def test_a_lock_that_is_never_free_ends_the_wait(workspace: Path) -> None:
    """After ten seconds the holder is named, and nothing was changed."""
    data = store(workspace, recalled())
    lock(workspace, f"{os.getpid()}:1\n")
    clock = FakeClock(NOW)

    async def sleep(seconds: float) -> None:
        clock.advance(seconds=seconds)

    with pytest.raises(StorageError, match=f"process {os.getpid()} has it"):
        repaired(workspace, clock=clock, sleep=sleep)
    assert 10 <= clock.monotonic_s() < 10.1
    assert (workspace / STORE).read_bytes() == data


def test_a_lock_that_cannot_be_looked_at(workspace: Path) -> None:
    """It is a warning that nobody can do anything about."""
    store(workspace, right())
    (workspace / LOCK).symlink_to(workspace / LOCK)
    (issue,) = audit_files(workspace, READING).issues

    assert (issue.code, issue.severity, issue.fixable) == ("recall-lock-unreadable", "warn", False)
    assert look(workspace, NOW).state == "unreadable"


def test_scripts_are_counted(workspace: Path) -> None:
    """One entry of Latin words, one of Chinese ones."""
    store(
        workspace,
        recalled(1, conceptTags=["router", "vlan"], recallDays=["2026-04-03", "2026-04-04"]),
        recalled(2, conceptTags=["路由器"], promotedAt=AT),
    )
    told = audit_files(workspace, READING).as_json()

    assert told["conceptTagScripts"] == {
        "latinEntryCount": 1, "cjkEntryCount": 1, "mixedEntryCount": 0, "otherEntryCount": 0,
    }  # fmt: skip
    assert (told["entryCount"], told["promotedCount"], told["spacedEntryCount"]) == (2, 1, 1)
    assert told["lockPath"].endswith("short-term-promotion.lock")


def test_what_is_too_much_gives_way(workspace: Path) -> None:
    """Of 515 entries the 512 stay that were recalled last; a time that nobody can read counts as the oldest."""
    oldest = [
        recalled(n, lastRecalledAt="2026-04-01T00:00:00.000Z", totalScore=0.1, recallDays=["2026-04-01"])
        for n in (1, 2)
    ]
    timeless = recalled(3, lastRecalledAt="when?", totalScore=0.2)
    rest = [recalled(n) for n in range(4, ENTRIES_MAX + 4)]
    store(workspace, *oldest, timeless, *rest)
    audit = audit_files(workspace, READING)
    done = repaired(workspace)

    assert codes(audit) == ["recall-store-over-limit"]
    assert audit.issues[0].count == done.removed_overflow == 3
    assert sorted(held(workspace)) == sorted(each["key"] for each in rest)
    assert not repaired(workspace).changed


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("text", "not an object"),
        (recalled(path=" "), "no path"),
        (recalled(startLine="3"), "a line is not an integer"),
        (recalled(source="sessions"), "source is not memory"),
        (recalled(snippet="  "), "empty"),
        (recalled(snippet="<!-- a marker -->"), "nothing but marks"),
        (recalled(snippet="## Plans\n\n- \n- "), "headings without text"),
        (recalled(snippet="Call mum. <!-- openclaw-memory-promotion:k -->"), "a marker of dreaming"),
        (recalled(snippet="x" * 900 + " <!-- openclaw-memory-promotion:k -->"), "a marker of dreaming"),
    ],
)
def test_what_is_no_use(workspace: Path, given: Any, reason: str) -> None:
    """Every rule, by its reason; snippets are judged before they are cut short."""
    (workspace / STORE).write_text(json.dumps({"version": 1, "entries": {"k": given}}))
    audit = audit_files(workspace, READING)
    repaired(workspace)

    assert audit.invalid == {reason: 1}
    assert held(workspace) == {}


def test_values_that_are_not_normal(workspace: Path) -> None:
    """Counts, scores and lists become what they may be; a snippet that is too long is cut."""
    store(
        workspace,
        recalled(
            recallCount=-3,
            totalScore="much",
            maxScore=7,
            snippet="word " * 400,
            recallDays=["soon", "2026-04-04T10:00"],
            queryHashes=[" a ", "a", 3, *(f"{n:012}" for n in range(40))],
        ),
    )
    repaired(workspace)
    (entry,) = held(workspace).values()

    assert (entry["recallCount"], entry["totalScore"], entry["maxScore"]) == (0, 0, 1)
    assert len(entry["snippet"]) <= 800
    assert entry["recallDays"] == ["2026-04-04"]
    assert len(entry["queryHashes"]) == 32


@pytest.mark.parametrize(
    "data", [b'{"version": 1, "entries": {', b"[]", b'{"entries": []}', b"\xff\xfe", b'{"a": NaN}']
)
def test_what_is_no_json_is_put_aside(workspace: Path, data: bytes) -> None:
    """A clean store takes its place, and the report says where every byte of the old one is."""
    (workspace / STORE).write_bytes(data)
    audit = audit_files(workspace, READING)
    done = repaired(workspace)

    assert codes(audit) == ["recall-store-unreadable"]
    assert (audit.issues[0].severity, audit.issues[0].fixable) == ("error", True)
    (aside,) = done.aside
    assert (workspace / STORE).with_name(f"short-term-recall.json.unreadable-{NOW}").read_bytes() == data
    assert aside.endswith(f"unreadable-{NOW}")
    assert held(workspace) == {}
    assert not repaired(workspace).changed


def test_another_version_is_not_ours_to_change(workspace: Path) -> None:
    """A file of a later program stays as it is."""
    data = b'{"version": 2, "entries": {}}'
    (workspace / STORE).write_bytes(data)
    (issue,) = audit_files(workspace, READING).issues

    assert (issue.code, issue.fixable) == ("recall-store-unreadable", False)
    assert not repaired(workspace).changed
    assert (workspace / STORE).read_bytes() == data


def test_a_file_that_cannot_be_read_stays(workspace: Path) -> None:
    """A folder in its place is told, and left."""
    (workspace / STORE).mkdir()
    (issue,) = audit_files(workspace, READING).issues

    assert (issue.code, issue.severity, issue.fixable) == ("recall-store-unreadable", "error", False)
    assert not repaired(workspace).changed


def test_reinforcements_of_nothing_go(workspace: Path) -> None:
    """Those of unknown keys, and those without a hit; too many hits become as many as count."""
    entry = right()
    store(workspace, entry)
    known = {"key": entry["key"], "lightHits": 10**6, "remHits": 0}
    store(workspace, known, {"key": "memory:gone:1:1", "lightHits": 1}, {"key": "k3", "lightHits": 0}, path=PHASES)
    audit = audit_files(workspace, READING)
    done = repaired(workspace)

    assert codes(audit) == ["phase-signals-unknown"]
    assert audit.issues[0].count == 2
    assert (done.rewrote_store, done.rewrote_phases) == (False, True)
    assert held(workspace, PHASES) == {entry["key"]: known | {"lightHits": 9_999}}


def test_a_link_is_not_followed(workspace: Path, tmp_path: Path) -> None:
    """What lies behind one may be anywhere."""
    elsewhere = tmp_path / "elsewhere"
    (workspace / "memory/.dreams").rename(elsewhere)
    (elsewhere / "short-term-recall.json").write_text("{")
    (workspace / "memory/.dreams").symlink_to(elsewhere)

    assert not exists(workspace)


def test_entries_that_are_forgotten_leave_both_files(workspace: Path) -> None:
    """The others stay as they are, byte for byte; a second time there is nothing."""
    kept, gone = right(), right(key="memory:memory/2026-04-03.md:9:9", startLine=9, endLine=9)
    store(workspace, kept, gone)
    store(workspace, {"key": gone["key"], "lightHits": 1}, {"key": kept["key"], "lightHits": 2}, path=PHASES)

    def forget(*, write: bool) -> int:
        return asyncio.run(
            forget_in_files(
                workspace, FakeClock(NOW), READING, lambda entry: entry.start_line == gone["startLine"], write=write
            )
        )

    assert [forget(write=write) for write in (False, True, True)] == [1, 1, 0]
    assert held(workspace) == json.loads(json.dumps({kept["key"]: kept}))
    assert list(held(workspace, PHASES)) == [kept["key"]]


# -- the lock --------------------------------------------------------------------------------------------------------


def hold(workspace: Path, taken: Event) -> None:
    """Take the lock in a process of its own, and keep it until killed."""

    async def work() -> None:
        async with promotion_lock(workspace, FakeClock(NOW)):
            taken.set()
            await asyncio.sleep(60)

    asyncio.run(work())


def test_a_killed_holder_frees_the_lock_at_once(workspace: Path) -> None:
    """Its lock file is young and names a process, and yet nobody waits: what it left says that it was a Reverie."""
    taken = FORK.Event()
    child = FORK.Process(target=hold, args=(workspace, taken))
    child.start()
    assert child.pid is not None
    assert taken.wait(20)
    assert look(workspace, NOW).pid == child.pid
    with pytest.raises(StorageError, match="another Reverie"):
        taken_once(workspace)

    os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert (workspace / LOCK).exists()
    assert taken_once(workspace)
    assert not (workspace / LOCK).exists()
    assert not (workspace / CLAIM).exists()


def count_alone(workspace: Path, rounds: int, wrong: Any) -> None:
    """Take the lock again and again, and note whenever somebody else is inside too."""

    class Now:
        """The time."""

        def now_ms(self) -> int:
            return time.time_ns() // 1_000_000

        def monotonic_s(self) -> float:
            return time.monotonic()

    async def work() -> None:
        inside = workspace / "inside"
        for _ in range(rounds):
            async with promotion_lock(workspace, Now(), sleep=lambda _: asyncio.sleep(0.001)):
                await asyncio.to_thread(alone, inside, wrong)

    asyncio.run(work())


def alone(inside: Path, wrong: Any) -> None:
    """Be inside for a moment."""
    try:
        inside.mkdir()
    except FileExistsError:
        wrong.value = 1
    time.sleep(0.001)
    inside.rmdir()


def test_two_waiters_never_both_hold_it(workspace: Path) -> None:
    """Three processes take turns, while a lock that was left behind lies there at the beginning."""
    lock(workspace, "0:1\n", age_ms=STALE_MS + 1, now_ms=time.time_ns() // 1_000_000)
    wrong = FORK.Value("i", 0)
    children = [FORK.Process(target=count_alone, args=(workspace, 25, wrong)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)

    assert [child.exitcode for child in children] == [0, 0, 0]
    assert wrong.value == 0
    assert not (workspace / LOCK).exists()


def test_a_young_lock_of_nobody_is_waited_for(workspace: Path) -> None:
    """Only one that is older than a minute is taken away; a process that is there keeps an old one."""
    gone = no_process()
    lock(workspace, f"{gone}:1\n", age_ms=STALE_MS - 1000)
    young = look(workspace, NOW)
    lock(workspace, "no number", age_ms=STALE_MS + 1)
    nameless = look(workspace, NOW)
    lock(workspace, f"{os.getpid()}:1\n", age_ms=10 * STALE_MS)
    alive = look(workspace, NOW)

    assert (young.state, nameless.state, alive.state) == ("held", "stale", "held")
    assert not is_alive(gone)
    assert not is_alive(0)
    assert is_alive(os.getpid())


def test_who_gives_up_waiting_holds_nothing(workspace: Path) -> None:
    """A cancelled attempt leaves neither lock behind, whenever it is cancelled."""

    async def work() -> None:
        for number in range(20):
            with anyio.move_on_after(number / 4000):
                async with promotion_lock(workspace, FakeClock(NOW)):
                    pass

    asyncio.run(work())
    assert not (workspace / LOCK).exists()
    assert not taken_once(workspace)


def test_a_lock_that_cannot_be_made(workspace: Path) -> None:
    """It is said, and nothing is waited for."""
    (workspace / SYSTEM_LOCK).mkdir()
    with pytest.raises(ReverieError, match="promotion"):
        taken_once(workspace)
