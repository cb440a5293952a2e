"""Whose words a message is that a client brought: a pure decision.

In a conversation with one person what is said is the owner's, also what that person pasted: pasting is a choice. Others
speak in groups, channels and threads, and nobody knows whether they are the owner. What a program of the owner's
sends by itself (a heartbeat, a cron job, a hook) is the system's. The result of a tool can hold what any stranger
wrote; and of an answer that was not given here nobody knows what it rests on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reverie.sessions.reset import is_system_source, type_of

if TYPE_CHECKING:
    from reverie.types import Provenance, Role

_OF_AGENTS = "subagent"


def whose_words(role: Role, source: str, key: str) -> Provenance:
    """Whose words a message of a request is, from its role, who sent it, and the key of its session."""
    if role != "user":
        return "untrusted"
    if is_system_source(source, key):
        return "system"
    key = key.lower()
    is_of_one_person = type_of(key) == "direct" and _OF_AGENTS not in key.split(":")[2:]
    return "owner" if is_of_one_person else "untrusted"
