"""What Codex is told when it asks for a permission."""

from __future__ import annotations

from typing import Any

import pytest

from reverie.agent.codex.approvals import DENIED, answer_to
from reverie.agent.codex.rpc import NotAnsweredError

ASKED = {"threadId": "t", "permissions": {"network": {"enabled": True}}}


@pytest.mark.parametrize(
    ("method", "denied", "allowed"),
    [
        ("item/commandExecution/requestApproval", {"decision": "decline"}, {"decision": "accept"}),
        ("item/fileChange/requestApproval", {"decision": "decline"}, {"decision": "accept"}),
        ("execCommandApproval", {"decision": {"denied": {"rejection": DENIED}}}, {"decision": "approved"}),
        ("applyPatchApproval", {"decision": {"denied": {"rejection": DENIED}}}, {"decision": "approved"}),
        (
            "item/permissions/requestApproval",
            {"permissions": {}, "scope": "turn"},
            {"permissions": {"network": {"enabled": True}}, "scope": "turn"},
        ),
    ],
)
def test_a_permission_is_denied_unless_it_is_configured(
    method: str, denied: dict[str, Any], allowed: dict[str, Any]
) -> None:
    """By rule and at once; what is allowed is allowed once, never for a session."""
    assert answer_to(method, ASKED, "deny") == denied
    assert answer_to(method, ASKED, "allow") == allowed


@pytest.mark.parametrize("approvals", ["deny", "allow"])
def test_what_only_a_person_can_answer_is_declined(approvals: Any) -> None:
    """Nobody is there to fill in a form or to choose."""
    assert answer_to("mcpServer/elicitation/request", {}, approvals)["action"] == "decline"
    assert answer_to("item/tool/requestUserInput", {}, approvals) == {"answers": {}}
    assert answer_to("item/tool/call", {}, approvals)["success"] is False


def test_what_is_not_known_is_not_answered() -> None:
    """A question of a later version gets the protocol's own error."""
    with pytest.raises(NotAnsweredError):
        answer_to("account/chatgptAuthTokens/refresh", {}, "allow")
