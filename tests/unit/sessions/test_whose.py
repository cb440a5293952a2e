"""Whose words a message is that a client brought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.sessions.whose import whose_words

if TYPE_CHECKING:
    from reverie.types import Provenance, Role


@pytest.mark.parametrize(
    ("role", "source", "key", "whose"),
    [
        ("user", "", "agent:main:main", "owner"),
        ("user", "webchat", "agent:main:openai-user:ann", "owner"),
        ("user", "", "agent:main:telegram:direct:7", "owner"),
        ("user", "", "agent:group:main", "owner"),
        ("user", "", "agent:main:telegram:group:7", "untrusted"),
        ("user", "", "agent:main:slack:CHANNEL:7", "untrusted"),
        ("user", "", "agent:main:slack:direct:7:thread:8", "untrusted"),
        ("user", "", "agent:main:subagent:7", "untrusted"),
        ("user", "cron:daily", "agent:main:main", "system"),
        ("user", "HEARTBEAT", "agent:main:telegram:group:7", "system"),
        ("user", "", "agent:main:hook:7", "system"),
        ("user", "exec", "agent:main:main", "system"),
        ("assistant", "", "agent:main:main", "untrusted"),
        ("tool", "", "agent:main:main", "untrusted"),
    ],
)
def test_by_role_source_and_key(role: Role, source: str, key: str, whose: Provenance) -> None:
    """One person is the owner, a program of his the system; all others, and answers from elsewhere, are strangers."""
    assert whose_words(role, source, key) == whose
