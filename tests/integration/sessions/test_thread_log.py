"""Decisions about native threads on record: each of them, with every reason, and what flaps."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import apsw
import pytest
from structlog.testing import capture_logs

from reverie.context.projection import Bootstrap, Seen, project, sizes_of
from reverie.context.thread_guards import Fullness
from reverie.context.threads import Decision, Difference, logged
from reverie.sessions.thread_log import Churn, ChurnRule, LoggedDecision, ThreadLog, ThreadSizes
from reverie.sessions.transcript import open_session
from reverie.storage import STATE, Database
from reverie.testing import FakeClock
from reverie.types import Gauge, Message, SessionKey

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

pytestmark = pytest.mark.anyio
KEY = "agent:main:main"
WARM = LoggedDecision(
    "s", "t", "codex", "thr_1", "resume", "none", "matching-thread-bootstrap-binding",
    "matching-thread-bootstrap-binding", warm=True, rotated=False,
)  # fmt: skip
FIRST = replace(WARM, action="start", project="full", reason="missing-thread-binding", warm=False)


def cold(reason: str, *of: str) -> LoggedDecision:
    return replace(FIRST, reason=reason, rotated=True, differences=((reason, of),))


class Home:
    def __init__(self, database: Database, session_id: str, rule: ChurnRule) -> None:
        self.database = database
        self.clock = FakeClock()
        self.log = ThreadLog(database, self.clock, rule)
        self.session_id = session_id

    async def record(self, *decisions: LoggedDecision) -> list[Churn | None]:
        return [await self.log.record(replace(each, session_id=self.session_id)) for each in decisions]

    async def table(self, name: str, **parameters: Any) -> list[dict[str, Any]]:
        return await self.database.read(lambda tx: tx.rows(name, **parameters))


@asynccontextmanager
async def opened(folder: Path, rotations: int = 3, turns: int = 10) -> AsyncGenerator[Home]:
    database = await Database.open(folder / "state.db", STATE, now_ms=FakeClock().now_ms())
    session_id = await database.write(lambda tx: open_session(tx, SessionKey("main", KEY), "live", 1))
    try:
        yield Home(database, session_id, ChurnRule(rotations, turns))
    finally:
        await database.aclose()


async def test_a_decision_with_everything_that_is_known_of_it(tmp_path: Path) -> None:
    """Every difference with what differs, tokens and limits, and what the thread's beginning consists of."""
    async with opened(tmp_path) as home:
        decision = Decision(
            "start",
            "full",
            "environment-changed",
            "fresh-thread",
            (Difference("environment-changed"), Difference("projection-mismatch", ("client", "memory"))),
            clear="thr_0",
            fullness=Fullness(86_000, 238_000, 258_400, "last", 12, 20),
            warnings=("apps could not be checked",),
        )
        history = (Seen(1, Message("user", "x" * 30_000)),)
        bootstrap = Bootstrap("rules", history, Message("user", "hm?"), parts={"instructions": "rules"})
        projected = project(decision, bootstrap)
        sizes = sizes_of(bootstrap, projected, decision)
        await home.record(
            logged(
                decision,
                session_id="",
                turn_id="t1",
                runtime="codex",
                thread_id="thr_1",
                sizes=sizes,
                ignored="damaged",
            )
        )
        (event,) = await home.log.events(KEY)

        assert (event.session_key, event.session_id, event.agent) == (KEY, home.session_id, "main")
        assert (event.action, event.project, event.reason) == ("start", "full", "environment-changed")
        assert (event.turn_id, event.thread_id, event.warm, event.rotated) == ("t1", "thr_1", False, True)
        assert event.data == {
            "projection_reason": "fresh-thread",
            "differences": [
                {"reason": "environment-changed", "of": []},
                {"reason": "projection-mismatch", "of": ["client", "memory"]},
            ],
            "told": [],
            "tokens": 86_000,
            "token_source": "last",
            "token_limit": 238_000,
            "window": 258_400,
            "thread_bytes": 12,
            "sent_chars": len(projected.text),
            "prompt_chars": 3,
            "context_chars": projected.context_chars,
            "file_chars": 0,
            "instruction_chars": 5,
            "cut_chars": projected.cut_chars,
            "dominant": [["history", 30_000], ["instructions", 5]],
            "warnings": ["apps could not be checked", "the stored binding was ignored: damaged"],
        }


async def test_a_bare_turn_tells_of_no_bootstrap(tmp_path: Path) -> None:
    """Nothing of it went along."""
    bootstrap = Bootstrap(
        "rules", (Seen(1, Message("user", "x")),), Message("user", "hm?"), parts={"instructions": "r"}
    )
    decision = Decision("resume", "none", "matching-thread-bootstrap-binding", "matching-thread-bootstrap-binding")

    assert sizes_of(bootstrap, project(decision, bootstrap), decision) == ThreadSizes(sent=3, prompt=3)


async def test_pages_of_decisions(tmp_path: Path) -> None:
    """Newest first, and those before one; also by their numbers."""
    async with opened(tmp_path) as home:
        await home.record(FIRST, WARM, WARM)
        events = await home.log.events(KEY, 2)
        older = await home.log.events(KEY, 2, before=events[-1].id)

        assert [each.reason for each in (*events, *older)] == [WARM.reason, WARM.reason, FIRST.reason]
        assert await home.log.find([older[0].id, 999]) == {older[0].id: older[0]}


async def test_those_who_follow_the_session_hear_of_a_thread_that_begins(tmp_path: Path) -> None:
    """With its reason; of one that goes on they hear nothing."""
    async with opened(tmp_path) as home:
        await home.record(FIRST, WARM, cold("environment-changed", "environment"))
        events = await home.table("session_events_after", key=KEY, after=0, limit=10)

        assert [(each["kind"], each["data"]) for each in events] == [
            ("thread.start", '{"reason":"missing-thread-binding"}'),
            ("thread.start", '{"reason":"environment-changed"}'),
        ]


async def test_figures_by_action_and_reason(tmp_path: Path) -> None:
    """Counted as they are written, so that nobody counts them."""
    async with opened(tmp_path) as home:
        await home.record(FIRST, WARM, WARM)

        assert [gauge for gauge in await home.log.gauges() if gauge.name == "thread_decisions"] == [
            Gauge("thread_decisions", "Decisions about native threads since the home was made.", total, labels)
            for labels, total in [
                ((("action", "resume"), ("reason", WARM.reason)), 2.0),
                ((("action", "start"), ("reason", FIRST.reason)), 1.0),
            ]
        ]


async def test_the_oldest_give_way(tmp_path: Path) -> None:
    """At most about 50,000 are kept; the counts stay."""
    async with opened(tmp_path) as home:
        await home.record(FIRST, WARM)
        path = str(home.database.path)
        jump = "UPDATE sqlite_sequence SET seq = 50999 WHERE name = 'thread_events'"
        await asyncio.to_thread(lambda: apsw.Connection(path).execute(jump))
        await home.record(WARM)

        assert [event.id for event in await home.log.events(KEY)] == [51_000]
        assert sum(each["total"] for each in await home.table("count_thread_decisions")) == 3


class TestChurn:
    async def test_three_new_threads_in_ten_turns_name_what_flaps(self, tmp_path: Path) -> None:
        """Warned of once, in the log, in the session's events and with the decision."""
        async with opened(tmp_path) as home:
            flaps, other = cold("projection-mismatch", "client"), cold("environment-changed")
            with capture_logs() as logs:
                told = await home.record(FIRST, flaps, WARM, other, WARM, flaps, WARM, flaps)

            assert told == [None] * 5 + [Churn(3, 6, "client"), None, None]
            alarms = [each for each in logs if each["action"] == "thread_churn"]
            assert [(each["of"], each["session"]) for each in alarms] == [("client", KEY)]
            assert len(logs) == 9
            assert [each.alarm for each in await home.log.events(KEY)] == ["", "", "client", "", "", "", "", ""]
            kinds = [each["kind"] for each in await home.table("session_events_after", key=KEY, after=0, limit=20)]
            assert kinds.count("thread.churn") == 1
            assert await home.log.churning(KEY) == Churn(4, 8, "client")
            (alarm,) = await home.table("newest_thread_alarms", since=0, limit=10)
            assert (alarm["session_key"], alarm["alarm"]) == (KEY, "client")

    async def test_a_first_thread_is_none_too_many(self, tmp_path: Path) -> None:
        """A session has to begin with one."""
        async with opened(tmp_path) as home:
            told = await home.record(FIRST, cold("manual"), WARM, cold("token-guard", "size"))

            assert told == [None] * 4
            assert await home.log.churning(KEY) is None

    async def test_a_binding_that_is_always_missing_is(self, tmp_path: Path) -> None:
        """Something keeps it from being bound."""
        async with opened(tmp_path) as home:
            assert (await home.record(FIRST, FIRST, FIRST, FIRST))[-1] == Churn(3, 4, "missing-thread-binding")

    async def test_old_ones_are_out_of_sight(self, tmp_path: Path) -> None:
        """Three in a hundred turns are none too many."""
        async with opened(tmp_path, turns=4) as home:
            told = await home.record(FIRST, *[cold("manual"), WARM, WARM, WARM] * 4)

            assert told == [None] * 17

    async def test_what_goes_on_flapping_is_warned_of_again_later(self, tmp_path: Path) -> None:
        """Once in so many turns."""
        async with opened(tmp_path, rotations=2, turns=4) as home:
            told = await home.record(FIRST, *[cold("tools-changed", "tools")] * 12)

            assert [number for number, each in enumerate(told) if each] == [2, 7, 12]

    async def test_it_can_be_switched_off(self, tmp_path: Path) -> None:
        """Nothing is warned of then."""
        async with opened(tmp_path, rotations=0) as home:
            assert await home.record(*[cold("manual")] * 6) == [None] * 6
            assert await home.log.churning(KEY) is None


async def test_a_session_that_is_gone_has_no_record(tmp_path: Path) -> None:
    """Nothing is written, and nothing fails."""
    async with opened(tmp_path) as home:
        assert await home.log.record(replace(FIRST, session_id="nobody")) is None
        assert await home.log.events(KEY) == []
