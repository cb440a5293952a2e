"""Whether a turn goes on in the native thread that its session is bound to, and what that thread must be told.

`decide` is one pure function, evaluated once, after every fingerprint is known. What is sent is derived from what it
decides, so that a thread which begins can never miss its context. Identity decides; size is only a fuse.

    held     = await store.acquire(session_id)                     sessions/bindings.py    BindingStore
    expected = expected_of(...)                                    here
    decision = decide(held.binding, expected, guards, Capabilities(in_use_elsewhere=held.elsewhere))
    sent     = project(decision, bootstrap, ...)                   context/projection.py

    resume      thread/resume held.thread_id with everything of `expected`   failed: after_resume_failure(...)
    fork        thread/fork held.thread_id; nothing is bound                 failed: after_resume_failure(...)
    start       thread/start; held = await store.bind(held, bound(...))      replaces `decision.clear` in one commit
    transient   thread/start; nothing is bound, nothing is cleared

    turn/start with sent.text                        refused as too large: after_overflow(...), once
                                                     a bad image: after_invalid_image(...)
    accepted    held = await store.accepted(held, rebound(...))    pending -> active, with what it was told
    running     held = await store.renew(held)       every RENEW_S; None: somebody else has the binding now
    finished    finished_on(tx, held, ...)           in the transaction of TurnStore.finish
    always      await store.release(held);  await log.record(logged(decision, ...))

What others call:

    expected_of(*, input_seq, last_seq, runtime, policy, mode, epoch, projection_fingerprint, parts, tools,
                fingerprints, auth_profile, model, window_tokens, turn_tokens, thread_bytes, warnings) -> Expected
    decide(binding, expected, guards, capabilities) -> Decision
    after_resume_failure(decision, binding, expected, "connection-closed" | "aborted" | "refused") -> Decision | None
    after_overflow(decision, binding, expected) -> Decision | None           None: raise, there is no second retry
    after_invalid_image(binding, bound_thread_id) -> str | None              the thread id to clear, by comparing it
    bound(thread_id, session_id, expected, decision, settings, now_ms) -> ThreadBinding        a pending one
    rebound(binding, expected, decision, settings, through, now_ms) -> ThreadBinding          once a turn was accepted
    logged(decision, ...) -> LoggedDecision                                  for sessions/thread_log.py ThreadLog.record

    store.acquire(session_id) -> Held               store.bind(held, binding) -> Held | None
    store.accepted(held, binding) -> Held | None    store.renew(held) -> Held | None
    store.release(held)                             store.clear(session_id, thread_id, reason) -> bool
    finished_on(tx, held, through, tokens, now_ms) -> bool                   moved(tx, ...), compacted(tx, ...)
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, get_args

from reverie.context.epochs import FILE, PartsChange, compare_parts, epoch_of
from reverie.context.fingerprints import NO_TOOLS, ToolsFingerprint, is_empty_tools
from reverie.context.thread_guards import Fullness, Guards, fullness
from reverie.sessions.thread_log import LoggedDecision, ThreadSizes
from reverie.types import ThreadBinding, ThreadEngine, ThreadFingerprints, ThreadProjection, ThreadSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reverie.context.fingerprints import EnginePolicy
    from reverie.types import ProjectionMode

Action = Literal["resume", "start", "transient", "fork"]
"""`transient`: a thread for this turn alone; the binding stays as it is. `fork`: the same, with the bound thread's
history."""
Project = Literal["none", "full", "delta"]
View = Literal["assembled", "mirrored", "none"]
"""What a full projection is made of: the engine's view, the transcript as it stands, nothing."""
Failure = Literal["connection-closed", "aborted", "refused"]

Mismatch = Literal[
    "missing-thread-binding",
    "never-accepted",
    "manual",
    "runtime-changed",
    "native-tools-disabled",
    "web-search-changed",
    "web-search-restricted",
    "missing-projection-binding",
    "context-engine-binding-mismatch",
    "projection-mismatch",
    "coverage-unknown",
    "transcript-rewound",
    "user-mcp-changed",
    "environment-changed",
    "mcp-servers-changed",
    "network-changed",
    "plugin-apps-changed",
    "tools-deferral-changed",
    "dynamic-tools-mismatch",
    "in-use-elsewhere",
    "token-guard",
    "byte-guard",
    "resume-failed",
    "window-overflow",
]
"""Why the bound thread is not simply gone on with, in the order in which they are looked at and told."""
ORDER: tuple[str, ...] = get_args(Mismatch)

OF_THE_ENGINE = frozenset({"missing-projection-binding", "context-engine-binding-mismatch", "projection-mismatch"})
"""What makes a bootstrap another one than the engine would give now."""

ProjectionReason = Literal[
    "per-turn-projection",
    "missing-thread-binding",
    "missing-projection-binding",
    "context-engine-binding-mismatch",
    "dynamic-tools-mismatch",
    "projection-mismatch",
    "matching-thread-bootstrap-binding",
    "appended-context",
    "fresh-thread",
    "no-active-engine",
]
"""Why a turn's input is what it is. The first seven are those of a binding alone, first match; `fresh-thread`: the
binding matched and another thread begins all the same; `appended-context`: it matched and something was added."""

NO_ENGINE = "legacy"
"""The id of an engine that assembles nothing: it is never an active one."""

NO_EPOCH = "the engine's projection has no epoch: its view is sent with every turn"

Effect = Literal["rotate", "transient", "elsewhere"]


# -- what is known -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Expected:
    """What a thread must be for this turn, everything known.

    `engine` None: no context engine is active. Of the fingerprints, None means that it was not looked at in this
    turn: what is stored stays. `input_seq` is the transcript number at which this turn's input begins, `last_seq` that
    of the last message before it. `turn_tokens` is what the turn adds to a thread, `thread_bytes` the size of the
    bound thread's file where a guard asks for it.
    """

    input_seq: int
    last_seq: int = 0
    runtime: str = "codex"
    engine: ThreadEngine | None = None
    parts: dict[str, str] = field(default_factory=dict[str, str])
    tools: ToolsFingerprint = NO_TOOLS
    fingerprints: ThreadFingerprints = field(default_factory=ThreadFingerprints)
    auth_profile: str | None = None
    model: str | None = None
    window_tokens: int | None = None
    turn_tokens: int = 1
    thread_bytes: int | None = None
    warnings: tuple[str, ...] = ()

    @property
    def bootstraps(self) -> bool:
        """The engine's view is told to a thread once."""
        return self.engine is not None and self.engine.projection is not None


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What is possible in this turn. `in_use_elsewhere`: another process is at work on the bound thread.

    `native_tools` False: the runtime's own tools are switched off for this turn. `web_search_stays` False: a web search
    that differs is a restriction of this turn, or it is not known whether the provider has one.
    """

    native_tools: bool = True
    can_fork: bool = False
    in_use_elsewhere: bool = False
    web_search_stays: bool = True


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, and of what: the part, the server, the tools. Names only, never what they hold."""

    reason: Mismatch
    of: tuple[str, ...] = ()
    effect: Effect = "rotate"


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do with a session's thread, and everything that speaks for it.

    `differences` are all of them, in their order. `reason` is the one that decided; without any, why the turn's input
    is what it is. `clear` is the thread whose binding a new one replaces; it is compared when that is done.
    `told` are the parts, and `since` the transcript number, from which a delta is made. `auth_profile` is the account
    to use: the one asked for, else the binding's, also when that is replaced.
    """

    action: Action
    project: Project
    reason: Mismatch | ProjectionReason
    projection_reason: ProjectionReason
    differences: tuple[Difference, ...] = ()
    thread_id: str | None = None
    clear: str | None = None
    view: View = "assembled"
    told: tuple[str, ...] = ()
    since: int = 0
    auth_profile: str | None = None
    fullness: Fullness = field(default_factory=Fullness)
    warnings: tuple[str, ...] = ()

    @property
    def persist(self) -> bool:
        """Whether the session is bound to the thread of this turn."""
        return self.action in {"resume", "start"}

    @property
    def warm(self) -> bool:
        """The thread knows the conversation already."""
        return self.action in {"resume", "fork"}

    @property
    def rotated(self) -> bool:
        """A thread gives way to another."""
        return self.clear is not None

    @property
    def reasons(self) -> tuple[Mismatch | ProjectionReason, ...]:
        """Every mismatch, in order; without any, the one reason for going on."""
        return tuple(difference.reason for difference in self.differences) or (self.reason,)


def expected_of(
    *,
    input_seq: int,
    last_seq: int = 0,
    runtime: str = "codex",
    policy: EnginePolicy | None = None,
    mode: ProjectionMode = "thread_bootstrap",
    epoch: str | None = None,
    projection_fingerprint: str | None = None,
    parts: Mapping[str, str] | None = None,
    tools: ToolsFingerprint = NO_TOOLS,
    fingerprints: ThreadFingerprints | None = None,
    auth_profile: str | None = None,
    model: str | None = None,
    window_tokens: int | None = None,
    turn_tokens: int = 1,
    thread_bytes: int | None = None,
    warnings: tuple[str, ...] = (),
) -> Expected:
    """What a thread must be. Without a `policy`, or with that of the engine that passes through, none is active.

    The built-in engine gives `parts` and no epoch: it is their digest. A bootstrap without an epoch that says anything
    is sent with every turn instead, and `warnings` tells. What could not be looked at is left None, with a warning.
    """
    held = dict(parts or {})
    if policy is not None and policy.engine_id == NO_ENGINE:
        policy = None
    named = (epoch if epoch is not None else epoch_of(held) if held else "").strip()
    projection = None
    if policy is not None and mode == "thread_bootstrap":
        if named:
            projection = ThreadProjection(named, projection_fingerprint)
        else:
            warnings += (NO_EPOCH,)
    engine = None if policy is None else ThreadEngine(policy.engine_id, policy.fingerprint(), projection)
    return Expected(
        input_seq=input_seq,
        last_seq=last_seq,
        runtime=runtime,
        engine=engine,
        parts=held,
        tools=tools,
        fingerprints=fingerprints or ThreadFingerprints(),
        auth_profile=auth_profile,
        model=model,
        window_tokens=window_tokens,
        turn_tokens=turn_tokens,
        thread_bytes=thread_bytes,
        warnings=warnings,
    )


# -- the decision ------------------------------------------------------------------------------------------------


def decide(binding: ThreadBinding | None, expected: Expected, guards: Guards, capabilities: Capabilities) -> Decision:
    """What to do with the thread that a session is bound to."""
    if binding is None:
        return _without_binding(expected, capabilities)
    change = _change(binding, expected)
    full = fullness(
        binding,
        guards,
        model=expected.model,
        window=expected.window_tokens,
        turn_tokens=expected.turn_tokens,
        size=expected.thread_bytes,
    )
    found = tuple(_differences(binding, expected, capabilities, change))
    if binding.scope != "supervision":
        compatible = expected.bootstraps and not any(each.reason in OF_THE_ENGINE for each in found)
        found += tuple(_guarded(full, compatible_bootstrap=compatible))
    deciding = _deciding(found)
    action = _action(deciding, binding, capabilities, found)
    return _decision(action, deciding, found, binding, expected, change, full, seen=capabilities.native_tools)


def _without_binding(expected: Expected, capabilities: Capabilities) -> Decision:
    """A thread begins. It is bound, unless it lacks the runtime's tools or another process is about to bind one."""
    found: list[Difference] = [Difference("missing-thread-binding")]
    if not capabilities.native_tools:
        found.append(Difference("native-tools-disabled", effect="transient"))
    if capabilities.in_use_elsewhere:
        found.append(Difference("in-use-elsewhere", effect="elsewhere"))
    per_turn = expected.engine is not None and not expected.bootstraps
    return Decision(
        action="start" if len(found) == 1 else "transient",
        project="full",
        reason=found[min(1, len(found) - 1)].reason,
        projection_reason="per-turn-projection" if per_turn else "missing-thread-binding",
        differences=tuple(found),
        view="mirrored" if expected.engine is None else "assembled",
        auth_profile=expected.auth_profile,
        warnings=expected.warnings,
    )


def _deciding(found: tuple[Difference, ...]) -> Difference | None:
    """The difference that decides: the first in order, except that a restricted turn never changes a binding."""
    restricted = next((each for each in found if each.reason == "native-tools-disabled"), None)
    return restricted or next(iter(found), None)


def _action(
    deciding: Difference | None, binding: ThreadBinding, capabilities: Capabilities, found: tuple[Difference, ...]
) -> Action:
    """What follows: nobody's thread is replaced while it is watched, or while another process works on it."""
    if deciding is None:
        return "resume"
    if deciding.effect == "transient" or binding.scope == "supervision":
        return "transient"
    if any(each.effect == "elsewhere" for each in found):
        return "fork" if capabilities.can_fork and len(found) == 1 else "transient"
    return "start"


def _decision(
    action: Action,
    deciding: Difference | None,
    found: tuple[Difference, ...],
    binding: ThreadBinding,
    expected: Expected,
    change: PartsChange,
    full: Fullness,
    *,
    seen: bool,
) -> Decision:
    """An action with everything that follows from it. The only place that says what is projected."""
    warm = action in {"resume", "fork"}
    stands = _projection_reason(binding if seen else None, expected, change)
    told, since = change.told, binding.covered_through
    if not warm:
        project, view = _cold_projection(binding, expected)
        why: ProjectionReason = "fresh-thread" if stands == "matching-thread-bootstrap-binding" else stands
    elif expected.engine is not None and not expected.bootstraps:
        project, view, why = "full", "assembled", "per-turn-projection"
    elif told or (since is not None and expected.last_seq > since):
        project, view, why = "delta", "assembled", "appended-context"
    else:
        project, view, why = "none", "none", stands
    delta = project == "delta"
    return Decision(
        action=action,
        project=project,
        reason=why if deciding is None else deciding.reason,
        projection_reason=why,
        differences=found,
        thread_id=binding.thread_id if warm else None,
        clear=binding.thread_id if action == "start" else None,
        view=view,
        told=told if delta else (),
        since=(since or 0) if delta else 0,
        auth_profile=expected.auth_profile or binding.auth_profile,
        fullness=full,
        warnings=expected.warnings,
    )


def _cold_projection(binding: ThreadBinding, expected: Expected) -> tuple[Project, View]:
    """What a thread that begins is told: everything. Without an engine, the transcript as it stands.

    Only a bootstrap whose engine is gone leaves nothing to tell: what the runtime mirrored of such a thread is not a
    view that any engine assembled.
    """
    if expected.engine is not None:
        return "full", "assembled"
    stale = binding.engine is not None and binding.engine.projection is not None
    return ("none", "none") if stale else ("full", "mirrored")


def _projection_reason(binding: ThreadBinding | None, expected: Expected, change: PartsChange) -> ProjectionReason:
    """What the binding alone says about projecting, first match; a restricted turn sees no binding."""
    engine, now = None if binding is None else binding.engine, expected.engine
    tools = None if binding is None else binding.fingerprints.tools
    rows: tuple[tuple[bool, ProjectionReason], ...] = (
        (now is not None and not expected.bootstraps, "per-turn-projection"),
        (binding is None, "missing-thread-binding"),
        (now is None and engine is None, "no-active-engine"),
        (now is not None and (engine is None or engine.projection is None), "missing-projection-binding"),
        (now is None or not _same_engine(engine, now), "context-engine-binding-mismatch"),
        (not expected.tools.accepts(tools), "dynamic-tools-mismatch"),
        (bool(change.conflicts), "projection-mismatch"),
    )
    for applies, reason in rows:
        if applies:
            return reason
    return "matching-thread-bootstrap-binding"


# -- what differs ------------------------------------------------------------------------------------------------


CONFIGURED: tuple[tuple[Mismatch, str], ...] = (
    ("user-mcp-changed", "user_mcp"),
    ("environment-changed", "environment"),
    ("mcp-servers-changed", "mcp_servers"),
    ("network-changed", "network"),
    ("plugin-apps-changed", "plugin_apps"),
)
"""What a thread keeps from its start, and a turn cannot change."""


def _differences(
    binding: ThreadBinding, expected: Expected, capabilities: Capabilities, change: PartsChange
) -> Iterator[Difference]:
    """Everything that speaks against going on in the bound thread, except its size, in order."""
    held, now = binding.fingerprints, expected.fingerprints
    if binding.state == "pending":
        yield Difference("never-accepted")
    if binding.rotate:
        yield Difference("manual")
    if binding.runtime != expected.runtime or _differs(held.runtime, now.runtime, absent_is_same=True):
        yield Difference("runtime-changed")
    if not capabilities.native_tools:
        yield Difference("native-tools-disabled", effect="transient")
    if _differs(held.web_search, now.web_search):
        stays = capabilities.web_search_stays
        yield Difference("web-search-changed") if stays else Difference("web-search-restricted", effect="transient")
    yield from _engine_differences(binding, expected, change)
    for reason, name in CONFIGURED:
        if _differs(getattr(held, name), getattr(now, name)):
            yield Difference(reason)
    yield from _tool_differences(held, expected)
    if capabilities.in_use_elsewhere:
        yield Difference("in-use-elsewhere", effect="elsewhere")


def _engine_differences(binding: ThreadBinding, expected: Expected, change: PartsChange) -> Iterator[Difference]:
    """What the thread was bootstrapped with, against what it would be bootstrapped with now."""
    held, now = binding.engine, expected.engine
    if held is None and now is None:
        return
    if held is None or now is None:
        missing = now is not None and now.projection is not None
        yield Difference("missing-projection-binding" if missing else "context-engine-binding-mismatch", ("engine",))
        return
    if now.projection is not None and held.projection is None:
        yield Difference("missing-projection-binding", ("projection",))
    if not _same_engine(held, now):
        same_id = (held.schema_version, held.engine_id) == (now.schema_version, now.engine_id)
        yield Difference("context-engine-binding-mismatch", ("policy",) if same_id else ("engine",))
    if change.conflicts:
        yield Difference("projection-mismatch", change.conflicts)
    if now.projection is not None and held.projection is not None:
        if binding.covered_through is None:
            yield Difference("coverage-unknown")
        elif binding.covered_through >= expected.input_seq:
            yield Difference("transcript-rewound")


def _tool_differences(held: ThreadFingerprints, expected: Expected) -> Iterator[Difference]:
    tools = expected.tools
    if not tools.empty and held.tools_deferred is not None and held.tools_deferred != tools.deferred:
        yield Difference("tools-deferral-changed")
    if held.tools is not None and not tools.accepts(held.tools):
        gone = tools.empty and not is_empty_tools(held.tools)
        yield Difference("dynamic-tools-mismatch", ("tools",), "transient" if gone else "rotate")


def _guarded(full: Fullness, *, compatible_bootstrap: bool) -> Iterator[Difference]:
    if full.over_tokens:
        yield Difference("token-guard", ("size",))
    if full.over_bytes and not compatible_bootstrap:
        yield Difference("byte-guard", ("size",))


def _differs(stored: str | None, current: str | None, *, absent_is_same: bool = False) -> bool:
    """What was not looked at in this turn does not differ."""
    if current is None or (stored is None and absent_is_same):
        return False
    return stored != current


def _same_engine(held: ThreadEngine | None, now: ThreadEngine) -> bool:
    """The same engine under the same policy, whatever it projects."""
    return held is not None and replace(held, projection=None) == replace(now, projection=None)


def _change(binding: ThreadBinding, expected: Expected) -> PartsChange:
    """How the projection moved on. Only parts of which an epoch is really made tell that something was added."""
    held = None if binding.engine is None else binding.engine.projection
    now = None if expected.engine is None else expected.engine.projection
    if now is None and held is not None and expected.engine is not None:
        return PartsChange(conflicts=("mode",))
    if held is None or now is None:
        return PartsChange()
    same = (held.schema_version, held.mode, held.fingerprint) == (now.schema_version, now.mode, now.fingerprint)
    if not same:
        return PartsChange(conflicts=("fingerprint",))
    if held.epoch == now.epoch:
        return PartsChange()
    if not _made_of(held, binding.parts) or not _made_of(now, expected.parts):
        return PartsChange(conflicts=("epoch",))
    return compare_parts(binding.parts, expected.parts, binding.covered_through or 0)


def _made_of(projection: ThreadProjection, parts: Mapping[str, str]) -> bool:
    return bool(parts) and projection.epoch == epoch_of(parts)


# -- when the runtime refuses ------------------------------------------------------------------------------------


def after_resume_failure(
    decision: Decision, binding: ThreadBinding, expected: Expected, failure: Failure
) -> Decision | None:
    """What to do when a thread could not be resumed or forked. None: raise; the binding stands, for the next turn.

    A connection that closed, or a turn that was stopped, says nothing about the thread. Anything else does.
    """
    if failure != "refused" or not decision.warm:
        return None
    return _anew(decision, binding, expected, "resume-failed")


def after_overflow(decision: Decision, binding: ThreadBinding, expected: Expected) -> Decision | None:
    """What to do when the runtime says that a turn does not fit its thread's window. None: raise.

    Only a thread that was resumed, and that an engine can bootstrap anew, is given up; and so only once a turn.
    """
    if decision.action != "resume" or expected.engine is None:
        return None
    return _anew(decision, binding, expected, "window-overflow")


def _anew(decision: Decision, binding: ThreadBinding, expected: Expected, reason: Mismatch) -> Decision:
    """Another thread with everything it must know, in place of one that was to be gone on with."""
    difference = Difference(reason)
    kept = decision.action == "fork" or binding.scope == "supervision"
    action: Action = "transient" if kept else "start"
    found = (*decision.differences, difference)
    change = PartsChange()
    return _decision(action, difference, found, binding, expected, change, decision.fullness, seen=True)


def after_invalid_image(binding: ThreadBinding, bound_thread_id: str | None) -> str | None:
    """The thread to clear after the runtime found an image in it invalid, which it would find in every later turn.

    None where another thread is bound by now, or where it is never replaced.
    """
    same = bound_thread_id == binding.thread_id and binding.scope != "supervision"
    return binding.thread_id if same else None


OVERFLOW_SIGNS = ("ran out of room", "context window", "context length", "maximum context", "too many tokens")


def says_overflow(message: str) -> bool:
    """Whether a runtime's message says that a turn does not fit the thread's window."""
    lowered = message.lower()
    return any(sign in lowered for sign in OVERFLOW_SIGNS)


# -- the binding after it ----------------------------------------------------------------------------------------


def bound(
    thread_id: str,
    session_id: str,
    expected: Expected,
    decision: Decision,
    settings: ThreadSettings,
    now_ms: int,
) -> ThreadBinding:
    """The binding to a thread that was started just now: pending, until its first turn is accepted."""
    return ThreadBinding(
        thread_id=thread_id,
        session_id=session_id,
        state="pending",
        runtime=expected.runtime,
        engine=expected.engine,
        parts=expected.parts,
        fingerprints=_kept_prints(None, expected),
        covered_through=0,
        settings=settings,
        auth_profile=decision.auth_profile,
        created_at_ms=now_ms,
        updated_at_ms=now_ms,
    )


def rebound(
    binding: ThreadBinding,
    expected: Expected,
    decision: Decision,
    settings: ThreadSettings,
    through: int,
    now_ms: int,
) -> ThreadBinding:
    """The binding once a turn was accepted whose input ends with transcript number `through`.

    It holds what the thread was started or resumed with now; what was not looked at, and when it was made, stays.
    """
    return replace(
        binding,
        state="active",
        runtime=expected.runtime,
        engine=expected.engine,
        parts=expected.parts,
        fingerprints=_kept_prints(binding.fingerprints, expected),
        covered_through=max(through, binding.covered_through or 0),
        settings=settings,
        auth_profile=decision.auth_profile,
        updated_at_ms=now_ms,
    )


def _kept_prints(held: ThreadFingerprints | None, expected: Expected) -> ThreadFingerprints:
    """The fingerprints of this turn; where it did not look, those that are stored."""
    before, now = held or ThreadFingerprints(), expected.fingerprints
    return ThreadFingerprints(
        tools=expected.tools.full,
        tools_deferred=expected.tools.deferred,
        runtime=now.runtime or before.runtime,
        web_search=now.web_search or before.web_search,
        user_mcp=now.user_mcp or before.user_mcp,
        environment=now.environment or before.environment,
        mcp_servers=now.mcp_servers or before.mcp_servers,
        network=now.network or before.network,
        plugin_apps=now.plugin_apps or before.plugin_apps,
    )


def logged(
    decision: Decision,
    *,
    session_id: str,
    turn_id: str | None,
    runtime: str,
    thread_id: str | None,
    sizes: ThreadSizes | None = None,
    ignored: str = "",
) -> LoggedDecision:
    """A decision as it is recorded, with the thread that the turn ran in and how large it was.

    `ignored` is why the stored record was not understood, where one was there.
    """
    full = decision.fullness
    return LoggedDecision(
        session_id=session_id,
        turn_id=turn_id,
        runtime=runtime,
        thread_id=thread_id,
        action=decision.action,
        project=decision.project,
        reason=decision.reason,
        projection_reason=decision.projection_reason,
        warm=decision.warm,
        rotated=decision.rotated,
        differences=tuple((difference.reason, difference.of) for difference in decision.differences),
        told=decision.told,
        tokens=full.tokens,
        token_source=full.counted,
        token_limit=full.limit,
        window=full.window,
        thread_bytes=full.bytes,
        sizes=sizes or ThreadSizes(),
        warnings=(*decision.warnings, *((f"the stored binding was ignored: {ignored}",) if ignored else ())),
    )


def told_files(decision: Decision) -> tuple[str, ...]:
    """The names of the workspace files that a delta tells of."""
    return tuple(name.removeprefix(FILE) for name in decision.told if name.startswith(FILE))
