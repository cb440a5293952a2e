"""Resume, start, transient or fork: every row alone, all of them together, and what must never happen."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reverie.context.epochs import compare_parts, epoch_of, epoch_parts
from reverie.context.fingerprints import NO_TOOLS, EnginePolicy, tools_fingerprint
from reverie.context.projection import Bootstrap, Seen, project
from reverie.context.thread_guards import Guards
from reverie.context.threads import (
    NO_EPOCH,
    ORDER,
    Capabilities,
    Decision,
    Expected,
    after_invalid_image,
    after_overflow,
    after_resume_failure,
    bound,
    decide,
    expected_of,
    rebound,
    says_overflow,
)
from reverie.sessions.compactions import StandingSummary
from reverie.types import (
    Message,
    ThreadBinding,
    ThreadEngine,
    ThreadFingerprints,
    ThreadProjection,
    ThreadSettings,
    ThreadTokens,
)

POLICY = EnginePolicy("reverie", owns_compaction=True, projection_max_chars=24_000)
TOOLS = tools_fingerprint([{"name": f"tool_{number}", "inputSchema": {}} for number in range(74)])
PRINTS = ThreadFingerprints(
    runtime="r", web_search="w", user_mcp="u", environment="e", mcp_servers="m", network="n", plugin_apps="a"
)
PARTS = {"instructions": "i", "client": "c", "file:AGENTS.md": "1", "file:USER.md": "2", "summary": "cmp@4"}
EXPECTED = expected_of(
    input_seq=9,
    last_seq=8,
    policy=POLICY,
    parts=PARTS,
    tools=TOOLS,
    fingerprints=PRINTS,
    model="gpt-5",
    turn_tokens=400,
)
BINDING = ThreadBinding(
    "thr_1",
    "s1",
    engine=EXPECTED.engine,
    parts=PARTS,
    fingerprints=replace(PRINTS, tools=TOOLS.full, tools_deferred=False),
    covered_through=8,
    settings=ThreadSettings(model="gpt-5", cwd="/srv", approval_policy="never", sandbox="read-only"),
    auth_profile="work",
    tokens=ThreadTokens(60_000, "last"),
    created_at_ms=1_000,
    updated_at_ms=2_000,
)
ABLE = Capabilities()
GUARDS = Guards()
SETTINGS = ThreadSettings(model="gpt-6")


@dataclass(frozen=True)
class World:
    """What a decision is made of."""

    binding: ThreadBinding | None = BINDING
    expected: Expected = EXPECTED
    guards: Guards = GUARDS
    able: Capabilities = ABLE

    def decide(self) -> Decision:
        return decide(self.binding, self.expected, self.guards, self.able)

    def bind(self, **changes: Any) -> World:
        assert self.binding is not None
        return replace(self, binding=replace(self.binding, **changes))

    def prints(self, **changes: Any) -> World:
        assert self.binding is not None
        return self.bind(fingerprints=replace(self.binding.fingerprints, **changes))

    def expect(self, **changes: Any) -> World:
        return replace(self, expected=replace(self.expected, **changes))

    def now(self, **changes: Any) -> World:
        return self.expect(fingerprints=replace(self.expected.fingerprints, **changes))

    def can(self, **changes: Any) -> World:
        return replace(self, able=replace(self.able, **changes))

    def told(self, **changes: str | None) -> World:
        """A bootstrap now of other parts; None takes one away."""
        parts = {name: value for name, value in (self.expected.parts | changes).items() if value is not None}
        engine = self.expected.engine
        assert engine is not None
        return self.expect(parts=parts, engine=replace(engine, projection=ThreadProjection(epoch_of(parts))))


def engine_of(world: World) -> ThreadEngine:
    assert world.expected.engine is not None
    return world.expected.engine


def held_engine(world: World) -> ThreadEngine:
    assert world.binding is not None
    assert world.binding.engine is not None
    return world.binding.engine


OTHER_POLICY = replace(POLICY, context_token_budget=1).fingerprint()
Change = Callable[[World], World]
ROTATIONS: list[tuple[str, Change, str, tuple[str, ...]]] = [
    ("16: pending", lambda w: w.bind(state="pending"), "never-accepted", ()),
    ("a person asked", lambda w: w.bind(rotate=True), "manual", ()),
    ("0a: another process", lambda w: w.prints(runtime="x"), "runtime-changed", ()),
    ("0a: another runtime", lambda w: w.bind(runtime="other"), "runtime-changed", ()),
    ("1b: web search, for good", lambda w: w.prints(web_search="x"), "web-search-changed", ()),
    ("2: no engine stored", lambda w: w.bind(engine=None), "missing-projection-binding", ("engine",)),
    ("2: no engine now", lambda w: w.expect(engine=None), "context-engine-binding-mismatch", ("engine",)),
    (
        "2: another engine",
        lambda w: w.bind(engine=replace(held_engine(w), engine_id="x")),
        "context-engine-binding-mismatch",
        ("engine",),
    ),
    (
        "2: another schema",
        lambda w: w.bind(engine=replace(held_engine(w), schema_version=2)),
        "context-engine-binding-mismatch",
        ("engine",),
    ),
    (
        "2: another policy",
        lambda w: w.bind(engine=replace(held_engine(w), policy_fingerprint=OTHER_POLICY)),
        "context-engine-binding-mismatch",
        ("policy",),
    ),
    (
        "2: no projection stored",
        lambda w: w.bind(engine=replace(held_engine(w), projection=None)),
        "missing-projection-binding",
        ("projection",),
    ),
    (
        "2: another projection schema",
        lambda w: w.bind(
            engine=replace(held_engine(w), projection=ThreadProjection(epoch_of(PARTS), schema_version=2))
        ),
        "projection-mismatch",
        ("fingerprint",),
    ),
    (
        "2: another fingerprint",
        lambda w: w.bind(engine=replace(held_engine(w), projection=ThreadProjection(epoch_of(PARTS), "f"))),
        "projection-mismatch",
        ("fingerprint",),
    ),
    (
        "2: an epoch that nothing is known of",
        lambda w: w.bind(parts={}, engine=replace(held_engine(w), projection=ThreadProjection("x"))),
        "projection-mismatch",
        ("epoch",),
    ),
    ("2: other instructions", lambda w: w.told(client="x"), "projection-mismatch", ("client",)),
    ("2: something forgotten", lambda w: w.told(memory="2"), "projection-mismatch", ("memory",)),
    ("not known what it saw", lambda w: w.bind(covered_through=None), "coverage-unknown", ()),
    ("it saw what is not there", lambda w: w.bind(covered_through=9), "transcript-rewound", ()),
    ("3: MCP of the user", lambda w: w.prints(user_mcp="x"), "user-mcp-changed", ()),
    ("3: MCP never stored", lambda w: w.prints(user_mcp=None), "user-mcp-changed", ()),
    ("4: environment", lambda w: w.prints(environment="x"), "environment-changed", ()),
    ("5: MCP servers", lambda w: w.prints(mcp_servers="x"), "mcp-servers-changed", ()),
    ("5b: proxy", lambda w: w.prints(network="x"), "network-changed", ()),
    ("6: plugin apps", lambda w: w.prints(plugin_apps="x"), "plugin-apps-changed", ()),
    ("6b: deferral", lambda w: w.prints(tools_deferred=True), "tools-deferral-changed", ()),
    ("7: tools", lambda w: w.prints(tools="x"), "dynamic-tools-mismatch", ("tools",)),
    ("7: it had none", lambda w: w.prints(tools=NO_TOOLS.full), "dynamic-tools-mismatch", ("tools",)),
    (
        "token guard",
        lambda w: w.bind(tokens=ThreadTokens(241_198, "last", 258_400)),
        "token-guard",
        ("size",),
    ),
]
TRANSIENT: list[tuple[str, Change, str]] = [
    ("1: no native tools", lambda w: w.can(native_tools=False), "native-tools-disabled"),
    (
        "1b: web search, for now",
        lambda w: w.prints(web_search="x").can(web_search_stays=False),
        "web-search-restricted",
    ),
    ("7: no tools now", lambda w: w.expect(tools=NO_TOOLS), "dynamic-tools-mismatch"),
    ("adopted elsewhere", lambda w: w.can(in_use_elsewhere=True), "in-use-elsewhere"),
]
STAYS: list[tuple[str, Change]] = [
    ("the same", lambda w: w),
    ("account", lambda w: w.expect(auth_profile="private")),
    ("model", lambda w: w.expect(model="gpt-6")),
    ("5: MCP servers not looked at", lambda w: w.now(mcp_servers=None)),
    ("6: apps could not be checked", lambda w: w.now(plugin_apps=None)),
    ("7: tools never stored", lambda w: w.prints(tools=None)),
    ("7: tools in the legacy form", lambda w: w.prints(tools=TOOLS.legacy)),
    ("6b: deferral never stored", lambda w: w.prints(tools_deferred=None)),
    ("6b: deferral without tools", lambda w: w.expect(tools=NO_TOOLS).prints(tools=NO_TOOLS.full, tools_deferred=True)),
    ("0a: process never stored", lambda w: w.prints(runtime=None)),
    ("continuity", lambda w: w.told(continuity="new")),
    ("a summary of what it read", lambda w: w.told(summary="cmp2@7")),
    ("no summary any more", lambda w: w.told(summary=None)),
    ("no tokens known", lambda w: w.bind(tokens=None)),
    ("a file of any size", lambda w: replace(w.expect(thread_bytes=10**12), guards=Guards())),
    ("guards off", lambda w: replace(w.bind(tokens=ThreadTokens(10**9, "last", 1)), guards=Guards("off"))),
]


PROJECTION_REASONS: list[tuple[Change, str]] = [
    (lambda w: w.expect(engine=replace(engine_of(w), projection=None)), "per-turn-projection"),
    (lambda w: replace(w, binding=None), "missing-thread-binding"),
    (lambda w: w.can(native_tools=False), "missing-thread-binding"),
    (lambda w: w.bind(engine=None), "missing-projection-binding"),
    (lambda w: w.expect(engine=None), "context-engine-binding-mismatch"),
    (lambda w: w.bind(engine=replace(held_engine(w), engine_id="x")), "context-engine-binding-mismatch"),
    (lambda w: w.prints(tools="x"), "dynamic-tools-mismatch"),
    (lambda w: w.told(client="x"), "projection-mismatch"),
    (lambda w: w, "matching-thread-bootstrap-binding"),
    (lambda w: w.prints(environment="x"), "fresh-thread"),
    (lambda w: w.told(**{"file:USER.md": "x"}), "appended-context"),
    (lambda w: w.expect(engine=None).bind(engine=None), "no-active-engine"),
]


class TestRows:
    @pytest.mark.parametrize(("change", "reason", "of"), [row[1:] for row in ROTATIONS], ids=[r[0] for r in ROTATIONS])
    def test_each_row_alone_rotates(self, change: Change, reason: str, of: tuple[str, ...]) -> None:
        """The binding gives way, the new thread is told everything, and the one reason is named."""
        decision = change(World()).decide()

        assert (decision.action, decision.clear, decision.persist) == ("start", "thr_1", True)
        assert decision.reasons == (decision.reason,) == (reason,)
        assert decision.differences[0].of == of
        assert (decision.thread_id, decision.warm, decision.rotated) == (None, False, True)

    @pytest.mark.parametrize(("change", "reason"), [row[1:] for row in TRANSIENT], ids=[row[0] for row in TRANSIENT])
    def test_each_row_alone_is_transient(self, change: Change, reason: str) -> None:
        """Trap b: the thread of this turn is told everything, and the binding stays as it is."""
        decision = change(World()).decide()

        assert (decision.action, decision.project, decision.view) == ("transient", "full", "assembled")
        assert (decision.clear, decision.persist, decision.reasons) == (None, False, (reason,))

    @pytest.mark.parametrize("change", [row[1] for row in STAYS], ids=[row[0] for row in STAYS])
    def test_what_does_not_rotate(self, change: Change) -> None:
        """The thread goes on, and its input is the bare prompt."""
        decision = change(World()).decide()

        assert (decision.action, decision.project, decision.clear) == ("resume", "none", None)
        assert decision.thread_id == "thr_1"
        assert decision.reasons == ("matching-thread-bootstrap-binding",)

    def test_without_a_binding_a_thread_begins(self) -> None:
        """Row 0: it is told everything, and bound."""
        decision = replace(World(), binding=None).decide()

        assert (decision.action, decision.project, decision.persist) == ("start", "full", True)
        assert (decision.reasons, decision.clear) == (("missing-thread-binding",), None)

    @pytest.mark.parametrize(
        ("able", "reason"),
        [({"native_tools": False}, "native-tools-disabled"), ({"in_use_elsewhere": True}, "in-use-elsewhere")],
    )
    def test_nothing_of_a_restricted_turn_is_bound(self, able: dict[str, bool], reason: str) -> None:
        """Nor where another process is about to bind a thread."""
        decision = replace(World(), binding=None).can(**able).decide()

        assert (decision.action, decision.project, decision.persist) == ("transient", "full", False)
        assert (decision.reason, decision.reasons) == (reason, ("missing-thread-binding", reason))

    def test_a_restricted_turn_never_changes_a_binding(self) -> None:
        """Whatever else differs: the next turn decides about it."""
        decision = World().prints(runtime="x", environment="y").can(native_tools=False).decide()

        assert (decision.action, decision.reason) == ("transient", "native-tools-disabled")
        assert decision.reasons == ("runtime-changed", "native-tools-disabled", "environment-changed")

    def test_a_row_above_decides(self) -> None:
        """Tools that are gone for this turn do not save a thread whose environment is another one."""
        decision = World().prints(environment="x").expect(tools=NO_TOOLS).decide()

        assert (decision.action, decision.reason) == ("start", "environment-changed")
        assert decision.reasons == ("environment-changed", "dynamic-tools-mismatch")

    def test_a_thread_at_work_elsewhere_is_forked(self) -> None:
        """Where the runtime can: it knows the conversation, and the binding stays with who has it."""
        decision = World().can(in_use_elsewhere=True, can_fork=True).decide()

        assert (decision.action, decision.project, decision.warm) == ("fork", "none", True)
        assert (decision.thread_id, decision.clear, decision.persist) == ("thr_1", None, False)
        assert World().prints(tools="x").can(in_use_elsewhere=True, can_fork=True).decide().action == "transient"

    @pytest.mark.parametrize("change", [row[1] for row in ROTATIONS], ids=[row[0] for row in ROTATIONS])
    def test_a_supervised_thread_is_never_replaced(self, change: Change) -> None:
        """It is gone on with, or a thread for this turn alone stands in."""
        decision = change(World().bind(scope="supervision")).decide()

        assert decision.action in {"resume", "transient"}
        assert decision.clear is None
        assert "token-guard" not in decision.reasons

    @pytest.mark.parametrize("state", ["per_turn", "none"])
    def test_both_without_a_projection_are_compatible(self, state: str) -> None:
        """The same engine sends its view with every turn; and without an engine there is none to send."""
        held = None if state == "none" else replace(engine_of(World()), projection=None)
        decision = World().expect(engine=held).bind(engine=held, covered_through=None).decide()

        assert decision.action == "resume"
        assert (decision.project, decision.reason) == (
            ("full", "per-turn-projection") if held else ("none", "no-active-engine")
        )

    def test_a_stored_projection_and_none_now(self) -> None:
        """One absent is a mismatch."""
        decision = World().expect(engine=replace(engine_of(World()), projection=None)).decide()

        assert (decision.action, decision.project) == ("start", "full")
        assert (decision.reason, decision.projection_reason) == ("projection-mismatch", "per-turn-projection")
        assert decision.differences[0].of == ("mode",)


class TestProjectionReasons:
    """The seven of a binding alone, in their order; and the three that follow from the whole decision."""

    @pytest.mark.parametrize(
        ("change", "reason"),
        PROJECTION_REASONS,
    )
    def test_each_is_reached(self, change: Change, reason: str) -> None:
        """Each decision has one."""
        assert change(World()).decide().projection_reason == reason

    def test_a_bootstrap_without_an_epoch_is_sent_with_every_turn(self) -> None:
        """And is warned of."""
        for epoch in ("", "  \n"):
            expected = expected_of(input_seq=1, policy=POLICY, epoch=epoch)
            decision = decide(None, expected, Guards(), ABLE)

            assert not expected.bootstraps
            assert (decision.projection_reason, decision.warnings) == ("per-turn-projection", (NO_EPOCH,))

    def test_the_engine_that_passes_through_is_none(self) -> None:
        """Its id says so."""
        assert expected_of(input_seq=1, policy=EnginePolicy("legacy"), epoch="e").engine is None


class TestDelta:
    def test_a_file_that_changed_is_told_to_the_warm_thread(self) -> None:
        """Changed, new or gone: all else being equal."""
        for value in ("x", None):
            decision = World().told(**{"file:USER.md": value}).decide()

            assert (decision.action, decision.project, decision.told) == ("resume", "delta", ("file:USER.md",))
        assert World().told(**{"file:MEMORY.md": "x"}).decide().told == ("file:MEMORY.md",)

    def test_messages_that_it_has_not_seen(self) -> None:
        """From where it has seen the transcript."""
        decision = World().bind(covered_through=5).decide()

        assert (decision.action, decision.project, decision.since) == ("resume", "delta", 5)
        assert decision.reason == "appended-context"

    def test_marks_alone_are_nothing_to_tell(self) -> None:
        """A number that has passed need not have been a message."""
        assert World().bind(covered_through=5).expect(last_seq=5).decide().project == "none"

    def test_a_summary_of_what_it_has_not_read(self) -> None:
        """Its messages are not in view any more, so it is told."""
        decision = World().bind(covered_through=5).told(summary="cmp2@7").decide()

        assert (decision.action, decision.told, decision.since) == ("resume", ("summary",), 5)

    def test_what_was_told_with_other_words_cannot_be_taken_back(self) -> None:
        """A file that changed does not help where instructions did as well."""
        decision = World().told(**{"file:USER.md": "x", "client": "y"}).decide()

        assert (decision.action, decision.project, decision.told) == ("start", "full", ())

    def test_the_epochs_of_others_are_compared_as_they_are(self) -> None:
        """Nothing tells that one was only added to, unless it is made of the parts that are known."""
        other = ThreadProjection("epoch 2")
        world = World().expect(engine=replace(engine_of(World()), projection=other))

        assert world.decide().reasons == ("projection-mismatch",)

    def test_parts_of_a_prompt(self) -> None:
        """From the fingerprints of its prefix; tools have their own, and a summary is told with its last message."""
        prefix = {"instructions": "1", "USER.md": "2", "continuity": "3", "client instructions": "4", "compaction": "5",
                  "tools": "6"}  # fmt: skip
        parts = epoch_parts(prefix, StandingSummary("cmp_1", 40, "…"), "7")

        assert parts == {"instructions": "1", "file:USER.md": "2", "continuity": "3", "client": "4",
                         "summary": "cmp_1@40", "memory": "7"}  # fmt: skip
        assert epoch_of(parts) == epoch_of(dict(reversed(list(parts.items()))))
        assert "memory" not in epoch_parts(prefix, None)

    @given(st.dictionaries(st.sampled_from(["file:A", "summary", "client", "continuity", "x"]), st.text(max_size=4)))
    def test_the_same_parts_have_nothing_to_tell(self, parts: dict[str, str]) -> None:
        """Whatever they are."""
        assert compare_parts(parts, parts, 0).told == compare_parts(parts, parts, 0).conflicts == ()


class TestGuards:
    def test_a_compatible_bootstrap_of_86_000_tokens_resumes_bare(self) -> None:
        """Size is a fuse, and identity decides."""
        decision = World().bind(tokens=ThreadTokens(86_000, "last")).decide()

        assert (decision.action, decision.project) == ("resume", "none")
        assert (decision.fullness.tokens, decision.fullness.limit) == (86_000, 279_600)

    def test_a_thread_of_241_198_of_258_400_tokens_begins_anew_and_is_told_everything(self) -> None:
        """The headroom is 20,000 tokens and the turn."""
        decision = World().bind(tokens=ThreadTokens(241_198, "last", 258_400)).decide()

        assert (decision.action, decision.project, decision.reasons) == ("start", "full", ("token-guard",))
        assert decision.fullness.limit == 238_000
        assert World().bind(tokens=ThreadTokens(237_999, "last", 258_400)).decide().action == "resume"

    def test_the_byte_guard_yields_to_a_compatible_bootstrap_of_an_active_engine(self) -> None:
        """And to nothing else: not to a view that is sent with every turn, nor to a thread without an engine."""
        limited = replace(World().expect(thread_bytes=20), guards=Guards(bytes_max=20))
        per_turn = replace(engine_of(World()), projection=None)

        assert limited.decide().action == "resume"
        assert limited.prints(environment="x").decide().reasons == ("environment-changed",)
        assert limited.expect(engine=per_turn).bind(engine=per_turn).decide().reasons == ("byte-guard",)
        assert limited.expect(engine=None).bind(engine=None).decide().reasons == ("byte-guard",)
        assert limited.expect(engine=None).decide().reasons == ("context-engine-binding-mismatch", "byte-guard")
        assert limited.told(client="x").decide().reasons == ("projection-mismatch", "byte-guard")

    @pytest.mark.parametrize(("tokens", "window", "action"), [
        (69_999, None, "resume"), (70_000, None, "start"), (200_000, 258_400, "resume"), (238_000, 258_400, "start"),
    ])  # fmt: skip
    def test_a_thread_without_a_projection_keeps_its_guard(self, tokens: int, window: int | None, action: str) -> None:
        """70,000 where no window is known; else the window that was reported, with headroom for the turn."""
        world = World().expect(engine=None).bind(engine=None, tokens=ThreadTokens(tokens, "total", window))

        assert world.decide().action == action

    def test_a_smaller_model_is_guarded_by_its_own_window(self) -> None:
        """What was reported for the model before it does not count."""
        world = World().bind(tokens=ThreadTokens(120_000, "last", 400_000, "gpt-5"))

        assert world.expect(model="gpt-mini", window_tokens=128_000).decide().reasons == ("token-guard",)
        assert world.decide().action == "resume"


class TestTraps:
    @pytest.mark.parametrize("change", [row[1] for row in ROTATIONS], ids=[row[0] for row in ROTATIONS])
    def test_a_the_optimistic_projection(self, change: Change) -> None:
        """Trap a: whatever row ends in a thread that begins, the text of its turn holds the conversation."""
        world = change(World())
        decision = world.decide()
        sent = project(decision, Bootstrap("", (Seen(1, Message("user", "the kiln")),), Message("user", "hm?")))

        stale = world.expected.engine is None
        assert ("the kiln" in sent.text) is not stale

    def test_c_a_stale_bootstrap_without_an_engine(self) -> None:
        """Trap c: it is not exempt, and what was mirrored of it is not told; of a view sent with each turn it is."""
        limited = replace(World().expect(engine=None, thread_bytes=1), guards=Guards(bytes_max=1))
        stale, per_turn = limited, limited.bind(engine=replace(held_engine(World()), projection=None))

        assert "byte-guard" in stale.decide().reasons
        assert (stale.decide().action, stale.decide().project, stale.decide().view) == ("start", "none", "none")
        assert per_turn.decide().action == "start"
        assert (per_turn.decide().project, per_turn.decide().view) == ("full", "mirrored")

    def test_d_tools_that_only_the_owner_may_use(self) -> None:
        """Trap d: the superset that is registered is compared, so turns of 74 and of 71 tools go on in one thread."""
        registered: list[dict[str, Any]] = [{"name": f"tool_{number}", "inputSchema": {}} for number in range(74)]
        binding: ThreadBinding | None = None
        actions: list[str] = []
        for turn in range(10):
            allowed = registered if turn % 2 else registered[:71]
            assert len(allowed) in {71, 74}
            expected = replace(EXPECTED, tools=tools_fingerprint(registered), input_seq=9 + turn, last_seq=8)
            decision = decide(binding, expected, Guards(), ABLE)
            actions.append(decision.action)
            before = binding or bound("thr_1", "s1", expected, decision, SETTINGS, 1)
            binding = rebound(before, expected, decision, SETTINGS, 8, 2)

        assert actions == ["start", *["resume"] * 9]

    def test_f_a_stale_finisher(self) -> None:
        """Trap f: what a turn found wrong with its thread says nothing of the thread that is bound by now."""
        assert after_invalid_image(BINDING, "thr_1") == "thr_1"
        assert after_invalid_image(BINDING, "thr_2") is None
        assert after_invalid_image(BINDING, None) is None
        assert after_invalid_image(replace(BINDING, scope="supervision"), "thr_1") is None


class TestRefusals:
    def test_a_thread_that_cannot_be_resumed(self) -> None:
        """Row 9: another begins and is told everything; a connection that closed says nothing of the thread."""
        decision = World().decide()
        again = after_resume_failure(decision, BINDING, EXPECTED, "refused")

        assert again is not None
        assert (again.action, again.project, again.clear) == ("start", "full", "thr_1")
        assert (again.reasons, again.projection_reason) == (("resume-failed",), "fresh-thread")
        assert after_resume_failure(decision, BINDING, EXPECTED, "connection-closed") is None
        assert after_resume_failure(decision, BINDING, EXPECTED, "aborted") is None
        assert after_resume_failure(again, BINDING, EXPECTED, "refused") is None

    def test_a_thread_that_cannot_be_forked(self) -> None:
        """It belongs to another process: one for this turn alone stands in."""
        decision = World().can(in_use_elsewhere=True, can_fork=True).decide()
        again = after_resume_failure(decision, BINDING, EXPECTED, "refused")

        assert again is not None
        assert (again.action, again.project, again.clear) == ("transient", "full", None)
        assert again.reasons == ("in-use-elsewhere", "resume-failed")

    def test_a_window_that_overflows_after_a_resume(self) -> None:
        """Row 10: one other thread, told everything; a second time, or without an engine, it is an error."""
        decision = World().decide()
        again = after_overflow(decision, BINDING, EXPECTED)

        assert again is not None
        assert (again.action, again.project, again.clear) == ("start", "full", "thr_1")
        assert again.reasons == ("window-overflow",)
        assert after_overflow(again, BINDING, EXPECTED) is None
        assert after_overflow(decision, BINDING, replace(EXPECTED, engine=None)) is None

    def test_a_supervised_thread_that_overflows_stays(self) -> None:
        """A thread for this turn alone stands in."""
        watched = replace(BINDING, scope="supervision")
        again = after_overflow(World(binding=watched).decide(), watched, EXPECTED)

        assert again is not None
        assert (again.action, again.clear) == ("transient", None)

    @pytest.mark.parametrize("message", [
        "Codex ran out of room in the model's context window.", "maximum context is 258400", "Too many tokens",
        "input exceeds the context length",
    ])  # fmt: skip
    def test_what_says_that_it_overflows(self, message: str) -> None:
        """In any case of letters."""
        assert says_overflow(message)
        assert not says_overflow("rate limit reached")


class TestAfterwards:
    def test_the_account_of_a_binding_outlives_it(self) -> None:
        """Asked for, else the binding's, also when that gives way."""
        full = World().bind(tokens=ThreadTokens(10**6, "last"))

        assert full.decide().auth_profile == "work"
        assert full.expect(auth_profile="private").decide().auth_profile == "private"

    def test_a_thread_that_was_resumed_has_what_it_was_resumed_with(self) -> None:
        """New fingerprints and settings; what was not looked at, and when it was made, stays."""
        world = World().now(mcp_servers=None, network="new").told(**{"file:USER.md": "x"})
        binding = rebound(BINDING, world.expected, world.decide(), SETTINGS, 9, 5_000)

        assert binding == replace(
            BINDING,
            engine=world.expected.engine,
            parts=world.expected.parts,
            fingerprints=replace(BINDING.fingerprints, network="new"),
            covered_through=9,
            settings=SETTINGS,
            updated_at_ms=5_000,
        )

    def test_a_new_thread_is_pending_until_its_first_turn_is_accepted(self) -> None:
        """Then the next turn goes on in it, bare."""
        decision = replace(World(), binding=None).decide()
        binding = bound("thr_2", "s1", EXPECTED, decision, SETTINGS, 5_000)

        assert (binding.state, decide(binding, EXPECTED, Guards(), ABLE).reasons) == ("pending", ("never-accepted",))
        accepted = rebound(binding, EXPECTED, decision, SETTINGS, 9, 6_000)
        following = replace(EXPECTED, input_seq=11, last_seq=10)
        finished = replace(accepted, covered_through=10)
        assert (accepted.state, accepted.created_at_ms, accepted.covered_through) == ("active", 5_000, 9)
        assert decide(finished, following, Guards(), ABLE).project == "none"


ROWS = [change for _, change, *_ in ROTATIONS] + [change for _, change, _ in TRANSIENT] + [
    change for _, change in STAYS
]  # fmt: skip


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(range(len(ROWS))), max_size=6, unique=True),
    st.booleans(),
    st.booleans(),
    st.integers(0, 8),
)
def test_whatever_comes_together(rows: list[int], fork: bool, supervised: bool, covered: int) -> None:  # noqa: FBT001 (drawn)
    """A thread that begins is told everything; one that goes on differs in nothing; the reasons are all there."""
    world = World().bind(covered_through=covered, scope="supervision" if supervised else "session").can(can_fork=fork)
    for row in rows:
        try:
            world = ROWS[row](world)
        except AssertionError:  # a row above took away what this one changes
            continue
    decision = world.decide()
    binding = world.binding
    assert binding is not None
    found = [ORDER.index(each) for each in decision.reasons if each in ORDER]
    stale = world.expected.engine is None and binding.engine is not None and binding.engine.projection is not None

    assert decision == world.decide()
    assert found == sorted(set(found))
    assert (decision.action == "resume") == (not decision.differences)
    if not decision.warm:
        assert decision.project == ("none" if stale else "full")
    if decision.action == "start":
        assert (decision.clear, supervised) == ("thr_1", False)
    else:
        assert decision.clear is None
    if decision.warm:
        assert decision.project in {"none", "delta"} or decision.projection_reason == "per-turn-projection"
        assert decision.thread_id == "thr_1"
    assert world.able.native_tools or decision.action == "transient"
    assert not world.able.in_use_elsewhere or decision.action in {"fork", "transient"}
    for alone in rows:
        if alone < len(ROTATIONS) and rows == [alone]:
            assert ROTATIONS[alone][2] in decision.reasons or (supervised and ROTATIONS[alone][2] == "token-guard")


CONFIGURED_ROWS = [row for row in ROTATIONS if row[0][:1] in "0134567" or row[2] in {"manual", "never-accepted"}]


@given(st.sets(st.sampled_from(range(len(CONFIGURED_ROWS))), min_size=1))
def test_every_reason_is_told(rows: set[int]) -> None:
    """Not only the first: however many rows match, each of them is named, once, in order."""
    world = World()
    for row in sorted(rows):
        world = CONFIGURED_ROWS[row][1](world)

    expected = {CONFIGURED_ROWS[row][2] for row in rows}
    assert set(world.decide().reasons) == expected
    assert list(world.decide().reasons) == sorted(expected, key=ORDER.index)
