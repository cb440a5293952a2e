"""Complete steps out of a transcript: what is learned from is one decision at a time.

A step is a tool call with its result, or a reply. An exchange begins with what a user said (several messages in a row
count as one) and may span several turns, when a client runs the tools. What is not complete yet, a call without its
result or a question without a reply, waits until it is given again together with what follows.

Invariant: every message before `through_seq` is in exactly one step, and cutting a transcript differently between two
calls gives the same steps.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from reverie.learning.records import ToolUse
from reverie.types import least_trusted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from reverie.learning.said import SaidMessage
    from reverie.types import Provenance, ToolCall

UNKNOWN_TOOL = "unknown_tool"
"""Of a result whose call nobody recorded, and that does not say which tool it came from."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step, with the numbers of the first and last message it was made of.

    `opens` is the number of the user message that its exchange begins with, on the first step of an exchange; only that
    step carries `user_text`. `at_ms` is when the last of its messages was said. `tools` holds one call at most, unless
    steps were merged.
    """

    first_seq: int
    last_seq: int
    at_ms: int
    whose: Provenance
    opens: int | None = None
    user_text: str = ""
    agent_text: str = ""
    tools: tuple[ToolUse, ...] = ()


@dataclass(frozen=True, slots=True)
class Extracted:
    """The complete steps, up to which message they go, and how many calls and questions wait for what follows."""

    steps: tuple[Step, ...]
    through_seq: int
    open_steps: int


@dataclass(slots=True)
class _Round:
    """What a user asked, what the agent said to it, and the results of the tools it called then."""

    asks: tuple[SaidMessage, ...] = ()
    said: SaidMessage | None = None
    results: list[SaidMessage] = field(default_factory=list["SaidMessage"])
    open_calls: int = 0

    @property
    def first_seq(self) -> int:
        for message in (*self.asks, *([self.said] if self.said else ()), *self.results):
            return message.seq
        raise AssertionError("a round holds a message")

    @property
    def ends_exchange(self) -> bool:
        return self.said is not None and not self.said.tool_calls


def extract(
    messages: Sequence[SaidMessage], *, final: bool = False, alone: bool = False, merged: bool = False
) -> Extracted:
    """The complete steps of consecutive messages of one conversation.

    With `final` nothing follows: open calls become steps without a result, and a last question without a reply is
    dropped, unless there was nothing else (`alone`: no step came before). `merged` makes one step of each exchange.
    """
    rounds, asks = _rounds(messages)
    units = _exchanges(rounds) if merged else [[each] for each in rounds]
    waiting: list[list[_Round]] = []
    if units and not final and not _is_complete(units[-1], merged=merged, asked_on=bool(asks)):
        waiting = [units.pop()]
    steps = [step for unit in units for step in _steps_of(unit, merged=merged)]
    if final and asks and alone and not steps:
        steps = [_step(asks, (), opens=asks[0].seq)]
    if final:
        return Extracted(tuple(steps), messages[-1].seq if messages else 0, 0)
    open_calls = sum(each.open_calls for unit in waiting for each in unit)
    first_open = waiting[0][0].first_seq if waiting else asks[0].seq if asks else None
    return Extracted(tuple(steps), _through(messages, first_open), open_calls + (1 if asks else 0))


def _through(messages: Sequence[SaidMessage], first_open: int | None) -> int:
    if not messages:
        return 0
    if first_open is None:
        return messages[-1].seq
    done = [message.seq for message in messages if message.seq < first_open]
    return done[-1] if done else messages[0].seq - 1


def _rounds(messages: Iterable[SaidMessage]) -> tuple[list[_Round], tuple[SaidMessage, ...]]:
    """The rounds of a conversation, and what was asked last without anything coming of it so far."""
    rounds: list[_Round] = []
    asks: tuple[SaidMessage, ...] = ()
    open_ids: dict[str, int] = {}
    for message in messages:
        if message.role == "user":
            asks = (*asks, message)
            open_ids = {}
        elif message.role == "assistant":
            rounds.append(_Round(asks, message, open_calls=len(message.tool_calls)))
            open_ids = defaultdict(int)
            for call in message.tool_calls:
                open_ids[call.id] += 1
            asks = ()
        elif any(open_ids.values()):
            rounds[-1].results.append(message)
            if open_ids.get(message.tool_call_id or ""):
                open_ids[message.tool_call_id or ""] -= 1
                rounds[-1].open_calls -= 1
        else:
            rounds.append(_Round(asks, results=[message]))
            asks = ()
    return rounds, asks


def _exchanges(rounds: Iterable[_Round]) -> list[list[_Round]]:
    """The rounds of each exchange: it ends with a reply, or where a user asks the next thing."""
    exchanges: list[list[_Round]] = []
    ended = True
    for each in rounds:
        if ended or each.asks:
            exchanges.append([])
        exchanges[-1].append(each)
        ended = each.ends_exchange
    return exchanges


def _is_complete(unit: Sequence[_Round], *, merged: bool, asked_on: bool) -> bool:
    last = unit[-1]
    return asked_on or (last.ends_exchange if merged else not last.open_calls)


def _steps_of(unit: Sequence[_Round], *, merged: bool) -> Iterator[Step]:
    steps = [step for each in unit for step in _steps_of_round(each)]
    if merged:
        yield _merge(steps)
    else:
        yield from steps


def _steps_of_round(held: _Round) -> Iterator[Step]:
    """A step for each call, or one for the reply; then one for each result that nobody asked for."""
    asks = held.asks
    results: dict[str, deque[SaidMessage]] = defaultdict(deque)
    for result in held.results:
        results[result.tool_call_id or ""].append(result)
    if held.said is not None and not held.said.tool_calls:
        yield _step(asks, (held.said,), opens=asks[0].seq if asks else None, agent_text=held.said.text)
        asks = ()
    for place, call in enumerate(held.said.tool_calls if held.said else ()):
        result = results[call.id].popleft() if results[call.id] else None
        parts = (held.said, result) if result else (held.said,)
        tool = _use(call, result, held.said.text if held.said and not place else "")
        yield _step(asks, [part for part in parts if part], opens=asks[0].seq if asks else None, tools=(tool,))
        asks = ()
    unasked = sorted((each for left in results.values() for each in left), key=lambda each: each.seq)
    for result in unasked:
        tool = ToolUse(result.name or UNKNOWN_TOOL, "", result.text, call_id=result.tool_call_id or "")
        yield _step(asks, (result,), opens=asks[0].seq if asks else None, tools=(tool,))
        asks = ()


def _use(call: ToolCall, result: SaidMessage | None, text_before: str) -> ToolUse:
    return ToolUse(
        name=call.name,
        input=call.arguments,
        output=result.text if result else "",
        call_id=call.id,
        text_before=text_before,
    )


def _step(
    asks: Sequence[SaidMessage],
    parts: Sequence[SaidMessage],
    *,
    opens: int | None,
    agent_text: str = "",
    tools: tuple[ToolUse, ...] = (),
) -> Step:
    made_of = (*asks, *parts)
    return Step(
        first_seq=made_of[0].seq,
        last_seq=made_of[-1].seq,
        at_ms=made_of[-1].at_ms,
        whose=least_trusted(part.whose for part in made_of),
        opens=opens,
        user_text="\n\n".join(ask.text for ask in asks if ask.text),
        agent_text=agent_text,
        tools=tools,
    )


def _merge(steps: Sequence[Step]) -> Step:
    """One step of all those of an exchange."""
    return Step(
        first_seq=steps[0].first_seq,
        last_seq=max(step.last_seq for step in steps),
        at_ms=steps[-1].at_ms,
        whose=least_trusted(step.whose for step in steps),
        opens=steps[0].opens,
        user_text=steps[0].user_text,
        agent_text="\n\n".join(step.agent_text for step in steps if step.agent_text),
        tools=tuple(tool for step in steps for tool in step.tools),
    )
