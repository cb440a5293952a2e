"""What a native turn amounts to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.agent.codex.native_reply import NativeReply
from reverie.agent.codex.protocol import (
    AgentItem,
    CompactionItem,
    ItemBegan,
    ItemDone,
    OtherItem,
    TextPiece,
    ThoughtPiece,
    TokenCount,
    ToolItem,
    UsageTold,
    UserItem,
)
from reverie.sessions.events import ReasoningDelta, ReplyDelta, ToolFinished, ToolStarted
from reverie.types import Message, SessionKey, ThreadTokens, ToolCall, Turn, TurnRequest, Usage

if TYPE_CHECKING:
    from reverie.agent.codex.protocol import Event
    from reverie.sessions.events import TurnEvent

ENTERED = Turn("t2", "s", TurnRequest("t2", SessionKey("main", "k"), (Message("user", "and two"),)), "running", 0)


def taken(*events: Event, before: TokenCount | None = None) -> tuple[NativeReply, list[TurnEvent]]:
    """A reply that heard these events, and what the caller heard of them."""
    reply = NativeReply("t1", lambda name: (ENTERED,) if name == "t1:steer:1" else (), before)
    return reply, [shown for event in events for shown in reply.take(event, "m")]


def piece(item_id: str, text: str) -> TextPiece:
    return TextPiece("t", "u", item_id, text)


def done(item: AgentItem | ToolItem | UserItem | CompactionItem | OtherItem) -> ItemDone:
    return ItemDone("t", "u", item)


def usage(total: int, last: int, window: int | None = 100) -> UsageTold:
    return UsageTold("t", "u", TokenCount(last, last - 2, 1, 2, 1), TokenCount(total), window)


def test_pieces_are_shown_as_they_come_and_the_whole_once() -> None:
    """The item's text is what is recorded; a text that came in no pieces is shown when it is done."""
    reply, shown = taken(
        piece("a", "Hel"), piece("a", "lo."), done(AgentItem("a", "Hello.")), done(AgentItem("b", "Bye."))
    )
    assert shown == [ReplyDelta("Hel"), ReplyDelta("lo."), ReplyDelta("\n\nBye.")]
    made = reply.reply("m")
    assert made.text == "Hello.\n\nBye."
    assert [(record.message.text, record.visible, record.seen_text) for record in made.records] == [
        ("Hello.", False, None),
        ("Bye.", True, "Hello.\n\nBye."),
    ]


def test_tools_stand_between_what_was_said() -> None:
    """As rounds of tools do in a chat: the call, its result, and never shown to the client."""
    tool = ToolItem("c", "reverie", "memory_search", '{"query": "x"}')
    finished = ToolItem("c", "reverie", "memory_search", '{"query": "x"}', "found")
    reply, shown = taken(ItemBegan("t", "u", tool), done(finished), done(AgentItem("a", "There.")))
    call = ToolCall("c", "memory_search", '{"query": "x"}')
    assert shown == [ToolStarted(call), ToolFinished(call, "found"), ReplyDelta("There.")]
    assert [(record.message.role, record.visible) for record in reply.reply("m").records] == [
        ("assistant", False),
        ("tool", False),
        ("assistant", True),
    ]


def test_tools_of_other_servers_have_their_servers_name() -> None:
    """So that they are not taken for ours."""
    _, shown = taken(ItemBegan("t", "u", ToolItem("c", "files", "read", "{}")))
    assert shown == [ToolStarted(ToolCall("c", "files.read", "{}"))]


def test_a_turn_that_ends_with_a_tool_has_an_empty_answer() -> None:
    """There is a message of the assistant in any case."""
    reply, _ = taken(done(ToolItem("c", "", "exec_command", "{}", "x")))
    last = reply.reply("m").records[-1]
    assert (last.message, last.visible) == (Message("assistant", ""), True)


def test_a_message_that_entered_stands_where_it_was_read() -> None:
    """With its own turn; what was begun to be said before it stays before it."""
    reply, _ = taken(
        done(UserItem("x", "t1")),
        piece("a", "Half"),
        done(UserItem("y", "t1:steer:1")),
        done(AgentItem("a", "Half done.")),
    )
    made = reply.reply("m")
    assert reply.accepted
    assert [(record.message.role, record.message.text, record.turn_id) for record in made.records] == [
        ("assistant", "Half", None),
        ("user", "and two", "t2"),
        ("assistant", " done.", None),
    ]
    assert made.text == "Half done."


def test_it_is_accepted_only_by_its_own_name() -> None:
    """Another message in the thread says nothing about ours."""
    reply, _ = taken(done(UserItem("x", "other")), done(UserItem("x", None)))
    assert not reply.accepted


def test_usage_is_the_sum_of_the_model_calls() -> None:
    """The same figures told twice are one call; what stood before the turn is no part of it."""
    reply, _ = taken(usage(100, 40), usage(150, 50), usage(150, 50), usage(200, 50), before=TokenCount(100))
    made = reply.reply("m")
    assert made.usage == Usage(96, 4, 100, 2, 2)
    assert (made.prompt_tokens_first, made.prompt_tokens_last) == (48, 48)
    assert reply.tokens == ThreadTokens(50, "last", 100, "m")


def test_thoughts_are_shown_and_not_kept() -> None:
    """As everywhere."""
    reply, shown = taken(
        ThoughtPiece("t", "u", "r", "Hm"), done(OtherItem("r", "reasoning")), done(AgentItem("a", "Yes."))
    )
    assert shown == [ReasoningDelta("Hm"), ReplyDelta("Yes.")]
    assert [record.message.text for record in reply.reply("m").records] == ["Yes."]


def test_compactions_are_counted() -> None:
    """Whoever asks afterwards knows that the thread lost its beginning."""
    reply, shown = taken(done(CompactionItem("k")))
    assert (reply.compactions, shown) == (1, [])
