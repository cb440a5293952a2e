"""Between epochs the beginning of a prompt is the same to the byte; where it is not, an epoch began, for one reason.

Sessions are made up at random: questions, answers, tool rounds, failures, images, collected messages, edits of files,
changes of instructions and tools, compactions, small windows, long transcripts. What is compared is what goes over
the wire: the system message, the tools and the history as JSON.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.context.engine import Inputs, Limits, PrefixState, assemble
from reverie.context.fragments import Fragment, fit, text_fingerprint
from reverie.errors import ContextTooLongError
from reverie.llm.chat_request import render_message
from reverie.llm.tokens import TokenEstimator
from reverie.sessions.compactions import StandingSummary
from reverie.sessions.transcript import HistoryEntry
from reverie.types import ImagePart, Message, PromptContext, SearchHit, ToolCall

HIT = SearchHit("memory", "memory/a.md", 1, 2, "The kiln is serviced in May.", 0.9)
MESSAGES_MAX = 24

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("ask"), st.integers(1, 400)),
        st.tuples(st.just("ask"), st.integers(1, 400)),
        st.tuples(st.just("fail"), st.integers(1, 60)),
        st.tuples(st.just("again"), st.just(0)),
        st.tuples(st.just("tools_used"), st.integers(1, 200)),
        st.tuples(st.just("image"), st.just(0)),
        st.tuples(st.just("collect"), st.integers(1, 40)),
        st.tuples(st.just("edit"), st.integers(0, 5)),
        st.tuples(st.just("instruct"), st.integers(0, 3)),
        st.tuples(st.just("tools"), st.integers(0, 2)),
        st.tuples(st.just("compact"), st.integers(1, 12)),
        st.tuples(st.just("calibrate"), st.integers(150, 5_000)),
    ),
    min_size=2,
    max_size=40,
)


@dataclass
class Session:
    """A session as its turns leave it."""

    window: int
    entries: list[HistoryEntry] = field(default_factory=list[HistoryEntry])
    state: PrefixState = field(default_factory=lambda: PrefixState(0, "", {}, 1))
    memory: str = "Likes tea."
    instructions: str = ""
    tools: tuple[dict[str, Any], ...] = ()
    summary: StandingSummary | None = None
    estimator: TokenEstimator = field(default_factory=TokenEstimator)
    words: int = 0

    def add(self, role: Any, text: str, **more: Any) -> None:
        """Append to the transcript."""
        joined = more.pop("joined", False)
        self.entries.append(HistoryEntry(len(self.entries) + 1, Message(role, text, **more), joined))

    def say(self, length: int) -> str:
        """Words that nobody has said yet."""
        self.words += 1
        return f"{self.words} " + "word " * length

    def in_view(self) -> tuple[HistoryEntry, ...]:
        """As the store reads it: the newest messages from the history's beginning on."""
        return tuple(each for each in self.entries if each.seq >= self.state.history_start)[-MESSAGES_MAX:]

    def prompt(self, input_seq: int) -> PromptContext:
        """The prompt of a turn, and what is recorded of it."""
        fragment = Fragment("MEMORY.md", self.memory, text_fingerprint(self.memory))
        inputs = Inputs(
            fragments=fit((fragment,), self.window // 4),
            client_instructions=self.instructions,
            tools=self.tools,
            history=self.in_view(),
            input_seq=input_seq,
            recalled=(replace(HIT, text=f"recalled {self.words}"),),
            summary=self.summary,
        )
        limits = Limits(self.window, 256, 300, messages=MESSAGES_MAX)
        context = assemble(inputs, self.state, limits, self.estimator)
        self.state = PrefixState(context.epoch, context.epoch_reason, context.fingerprints, context.history_start)
        return context

    def compact(self, keep: int) -> None:
        """A summary takes the place of what came before the newest messages, beginning with a question."""
        asked = [each.seq for each in self.entries if each.message.role == "user"]
        if len(asked) > keep:
            last = asked[-keep] - 1
            if last >= self.state.history_start:
                self.summary = StandingSummary(f"cmp_{last}", last, f"What came before {last}.")
                self.state = replace(self.state, history_start=last + 1)


def wire(context: PromptContext, tools: tuple[dict[str, Any], ...]) -> bytes:
    """What of a prompt the next one is to begin with: the system message, the tools, the history."""
    lasting = context.messages()[: context.lasting_messages()]
    return json.dumps([tools, *(render_message(message) for message in lasting)]).encode()[:-1]


def change(session: Session, kind: str, size: int) -> bool:
    """What happens between turns; False where the step is a turn."""
    match kind:
        case "edit":
            session.memory = f"Likes tea. Version {size}. " + "fact " * (size * 300)
        case "instruct":
            session.instructions = f"Rhyme {size}." if size else ""
        case "tools":
            session.tools = tuple({"type": "function", "function": {"name": f"f{n}"}} for n in range(size))
        case "compact":
            session.compact(size)
        case "calibrate":
            session.estimator.calibrate(1_000, size)
        case _:
            return False
    return True


def turn(session: Session, kind: str, size: int) -> PromptContext | None:
    """A turn; its prompt, unless the message was too long for the window."""
    first = len(session.entries) + 1
    match kind:
        case "again":
            said = [each.message.text for each in session.entries if each.message.role == "user"]
            session.add("user", said[-1] if said else session.say(1))
        case "image":
            session.add("user", session.say(1), images=(ImagePart("data:,x"),))
        case "collect":
            session.add("user", session.say(size), joined=True)
            session.add("user", session.say(1))
        case _:
            session.add("user", session.say(size))
    try:
        context = session.prompt(first)
    except ContextTooLongError:
        return None
    if kind == "tools_used":
        call = ToolCall(f"c{first}", "f", "{}")
        session.add("assistant", "", tool_calls=(call,))
        session.add("tool", session.say(size), tool_call_id=call.id)
    if kind != "fail":
        session.add("assistant", session.say(size))
    return context


@settings(deadline=None, max_examples=300)
@given(STEPS, st.sampled_from([2_048, 4_096, 32_768]))
def test_the_prefix_is_the_same_to_the_byte_unless_the_epoch_rises(steps: list[tuple[str, int]], window: int) -> None:
    """And each epoch is one higher than the last, with a reason of its own."""
    session = Session(window)
    before: tuple[PromptContext, bytes] | None = None
    reasons: dict[int, str] = {}
    for kind, size in steps:
        context = None if change(session, kind, size) else turn(session, kind, size)
        if context is None:
            continue
        sent = wire(context, session.tools)
        if before is None or context.epoch != before[0].epoch:
            assert context.epoch == (before[0].epoch if before else 0) + 1
            assert context.epoch not in reasons
            assert context.epoch_reason
        else:
            assert sent.startswith(before[1])
            assert context.epoch_reason == reasons[context.epoch]
        reasons[context.epoch] = context.epoch_reason
        before = context, sent
