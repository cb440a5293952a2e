"""Episodes against their rules: whatever is said, decided, late, or interrupted, in whatever order."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from reverie.errors import UpstreamClosedError
from reverie.learning.episodes.entries import entry_of
from reverie.learning.episodes.rows import END
from tests.integration.learning.episode_world import (
    ASK,
    FOLLOW_UP,
    NEW_TASK,
    UNSURE_NEW_TASK,
    WEAK,
    Asks,
    World,
    learning,
    opened,
)

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterator

    from reverie.jobs.request import Job
    from reverie.learning.asking.asks import Question

ROOMS = ("one", "two")
TEXTS = (WEAK, WEAK, "It needs a title", "Wrong, redo it", "New task: water the plants", "Who wrote Faust?", "", ASK)
ANSWERS = ("follow_up", "new_task", "unsure", "late", "fails")
ENTRIES_MAX = 5
STEPS = 25
EXAMPLES = 25


class Moody(Asks):
    """A model that answers as its mood is."""

    mood = "follow_up"

    async def ask(self, question: Question[Any], job: Job) -> Any:
        """One answer to everything."""
        if self.mood == "late":
            raise TimeoutError
        if self.mood == "fails":
            raise UpstreamClosedError("gone")
        if question.prompt.id.startswith("turn.arbitrate"):
            return question.answer.model_validate({"verdict": "same"})
        answers = {"follow_up": FOLLOW_UP, "new_task": NEW_TASK, "unsure": UNSURE_NEW_TASK}
        return question.answer.model_validate(answers[self.mood])


class EpisodeMachine(RuleBasedStateMachine):
    """Two rooms in which people talk to an agent; each has a session until that ends, then another one."""

    def __init__(self) -> None:
        super().__init__()
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self.asks = Moody({})
        config = learning(max_turns_per_episode=ENTRIES_MAX, max_steps_per_episode=ENTRIES_MAX)
        self._opened = opened(Path(self._folder.name), config, self.asks)
        self.world: World = self.run(self._opened.__aenter__())
        self.number: dict[str, int] = dict.fromkeys(ROOMS, 1)
        self.sessions: list[str] = []
        self.calls: dict[str, list[str]] = {}

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Until it is done."""
        return self._runner.run(work)

    def session(self, room: str) -> str:
        """The session of a room."""
        name = f"{room}{self.number[room]}"
        if name not in self.sessions:
            self.sessions.append(name)
            self.world.say(ASK, session=name)
            self.calls[name] = []
        return name

    # -- what may happen ------------------------------------------------------------------------------------------

    @rule(room=st.sampled_from(ROOMS), text=st.sampled_from(TEXTS))
    def ask(self, room: str, text: str) -> None:
        """Somebody says something."""
        self.world.say(text, session=self.session(room))

    @rule(room=st.sampled_from(ROOMS), calls=st.sampled_from((0, 0, 1, 2, 6)))
    def reply(self, room: str, calls: int) -> None:
        """The agent answers, or calls tools."""
        session = self.session(room)
        seq = self.world.value("SELECT max(seq) FROM messages WHERE session_id = ?", session)
        self.calls[session] = [f"c{seq}.{number}" for number in range(calls)]
        self.world.say("The coffee report is ready.", "assistant", session=session, calls=self.calls[session])

    @rule(room=st.sampled_from(ROOMS), most=st.sampled_from((1, 9)))
    def results(self, room: str, most: int) -> None:
        """Tools have done what they were called for, some or all of them."""
        session = self.session(room)
        for _ in range(min(most, len(self.calls[session]))):
            self.world.say("result", "tool", session=session, call=self.calls[session].pop(0))

    @rule(room=st.sampled_from(ROOMS), rounds=st.sampled_from((1, 4)))
    def exchange(self, room: str, rounds: int) -> None:
        """A whole exchange, followed as it is."""
        self.world.exchange(WEAK, tools=rounds, session=self.session(room))
        self.run(self.world.follow())

    @rule()
    def follow(self) -> None:
        """What was said is read."""
        self.run(self.world.follow())

    @rule()
    def follow_once(self) -> None:
        """A page of it is read."""
        self.run(self.world.follower.follow())

    @rule(minutes=st.sampled_from((1, 5, 40, 130, 300)))
    def pause(self, minutes: int) -> None:
        """Time passes, and what is quiet is closed."""
        self.world.clock.advance(seconds=60 * minutes)
        self.run(self.world.idle())

    @rule(mood=st.sampled_from(ANSWERS))
    def decide(self, mood: str) -> None:
        """The model is asked whatever is to be asked by now."""
        self.asks.mood = mood
        self.run(self.world.run())

    @rule()
    def restart(self) -> None:
        """The process is killed, and another one begins."""
        self.world.restart()
        self.run(self.world.recover())

    @precondition(lambda self: self.sessions)
    @rule(room=st.sampled_from(ROOMS))
    def end(self, room: str) -> None:
        """A session ends; another one will follow."""
        self.world.end_session(self.session(room))
        self.number[room] += 1

    # -- what is always so ----------------------------------------------------------------------------------------

    @invariant()
    def one_open_episode(self) -> None:
        """At most one episode of a session is open."""
        assert not self.world.rows(
            "SELECT session_id FROM episodes WHERE state = 'open' GROUP BY session_id HAVING count(*) > 1"
        )

    @invariant()
    def each_message_has_one_span(self) -> None:
        """What was read is in exactly one span, and what was not is in none."""
        position = self.world.value("SELECT position FROM learning_cursors WHERE session_id = ''")
        assert not self.world.rows(
            "SELECT m.session_id, m.seq FROM messages m WHERE (m.id <= ?) <> (SELECT count(*) FROM episode_spans s"
            " WHERE s.session_id = m.session_id AND m.seq BETWEEN s.first_seq AND s.last_seq)",
            position,
        )

    @invariant()
    def each_episode_holds_what_it_counts(self) -> None:
        """Counted again an episode is what it was, and it is not full beyond its limits but by one group of calls."""
        for episode_id, *counted in self.world.rows("SELECT id, entries, exchanges, steps, tokens FROM episodes"):
            entries = list(self._entries(episode_id))
            assert counted == [
                len(entries),
                sum(entry.message.role == "user" for entry in entries),
                sum(entry.load.steps for entry in entries),
                sum(entry.tokens for entry in entries),
            ]
            group = entries[0].piece if entries[0].message.tool_calls else entries[0].load
            assert len(entries) <= max(ENTRIES_MAX, group.entries)
            assert counted[2] <= max(ENTRIES_MAX, group.steps)

    def _entries(self, episode_id: str) -> Iterator[Any]:
        columns = ("id", "session_id", "seq", "turn_id", "role", "whose", "created_at", "text", "extra")
        for row in self.world.rows(
            f"SELECT m.{', m.'.join(columns)} FROM said m JOIN episode_spans s ON s.session_id = m.session_id"  # noqa: S608 (our names)
            " AND m.seq BETWEEN s.first_seq AND s.last_seq WHERE s.episode_id = ? ORDER BY m.seq",
            episode_id,
        ):
            yield entry_of(dict(zip(columns, row, strict=True)))

    @invariant()
    def a_chain_is_one_task(self) -> None:
        """An episode that continues another one is of the same task, and each task has an episode."""
        assert not self.world.rows(
            "SELECT e.id FROM episodes e JOIN episodes b ON b.id = e.continues_id WHERE e.task_id <> b.task_id"
        )
        assert not self.world.rows("SELECT id FROM tasks WHERE id NOT IN (SELECT task_id FROM episodes)")

    @invariant()
    def each_ending_is_scored_once(self) -> None:
        """A task is asked to be scored once an ending, and has not ended while an end of it is not decided."""
        assert not self.world.rows(
            "SELECT id FROM tasks WHERE endings <> (SELECT count(*) FROM job_requests j WHERE j.task_id = tasks.id"
            " AND j.kind = 'reward')"
        )
        assert not self.world.rows(
            "SELECT tasks.id FROM tasks JOIN episodes ON episodes.task_id = tasks.id"
            " WHERE tasks.state = 'ended' AND (episodes.state = 'open' OR episodes.provisional = 1)"
        )

    @invariant()
    def nothing_undecided_is_learned(self) -> None:
        """What was learned from lies before the first undecided message, each message once, for the right episode."""
        for session, seqs in self.world.takes.seqs.items():
            hold = self.world.value(
                "SELECT min(seq) FROM routings WHERE session_id = ? AND state = 'provisional'", session
            )
            assert seqs == sorted(set(seqs))
            assert all(seq < (hold or END) for seq in seqs)
        owners = {
            (session, seq): episode_id
            for session, seq, episode_id in self.world.rows(
                "SELECT m.session_id, m.seq, s.episode_id FROM messages m JOIN episode_spans s"
                " ON s.session_id = m.session_id AND m.seq BETWEEN s.first_seq AND s.last_seq"
            )
        }
        assert self.world.takes.owners.items() <= owners.items()

    @invariant()
    def each_routing_says_where_its_message_is(self) -> None:
        """One decision stands for each message of a user, and its episode is the one that holds it."""
        assert not self.world.rows(
            "SELECT r.session_id, r.seq FROM routings r WHERE r.state <> 'superseded' AND r.episode_id IS NOT"
            " (SELECT s.episode_id FROM episode_spans s WHERE s.session_id = r.session_id"
            "  AND r.seq BETWEEN s.first_seq AND s.last_seq)"
        )
        assert not self.world.rows(
            "SELECT session_id, seq FROM routings WHERE state <> 'superseded'"
            " GROUP BY session_id, seq HAVING count(*) > 1"
        )

    def teardown(self) -> None:
        """In the end everything is decided, learned from, and ended."""
        try:
            self._end_all()
        finally:
            self.run(self._opened.__aexit__(None, None, None))
            self._runner.close()
            self._folder.cleanup()

    def _end_all(self) -> None:
        self.run(self.world.follow())
        self.asks.mood = "follow_up"
        for session in self.sessions:
            self.world.end_session(session)
        for _ in range(4):
            self.world.clock.advance(seconds=3_600)
            self.run(self.world.run())
            self.run(self.world.follow())
        self.each_ending_is_scored_once()
        assert self.world.rows("SELECT id FROM episodes WHERE state = 'open' OR provisional = 1") == []
        assert self.world.rows("SELECT id FROM tasks WHERE state = 'open'") == []
        for session in self.sessions:
            every = [seq for (seq,) in self.world.rows("SELECT seq FROM messages WHERE session_id = ?", session)]
            assert sorted(self.world.takes.seqs.get(session, [])) == sorted(every)


TestEpisodeMachine = EpisodeMachine.TestCase
TestEpisodeMachine.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
