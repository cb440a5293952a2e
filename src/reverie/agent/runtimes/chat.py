"""The chat runtime: call the model, run our own tools when it asks, until it answers or asks the client's tools.

The loop is bounded by `rounds_max`; in the last round our tools are no longer offered, so that the model must
answer. A server that does not know tools is asked again without ours, and not offered them any more. One that finds
a prompt too large is asked again with a smaller one; what this turn has done so far is not done twice.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import structlog

from reverie.agent.runtimes.runtime import BETWEEN_ROUNDS, Fitted, Reply, input_records
from reverie.context.compaction.estimate import with_short_results
from reverie.errors import UpstreamRefusedError
from reverie.llm.client import Completed, ModelRequest, ReasoningText, TextDelta
from reverie.llm.overflow import overflow
from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted
from reverie.sessions.transcript import RecordedMessage
from reverie.types import Message, Usage, as_one

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from reverie.agent.loop_guard import LoopGuard
    from reverie.agent.runtimes.runtime import ReadyTurn, Shrink
    from reverie.context.contract import Capability
    from reverie.llm.client import Model
    from reverie.memory.tool_contracts import ToolAnswer
    from reverie.sessions.events import TurnEvent
    from reverie.types import JsonObject, PromptContext, SearchHit, ToolCall, Turn, TurnRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PromptFigures:
    """Calls of the model since the start, and the tokens of their prompts as its server counted them.

    `cached_tokens` are those that it had kept from earlier calls; 0 also where it does not say.
    """

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


@dataclass(slots=True)
class _Conversation:
    """What has happened so far in this turn."""

    records: list[RecordedMessage] = field(default_factory=list[RecordedMessage])
    said: list[str] = field(default_factory=list[str])
    usage: Usage = field(default_factory=Usage)
    prompt_tokens_first: int = 0
    prompt_tokens_last: int = 0

    def gap(self) -> str:
        """What parts a round's text from the one before it, in the client's reply."""
        return BETWEEN_ROUNDS if self.said and not self.said[-1][-1:].isspace() else ""


CAPABILITIES: frozenset[Capability] = frozenset(
    {"bootstrap", "assemble-before-prompt", "after-turn", "maintain", "compact"}
)
"""What this runtime does for a context engine. It keeps no threads, so nothing is projected into one."""


class ChatRuntime:
    """Runs prompts on a `Model`."""

    def __init__(self, model: Model, tools: Sequence[JsonObject], *, rounds_max: int) -> None:
        self._model = model
        self._tools = tuple(tools)
        self._rounds_max = rounds_max
        self._tools_refused = False
        self._figures = PromptFigures()

    @property
    def model(self) -> str:
        """What answers, unless a request asks for another."""
        return self._model.name

    @property
    def capabilities(self) -> frozenset[Capability]:
        """What it does for a context engine."""
        return CAPABILITIES

    @property
    def window_tokens(self) -> int | None:
        """As the upstream's."""
        return None

    async def answer(self, turn: ReadyTurn) -> Reply:
        """The reply to a turn; see `respond`."""
        return await self.respond(
            turn.request,
            turn.context,
            turn.found,
            turn.emit,
            turn.run_tool,
            turn.steered,
            shrink=turn.shrink,
            guard=turn.guard,
        )

    def figures(self) -> PromptFigures:
        """What prompts have cost since the start."""
        return self._figures

    def offered_tools(self, request: TurnRequest) -> tuple[JsonObject, ...]:
        """Our tools for this turn: none where the client forces or forbids tools, or has one of the same name."""
        if self._tools_refused or request.tool_choice not in (None, "auto"):
            return ()
        theirs = {_name(tool) for tool in request.client_tools}
        return tuple(tool for tool in self._tools if _name(tool) not in theirs)

    async def respond(
        self,
        request: TurnRequest,
        context: PromptContext,
        found: tuple[SearchHit, ...],
        emit: Callable[[TurnEvent], None],
        run_tool: Callable[[ToolCall], Awaitable[ToolAnswer]],
        steered: Callable[[], Awaitable[Sequence[Turn]]],
        *,
        shrink: Shrink | None = None,
        guard: LoopGuard | None = None,
    ) -> Reply:
        """The model's reply, after as many rounds of our tools as it asked for.

        Between two calls of the model, messages that arrived meanwhile enter the conversation: `steered` is asked
        for them once the results of the tools are there. A prompt that its server finds too large is made smaller by
        `shrink` and sent again, with what this turn has done so far. `guard` watches the tool calls. Whose words the
        reply is, is for the caller to say: its messages come back untrusted.

        Raises:
            UpstreamError: the model did not answer.
            ContextTooLongError: the prompt stayed too large.
        """
        ours = self.offered_tools(request)
        conversation = _Conversation()
        fitted = Fitted(context)
        for round_number in range(1, self._rounds_max + 1):
            offered = ours if round_number < self._rounds_max else ()
            while True:
                call = _model_request(request, fitted, found, conversation, offered)
                said = len(conversation.said)
                try:
                    done, text = await self._call(call, conversation, emit)
                    break
                except UpstreamRefusedError as error:
                    over = overflow(error)
                    if over is None or shrink is None or len(conversation.said) > said:
                        raise
                    fitted = await shrink(over, call.messages)
            mine = [tool for tool in done.tool_calls if tool.name in {_name(own) for own in offered}]
            if not mine:
                return _reply(conversation, done, text, done.tool_calls)
            theirs = tuple(tool for tool in done.tool_calls if tool not in mine)
            conversation.records.append(
                RecordedMessage(Message("assistant", text, tool_calls=done.tool_calls), visible=False)
            )
            for tool in mine:
                emit(ToolStarted(tool))
                answer = await run_tool(tool)
                result = Message("tool", answer.text, tool_call_id=tool.id, name=tool.name)
                conversation.records.append(RecordedMessage(result, visible=False, provenance=answer.provenance))
                emit(ToolFinished(tool, answer.text))
                if guard is not None:
                    guard.saw(tool, answer.text)
            if theirs:  # the client runs its own; the model goes on when their results come back
                return _reply_with_client_calls(conversation, done, theirs)
            conversation.records.extend(input_records(await steered()))
        raise AssertionError("the last round offers no tools of ours, so it returns")

    async def _call(
        self, call: ModelRequest, conversation: _Conversation, emit: Callable[[TurnEvent], None]
    ) -> tuple[Completed, str]:
        """One call of the model; without our tools when its server refuses them."""
        try:
            return await self._stream(call, conversation, emit)
        except UpstreamRefusedError as error:
            if error.code != "tools_unsupported" or not call.tools or conversation.said:
                raise
            log.info("the model's server knows no tools", action="tools_refused", cause=str(error))
            self._tools_refused = True
            theirs = tuple(tool for tool in call.tools if tool not in self._tools)
            if len(theirs) == len(call.tools):
                raise
            return await self._stream(replace(call, tools=theirs), conversation, emit)

    async def _stream(
        self, call: ModelRequest, conversation: _Conversation, emit: Callable[[TurnEvent], None]
    ) -> tuple[Completed, str]:
        parts: list[str] = []
        async for event in self._model.respond(call):
            match event:
                case TextDelta(text):
                    shown = text if parts else f"{conversation.gap()}{text}"
                    parts.append(text)
                    conversation.said.append(shown)
                    emit(ReplyDelta(shown))
                case ReasoningText(text):
                    emit(ReasoningDelta(text))
                case Completed():
                    usage = event.usage or Usage()
                    was = self._figures
                    self._figures = PromptFigures(
                        was.calls + 1, was.prompt_tokens + usage.prompt_tokens, was.cached_tokens + usage.cached_tokens
                    )
                    conversation.usage += usage
                    conversation.prompt_tokens_last = usage.prompt_tokens
                    conversation.prompt_tokens_first = conversation.prompt_tokens_first or usage.prompt_tokens
                    return event, "".join(parts)
        raise AssertionError("a model's last event is Completed")


def _sent(records: Sequence[RecordedMessage]) -> tuple[Message, ...]:
    """The messages of a conversation as a model is sent them."""
    sent: list[Message] = []
    parts: list[Message] = []
    for record in records:
        parts.append(record.message)
        if not record.joined:
            sent.append(as_one(parts))
            parts = []
    return tuple(sent)


def _name(tool: JsonObject) -> str:
    return tool["function"]["name"]


def _model_request(
    request: TurnRequest,
    fitted: Fitted,
    found: tuple[SearchHit, ...],
    conversation: _Conversation,
    ours: tuple[JsonObject, ...],
) -> ModelRequest:
    prompt = fitted.context.messages()
    messages = (*prompt, *_sent(conversation.records))
    if fitted.result_chars_max is not None:
        messages = with_short_results(messages, fitted.result_chars_max)
    return ModelRequest(
        messages=messages,
        tools=(*ours, *request.client_tools),
        tool_choice=request.tool_choice,
        sampling=request.sampling,
        model_override=request.model_override,
        stream=request.stream,
        found=found,
        cache_key=f"reverie-{fitted.context.session_id}" if fitted.context.session_id else "",
        cache_breakpoints=_breakpoints(fitted.context.lasting_messages(), len(prompt), len(messages)),
    )


def _breakpoints(lasting: int, prompt: int, sent: int) -> tuple[int, ...]:
    """The ends of what comes again: the system message, the history, and within a turn what it has said so far."""
    ends = {0, lasting - 1} if lasting else set[int]()
    return tuple(sorted(ends | ({sent - 1} if sent > prompt else set[int]())))


def _reply(conversation: _Conversation, done: Completed, text: str, calls: tuple[ToolCall, ...]) -> Reply:
    whole = "".join(conversation.said)
    message = Message("assistant", text, tool_calls=calls)
    record = RecordedMessage(message, remember=not done.only_quotes, seen_text=whole)
    return Reply(
        records=(*conversation.records, record),
        text=whole,
        tool_calls=calls,
        finish_reason="tool_calls" if calls else done.finish_reason,
        usage=conversation.usage,
        prompt_tokens_first=conversation.prompt_tokens_first,
        model=done.model,
        prompt_tokens_last=conversation.prompt_tokens_last,
    )


def _reply_with_client_calls(conversation: _Conversation, done: Completed, theirs: tuple[ToolCall, ...]) -> Reply:
    """The model asked for our tools and the client's at once: ours are answered, theirs go to the client.

    The message that asked is what the client sees (its own calls only), so it becomes visible under that fingerprint.
    """
    whole = "".join(conversation.said)
    records = [
        replace(record, visible=True, seen_text=whole, seen_calls=theirs)
        if record.message.role == "assistant" and record.message.tool_calls == done.tool_calls
        else record
        for record in conversation.records
    ]
    return Reply(
        records=tuple(records),
        text=whole,
        tool_calls=theirs,
        finish_reason="tool_calls",
        usage=conversation.usage,
        prompt_tokens_first=conversation.prompt_tokens_first,
        model=done.model,
        prompt_tokens_last=conversation.prompt_tokens_last,
    )
