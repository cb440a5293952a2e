"""A context engine that does what the test wrote down, and remembers what it was asked.

    engine = ScriptedEngine(operations=("bootstrap", "after_turn"))
    engine.script("assemble", Assembled(()), RuntimeError("broken"))
    ...
    [operation for operation, _ in engine.asked]

An entry point can name a function that returns one; whoever tests an engine's host then looks at `asked`. Without a
script `assemble` shows the newest turns that fit, and the other operations answer that they did what they should.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING, Any

from reverie.context.contract import OPTIONAL_OPERATIONS, Assembled, Compacted, EngineInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from reverie.context.contract import AssembleRequest, CompactRequest, EngineMessage, IngestRequest


class ScriptedEngine:
    """A `ContextEngine`. `operations` are those of the optional ones that it has.

    `asked` holds each operation's name and request, in the order in which they came; `dispose` has None.
    """

    def __init__(self, info: EngineInfo | None = None, *, operations: Iterable[str] = ()) -> None:
        self.info = info or EngineInfo("scripted", "Scripted", "1")
        self.asked: list[tuple[str, Any]] = []
        self._script: defaultdict[str, deque[Any]] = defaultdict(deque)
        for operation in operations:
            if operation not in OPTIONAL_OPERATIONS:
                raise ValueError(f"{operation} is none of the optional operations {', '.join(OPTIONAL_OPERATIONS)}")
            setattr(self, operation, self._optional(operation))

    def script(self, operation: str, *steps: object) -> None:
        """Write down what an operation does next.

        An exception is raised, a function called with the request and its answer given, anything else answered.
        """
        self._script[operation].extend(steps)

    def of(self, operation: str) -> list[Any]:
        """The requests of one operation so far."""
        return [request for name, request in self.asked if name == operation]

    def ingest(self, request: IngestRequest) -> bool:
        """As scripted, else taken in."""
        return self._answer("ingest", request, lambda _: True)

    def assemble(self, request: AssembleRequest) -> Assembled:
        """As scripted, else the newest turns that fit."""
        return self._answer("assemble", request, newest_turns)

    def compact(self, request: CompactRequest) -> Compacted:
        """As scripted, else nothing to do."""
        return self._answer("compact", request, lambda _: Compacted(ok=True, compacted=False, reason="not scripted"))

    def _optional(self, operation: str) -> Callable[..., Any]:
        if operation == "dispose":
            return lambda: self._answer("dispose", None, lambda _: None)

        def asked(request: object) -> Any:
            return self._answer(operation, request, lambda _: None)

        return asked

    def _answer(self, operation: str, request: Any, otherwise: Callable[[Any], Any]) -> Any:
        self.asked.append((operation, request))
        step = self._script[operation].popleft() if self._script[operation] else otherwise
        if isinstance(step, BaseException):
            raise step
        return step(request) if callable(step) else step


def newest_turns(request: AssembleRequest) -> Assembled:
    """The newest messages that fit, beginning with what a user said."""
    kept: list[EngineMessage] = []
    left = request.token_budget
    shown: tuple[EngineMessage, ...] = ()
    for each in reversed(request.messages):
        left -= each.estimated_tokens
        if left < 0:
            break
        kept.append(each)
        if each.message.role == "user":
            shown = tuple(reversed(kept))
    return Assembled(shown, sum(each.estimated_tokens for each in shown))
