"""The plugin `compaction_indicator`: a session's watchers see that it is being summarised, and what that saved.

    [plugins.compaction_indicator]

It puts `compaction.started` and `compaction.finished` into the session's event stream, with sizes in messages and
tokens and with the share of the model's window that the conversation takes. It needs no grant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.plugins.contract import Plugin

if TYPE_CHECKING:
    from reverie.plugins.events import CompactionStep
    from reverie.types import JsonObject


class CompactionIndicator(Plugin):
    """Tells of compactions in the event stream."""

    def on_compaction(self, event: CompactionStep) -> None:
        """A compaction began or ended."""
        kind = "compaction.started" if event.state == "started" else "compaction.finished"
        self.context.add_event(event.session_id, kind, indication(event))


def indication(event: CompactionStep) -> JsonObject:
    """What is shown of a step; what is not known is left out."""
    shown: JsonObject = {
        "compaction": event.compaction_id,
        "cause": event.cause,
        "messages": event.last_seq - event.first_seq + 1,
    }
    if event.state != "started":
        shown["outcome"] = "adopted" if event.state == "finished" else "failed"
    for name, tokens in (("before", event.tokens_before), ("after", event.tokens_after)):
        if tokens is not None:
            shown[f"tokens_{name}"] = tokens
            shown[f"window_percent_{name}"] = percent(tokens, event.window_tokens)
    return shown


def percent(tokens: int, window_tokens: int) -> float:
    """A share of the window in percent, with one digit."""
    return round(100 * tokens / window_tokens, 1)
