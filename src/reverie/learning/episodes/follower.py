"""Following what is said: new messages are put into episodes, and what is decided of them is learned from.

The log of all messages is read after a durable position, a bounded page at a time. A page is one transaction together
with the new position: whatever happens, each message is put at most once. Nobody waits for it. On the first start the
position is the end of the log: the past is not learned from, nor is history that a request brings along.

All sessions share the log, so what cannot be put, or learned from, is no reason to stop: a session that fails is undone
alone and put aside with the reason, and the others go on. Only where the database itself fails a page is read again.
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

import structlog

from reverie.learning.episodes.entries import entry_of
from reverie.learning.episodes.routing import Routing
from reverie.learning.episodes.rows import close, goes_on, last_put, latest_episode
from reverie.learning.records import episode_of
from reverie.learning.trail import note

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reverie.clock import Clock
    from reverie.learning.episodes.episodes import Episodes
    from reverie.learning.episodes.placing import Place
    from reverie.storage import Database, Row, Transaction

log = structlog.get_logger(__name__)

LOG: Final = ""
"""The name of the log's position among those of the sessions."""
PAGE_MESSAGES: Final = 8
"""About one turn; a transaction of it takes a few milliseconds, for which turns that write have to wait."""
STRETCH_MESSAGES: Final = 512
"""Of the log, in one page: what was imported is passed over in such strides."""
CLOSED_AT_ONCE: Final = 16
OWED_AT_ONCE: Final = 4
FOLLOWED_MAX: Final = 4_096
ABANDONED_MS: Final = 3_600_000
"""A message nobody is to decide on any more stays where it is after so long."""
MS_PER_MINUTE: Final = 60_000


@dataclass(frozen=True, slots=True)
class _Passed:
    """What a pass did: the sessions whose messages it put, those that have something left, and whether more waits."""

    owing: frozenset[str]
    more: bool
    followed: frozenset[str] = frozenset()
    looked_after: str = ""


@dataclass(frozen=True, slots=True)
class _Request:
    """What a turn's request brought: its newest question, and the history before it, which was said elsewhere.

    `history_seq` is the number of the last reply in that, 0 where there is none; `questions` is how many it holds.
    """

    newest_seq: int = 0
    history_seq: int = 0
    questions: int = 0


class Follower:
    """Follows the log. One for a process; only one process of a home may have one, and its calls do not overlap."""

    def __init__(self, database: Database, clock: Clock, episodes: Episodes) -> None:
        self._database = database
        self._clock = clock
        self._episodes = episodes
        self._stale_ms = Routing.of(episodes.config.session).stale_ms
        self._idle_ms = episodes.config.session.idle_minutes * MS_PER_MINUTE
        self._followed: OrderedDict[str, None] = OrderedDict()
        self._owing: frozenset[str] = frozenset()
        self._looked_after = ""

    async def start(self) -> None:
        """Begin at the end of the log, the first time. Where nothing is to be learned, that will be the first time."""
        await self._database.write(self._begin)

    async def follow(self) -> bool:
        """Put the next messages; True when there may be more."""
        if self._episodes.config.mode == "off":
            return False
        passed = await self._work(self._pass)
        for session_id in passed.followed:
            self._followed[session_id] = None
            self._followed.move_to_end(session_id)
        while len(self._followed) > FOLLOWED_MAX:
            self._followed.popitem(last=False)
        return passed.more

    async def close_idle(self) -> bool:
        """Close what nothing was said in for long, and let stand what nobody decides on; True when there may be more.

        Messages that were not followed yet, and a turn on its way, keep their episode open.
        """
        if self._episodes.config.mode == "off":
            return False
        return (await self._work(self._close_idle)).more

    async def recover(self) -> bool:
        """At the start of a process: close what ended while none ran, finish what was left; True while there is more.

        Done any number of times, it does nothing twice.
        """
        if self._episodes.config.mode == "off":
            return False
        passed = await self._work(self._recover)
        self._looked_after = passed.looked_after
        return passed.more

    async def _work(self, work: Callable[[Transaction], _Passed]) -> _Passed:
        passed = await self._database.write(work)
        self._owing = passed.owing
        return passed

    # -- within a transaction -------------------------------------------------------------------------------------

    def _begin(self, tx: Transaction) -> None:
        if self._episodes.config.mode == "off":
            tx.execute("drop_learning_position", session_id=LOG)
        elif tx.value("learning_position", session_id=LOG) is None:
            self._go_on_from(tx, tx.value("last_position"))

    def _go_on_from(self, tx: Transaction, position: int) -> None:
        tx.execute("set_learning_position", session_id=LOG, position=position, now=self._clock.now_ms())

    def _pass(self, tx: Transaction) -> _Passed:
        now_ms = self._clock.now_ms()
        position = tx.value("learning_position", session_id=LOG)
        if position is None:
            self._begin(tx)
            return _Passed(self._owing, more=True)
        through = tx.value("log_stretch_end", position=position, limit=STRETCH_MESSAGES)
        rows = [] if through is None else self._page(tx, position, through)
        sessions = self._put(tx, rows, now_ms)
        if len(rows) == PAGE_MESSAGES:
            through = rows[-1]["id"]
        if through is not None:
            self._go_on_from(tx, through)
        unread = through is not None and tx.value("last_position") > through
        ended = [] if unread else self._end_sessions(tx, now_ms)
        owing = self._settle(tx, [*sessions, *ended], now_ms)
        more = unread or bool(owing) or len(ended) == CLOSED_AT_ONCE
        return _Passed(owing, more, frozenset(sessions))

    @staticmethod
    def _page(tx: Transaction, position: int, through: int) -> list[Row]:
        return tx.rows("followed_page", position=position, through=through, limit=PAGE_MESSAGES)

    def _put(self, tx: Transaction, rows: Iterable[Row], now_ms: int) -> list[str]:
        """Put messages, session by session; the sessions they are of, but for those that were put aside."""
        pages: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            pages[row["session_id"]].append(row)
        put: list[str] = []
        for session_id, page in pages.items():
            failed = tx.attempt(partial(self._put_session, tx, session_id, page, now_ms))
            if failed is None:
                put.append(session_id)
            else:
                _put_aside(tx, session_id, failed, now_ms, seq=page[0]["seq"], messages=len(page))
        return put

    def _put_session(self, tx: Transaction, session_id: str, rows: Iterable[Row], now_ms: int) -> None:
        """Put messages of a session.

        Numbers that were put before are passed over, and so is what a request brought along as history, and a reply to
        what was not read.
        """
        put_before = last_put(tx, session_id)
        entries = [entry_of(row) for row in rows if row["seq"] > put_before]
        if not entries:
            return
        placing = self._episodes.placing
        place = placing.place(tx, session_id, entries[0].seq, followed=session_id in self._followed)
        assert place is not None, "a message has a session"
        heard = goes_on(tx, session_id, entries[0].seq) is not None
        requests = {
            turn_id: _request(tx, session_id, turn_id) for turn_id in {each.message.turn_id for each in entries}
        }
        for entry in entries:
            request = requests[entry.message.turn_id]
            is_history = entry.seq <= request.history_seq
            if entry.seq == request.history_seq and request.questions:
                _note_history(tx, place, request, now_ms)
            heard = not is_history and (heard or entry.message.role == "user")
            if heard:
                brought = entry.seq < request.newest_seq or entry.message.whose == "system"
                placing.put(tx, place, entry, now_ms, brought=brought)

    @staticmethod
    def _end_sessions(tx: Transaction, now_ms: int) -> list[str]:
        """Close the episodes of sessions that have ended, all messages of which were put."""
        found = [episode_of(row) for row in tx.rows("episodes_of_ended_sessions", limit=CLOSED_AT_ONCE)]
        for episode in found:
            close(tx, episode, "session_end", now_ms)
        return [episode.session_id for episode in found]

    def _settle(self, tx: Transaction, sessions: Iterable[str], now_ms: int) -> frozenset[str]:
        """Learn from sessions, and from some that were left; those that have something left now."""
        owed = sorted(self._owing)
        turn = {*sessions, *owed[:OWED_AT_ONCE]}
        left = {each for each in sorted(turn) if self._settle_session(tx, each, now_ms)}
        return frozenset(left | (self._owing - turn))

    def _settle_session(self, tx: Transaction, session_id: str, now_ms: int) -> bool:
        """Learn from a session; True when something is left. One that fails is looked at when it goes on or ends."""
        left = tx.attempt(partial(self._episodes.settling.settle, tx, session_id, now_ms))
        if isinstance(left, bool):
            return left
        _put_aside(tx, session_id, left, now_ms)
        return False

    def _close_quiet(self, tx: Transaction, quiet_ms: int, reason: str, now_ms: int) -> list[str]:
        position = tx.value("learning_position", session_id=LOG) or 0
        rows = tx.rows("quiet_episodes", before=now_ms - quiet_ms, position=position, limit=CLOSED_AT_ONCE)
        for row in rows:
            close(tx, episode_of(row), reason, now_ms)
        return [row["session_id"] for row in rows]

    def _close_idle(self, tx: Transaction) -> _Passed:
        now_ms = self._clock.now_ms()
        closed = self._close_quiet(tx, self._idle_ms, "idle", now_ms)
        alone = tx.rows("abandoned_routings", before=now_ms - ABANDONED_MS, limit=CLOSED_AT_ONCE)
        for row in alone:
            self._episodes.let_stand(tx, row, "nobody_decides", now_ms)
        owing = self._settle(tx, [*closed, *(row["session_id"] for row in alone)], now_ms)
        return _Passed(owing, CLOSED_AT_ONCE in {len(closed), len(alone)} or bool(owing))

    def _recover(self, tx: Transaction) -> _Passed:
        now_ms = self._clock.now_ms()
        closed = self._close_quiet(tx, self._stale_ms, "missed_session_end", now_ms)
        rows = tx.rows("unsettled_sessions", after=self._looked_after, limit=CLOSED_AT_ONCE)
        unsettled = [row["session_id"] for row in rows]
        owing = self._settle(tx, [*closed, *unsettled], now_ms)
        more = CLOSED_AT_ONCE in {len(closed), len(unsettled)} or bool(owing)
        return _Passed(owing, more, looked_after=unsettled[-1] if unsettled else self._looked_after)


def _request(tx: Transaction, session_id: str, turn_id: str | None) -> _Request:
    row = None if turn_id is None else tx.row("brought_by_turn", session_id=session_id, turn_id=turn_id)
    return _Request() if row is None else _Request(**row)


def _note_history(tx: Transaction, place: Place, request: _Request, now_ms: int) -> None:
    """Say that what a request brought along is not learned from."""
    note(
        tx,
        now_ms,
        agent=place.session["agent"],
        stage="follow",
        outcome="skipped",
        reason="history",
        ref=f"{place.session['id']}:{request.newest_seq}",
        detail={"questions": request.questions},
    )


def _put_aside(tx: Transaction, session_id: str, error: Exception, now_ms: int, **what: int) -> None:
    """Say that something of a session is not learned from, and why."""
    log.error(
        "a session cannot be learned from", action="session_put_aside", session=session_id, exc_info=error, **what
    )
    session, episode = tx.row("session_of_episodes", id=session_id), latest_episode(tx, session_id)
    note(
        tx,
        now_ms,
        agent="" if session is None else session["agent"],
        stage="follow",
        outcome="failed",
        reason="put_aside",
        ref=session_id,
        episode_id=None if episode is None else episode.id,
        detail={"error": type(error).__name__, **what},
    )
