"""What a native turn amounts to: its events become what the caller hears and what the transcript keeps.

Without I/O: `take` is given each event, in order, and says what of it is shown. What the model said before it used a
tool, the tools with their results, and the messages that entered meanwhile stand in the transcript as they do for a
chat, so that another runtime can go on with the session.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from reverie.agent.codex.home import MEMORY_SERVER
from reverie.agent.codex.protocol import (
    AgentItem,
    CompactionItem,
    ItemBegan,
    ItemDone,
    TextPiece,
    ThoughtPiece,
    ToolItem,
    UsageTold,
    UserItem,
)
from reverie.agent.runtimes.runtime import BETWEEN_ROUNDS, Reply, input_records
from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted
from reverie.sessions.transcript import RecordedMessage
from reverie.types import Message, ThreadTokens, ToolCall, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from reverie.agent.codex.protocol import Event, TokenCount
    from reverie.sessions.events import TurnEvent
    from reverie.types import Turn

OUTPUT_CHARS_MAX = 8_000
"""Of a command's output the transcript keeps so much; the thread has all of it."""


@dataclass(slots=True)
class NativeReply:
    """The reply so far.

    `consumed` gives the turns whose messages bear a name; `total_before` is what is known of the thread's usage before
    this turn.
    """

    client_id: str
    consumed: Callable[[str | None], Sequence[Turn]]
    total_before: TokenCount | None = None
    accepted: bool = False
    compactions: int = 0
    tokens: ThreadTokens | None = None
    total: TokenCount | None = None
    calls: int = 0
    usage: Usage = field(default_factory=Usage)
    prompt_tokens_first: int = 0
    prompt_tokens_last: int = 0
    _records: list[RecordedMessage] = field(default_factory=list[RecordedMessage])
    _said: list[str] = field(default_factory=list[str])
    _speaking: dict[str, str] = field(default_factory=dict[str, str])
    _recorded: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def text(self) -> str:
        """All that the caller was shown."""
        return "".join(self._said)

    def take(self, event: Event, model: str = "") -> Iterator[TurnEvent]:
        """What the caller hears of an event."""
        match event:
            case TextPiece(item_id=item_id, text=text):
                yield self._say(item_id, text)
            case ThoughtPiece(text=text):
                yield ReasoningDelta(text)
            case ItemBegan(item=ToolItem() as tool):
                yield ToolStarted(_call(tool))
            case ItemDone(item=AgentItem() as item):
                yield from self._spoken(item)
            case ItemDone(item=ToolItem() as tool):
                yield self._used(tool)
            case ItemDone(item=UserItem(client_id=client_id)):
                self._heard(client_id)
            case ItemDone(item=CompactionItem()):
                self.compactions += 1
            case UsageTold():
                self._count(event, model)
            case _:
                pass

    def reply(self, model: str) -> Reply:
        """The whole, once the turn is complete: what was said last stands for the answer."""
        self._leave_unfinished()
        last = max((n for n, each in enumerate(self._records) if each.message.role == "assistant"), default=None)
        records = list(self._records)
        if last is None or records[last].message.tool_calls:
            records.append(RecordedMessage(Message("assistant", ""), seen_text=self.text))
        else:
            records[last] = replace(records[last], visible=True, seen_text=self.text)
        return Reply(
            records=tuple(records),
            text=self.text,
            tool_calls=(),
            finish_reason="stop",
            usage=self.usage,
            prompt_tokens_first=self.prompt_tokens_first,
            model=model,
            prompt_tokens_last=self.prompt_tokens_last,
        )

    # -- events --------------------------------------------------------------------------------------------------

    def _say(self, item_id: str, text: str) -> ReplyDelta:
        new = item_id not in self._speaking
        gap = BETWEEN_ROUNDS if new and self._said and not self._said[-1][-1:].isspace() else ""
        self._speaking[item_id] = self._speaking.get(item_id, "") + text
        self._said.append(f"{gap}{text}")
        return ReplyDelta(f"{gap}{text}")

    def _spoken(self, item: AgentItem) -> Iterator[ReplyDelta]:
        """Something is said to its end; what came in no piece is shown now."""
        shown = self._speaking.get(item.id, "")
        if item.text.startswith(shown) and len(item.text) > len(shown):
            yield self._say(item.id, item.text[len(shown) :])
        self._speaking[item.id] = item.text
        self._leave(item.id)

    def _used(self, tool: ToolItem) -> ToolFinished:
        call = _call(tool)
        output = tool.output or ""
        self._leave_unfinished()
        self._records += [
            RecordedMessage(Message("assistant", "", tool_calls=(call,)), visible=False),
            RecordedMessage(
                Message("tool", _shortened(output, tool), tool_call_id=call.id, name=call.name), visible=False
            ),
        ]
        return ToolFinished(call, output)

    def _heard(self, client_id: str | None) -> None:
        """A message is part of the thread: this turn's own, or one that entered it."""
        if client_id == self.client_id:
            self.accepted = True
            return
        entered = self.consumed(client_id)
        if entered:
            self._leave_unfinished()
            self._records += input_records(entered)

    def _leave_unfinished(self) -> None:
        """What was begun to be said was shown, so it stands where it was said, also if it is broken off."""
        for item_id in self._speaking:
            self._leave(item_id)

    def _leave(self, item_id: str) -> None:
        """What of an item is not in the transcript yet joins it."""
        text = self._speaking[item_id][self._recorded.get(item_id, 0) :]
        self._recorded[item_id] = len(self._speaking[item_id])
        if text:
            self._records.append(RecordedMessage(Message("assistant", text), visible=False))

    def _count(self, told: UsageTold, model: str) -> None:
        """Add a model call's tokens; the same figures told twice are one call."""
        self.tokens = ThreadTokens(told.last.total, "last", told.window, model or None)
        before, self.total = self.total or self.total_before, told.total
        if before is not None and told.total.total <= before.total:
            return
        last = told.last
        self.calls += 1
        self.usage += Usage(last.input, last.output, last.total, last.cached, last.reasoning)
        self.prompt_tokens_first = self.prompt_tokens_first or last.input
        self.prompt_tokens_last = last.input or self.prompt_tokens_last


def _call(tool: ToolItem) -> ToolCall:
    """A tool's use as a call: ours under its own name, those of other servers behind theirs."""
    name = tool.tool if tool.server in {"", MEMORY_SERVER} else f"{tool.server}.{tool.tool}"
    return ToolCall(tool.id, name, tool.arguments)


def _shortened(output: str, tool: ToolItem) -> str:
    """The beginning of a long output. What our memory answered is bounded already, and stays whole."""
    if tool.server == MEMORY_SERVER or len(output) <= OUTPUT_CHARS_MAX:
        return output
    return f"{output[:OUTPUT_CHARS_MAX]}\n[{len(output) - OUTPUT_CHARS_MAX} characters of the output omitted]"
