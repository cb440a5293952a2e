"""What Codex is told when it asks for a permission: no, unless the agent's settings say otherwise.

Nobody sits in front of a gateway, so a question is answered by rule and at once. Whatever is allowed is allowed once:
never for a session, and never as a rule for the future.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import structlog

from reverie.agent.codex.rpc import NotAnsweredError

if TYPE_CHECKING:
    from reverie.types import JsonObject

log = structlog.get_logger(__name__)

Approvals = Literal["deny", "allow"]
DENIED = "Nobody is there to approve this. Go on without it, or say what would be needed."


def answer_to(method: str, params: JsonObject, approvals: Approvals) -> JsonObject:
    """The answer to a question of the app-server.

    Raises:
        NotAnsweredError: it is nothing that is answered here.
    """
    allowed = approvals == "allow"
    match method:
        case "item/commandExecution/requestApproval" | "item/fileChange/requestApproval":
            answer: JsonObject = {"decision": "accept" if allowed else "decline"}
        case "execCommandApproval" | "applyPatchApproval":
            answer = {"decision": "approved" if allowed else {"denied": {"rejection": DENIED}}}
        case "item/permissions/requestApproval":
            answer = {"permissions": params.get("permissions") or {} if allowed else {}, "scope": "turn"}
        case "mcpServer/elicitation/request":  # a form for a person to fill in
            answer = {"action": "decline", "content": None, "_meta": None}
        case "item/tool/requestUserInput":
            answer = {"answers": {}}
        case "item/tool/call":
            answer = {"contentItems": [{"type": "inputText", "text": "There is no such tool."}], "success": False}
        case _:
            raise NotAnsweredError
    log.info("Codex asked for a permission", action="codex_asked", method=method, approvals=approvals,
             thread=params.get("threadId"))  # fmt: skip
    return answer
