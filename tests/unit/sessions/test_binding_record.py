"""A thread binding as JSON, byte for byte, and what becomes of records that are not right."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reverie.sessions.binding_record import UNREADABLE, encode_binding, parse_binding
from reverie.types import (
    ThreadBinding,
    ThreadEngine,
    ThreadFingerprints,
    ThreadProjection,
    ThreadSettings,
    ThreadTokens,
)

WHOLE = ThreadBinding(
    thread_id="thr_1",
    session_id="s1",
    state="active",
    engine=ThreadEngine("reverie", "p" * 8, ThreadProjection("e1", "f1")),
    parts={"file:USER.md": "abc"},
    fingerprints=ThreadFingerprints(
        tools="t", tools_deferred=False, runtime="r", web_search="w", user_mcp="u", environment="e", mcp_servers="m",
        network="n", plugin_apps="a",
    ),
    covered_through=12,
    settings=ThreadSettings("gpt-5", "local", "/srv/notes", "never", "read-only", "flex"),
    auth_profile="work",
    tokens=ThreadTokens(86_000, "last", 258_400, "gpt-5"),
    created_at_ms=1_000,
    updated_at_ms=2_000,
)  # fmt: skip


def record(**changes: Any) -> str:
    return json.dumps(json.loads(encode_binding(WHOLE)) | changes)


def test_the_stored_form() -> None:
    """Compact JSON under OpenClaw's names, with what Reverie adds beside them."""
    assert encode_binding(WHOLE) == (
        '{"schemaVersion":1,"threadId":"thr_1","sessionId":"s1","state":"active","runtime":"codex",'
        '"authProfileId":"work","model":"gpt-5","modelProvider":"local","cwd":"/srv/notes","approvalPolicy":"never",'
        '"sandbox":"read-only","serviceTier":"flex","dynamicToolsFingerprint":"t","dynamicToolsContainDeferred":false,'
        '"appServerRuntimeFingerprint":"r","webSearchThreadConfigFingerprint":"w","userMcpServersFingerprint":"u",'
        '"environmentSelectionFingerprint":"e","mcpServersFingerprint":"m","networkProxyFingerprint":"n",'
        '"pluginAppsFingerprint":"a","contextEngine":{"schemaVersion":1,"engineId":"reverie",'
        '"policyFingerprint":"pppppppp","projection":{"schemaVersion":1,"mode":"thread_bootstrap","epoch":"e1",'
        '"fingerprint":"f1"}},"contextParts":{"file:USER.md":"abc"},"historyCoveredThrough":12,"tokenUsage":'
        '{"tokens":86000,"source":"last","contextWindow":258400,"model":"gpt-5"},"createdAtMs":1000,"updatedAtMs":2000}'
    )


def test_what_is_written_is_read() -> None:
    """Also a binding of which little is known; columns of their own win over the record."""
    little = ThreadBinding("thr_2", "s2", created_at_ms=5, updated_at_ms=5)

    assert parse_binding(encode_binding(WHOLE)).binding == WHOLE
    assert parse_binding(encode_binding(little)).binding == little
    moved = parse_binding(encode_binding(WHOLE), session_id="s9", fence=4, rotate=True).binding
    assert moved == replace(WHOLE, session_id="s9", fence=4, rotate=True)


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, []])
def test_an_unknown_schema_version_voids_the_record(version: object) -> None:
    """Whatever else it says, it is not understood, and the reason is told."""
    parsed = parse_binding(record(schemaVersion=version))

    assert parsed.binding is None
    assert parsed.reason.startswith("schema version ")


NO_THREAD = '{"schemaVersion":1,"threadId":" "}'


@pytest.mark.parametrize("text", ["", "no", "[]", "3", "null", '{"schemaVersion":1}', NO_THREAD, "[" * 100_000])
def test_what_is_no_record_is_ignored(text: str) -> None:
    """Damage never raises: the session begins anew, and the reason is told."""
    parsed = parse_binding(text)

    assert parsed.binding is None
    assert parsed.reason


@pytest.mark.parametrize(
    ("changes", "dropped", "left"),
    [
        ({"contextEngine": 3}, ("contextEngine",), replace(WHOLE, engine=None)),
        ({"contextEngine": {"schemaVersion": 2}}, ("contextEngine",), replace(WHOLE, engine=None)),
        (
            {"contextEngine": {"schemaVersion": 1, "engineId": "", "policyFingerprint": "p"}},
            ("contextEngine",),
            replace(WHOLE, engine=None),
        ),
        ({"contextParts": ["x"]}, ("contextParts",), replace(WHOLE, parts={})),
        ({"contextParts": {"x": 3}}, ("contextParts",), replace(WHOLE, parts={})),
        ({"tokenUsage": {"tokens": -1}}, ("tokenUsage",), replace(WHOLE, tokens=None)),
        ({"tokenUsage": "many"}, ("tokenUsage",), replace(WHOLE, tokens=None)),
        ({"historyCoveredThrough": "12"}, ("historyCoveredThrough",), replace(WHOLE, covered_through=None)),
        ({"authProfileId": 7}, ("authProfileId",), replace(WHOLE, auth_profile=None)),
        ({"cwd": {}}, ("cwd",), replace(WHOLE, settings=replace(WHOLE.settings, cwd=None))),
        ({"state": "perhaps"}, ("state",), replace(WHOLE, state="pending")),
        (
            {"environmentSelectionFingerprint": 5},
            ("environmentSelectionFingerprint",),
            replace(WHOLE, fingerprints=replace(WHOLE.fingerprints, environment=UNREADABLE)),
        ),
        (
            {"dynamicToolsFingerprint": []},
            ("dynamicToolsFingerprint",),
            replace(WHOLE, fingerprints=replace(WHOLE.fingerprints, tools=UNREADABLE)),
        ),
    ],
)
def test_a_malformed_part_is_dropped_alone(
    changes: dict[str, Any], dropped: tuple[str, ...], left: ThreadBinding
) -> None:
    """Everything else stays; a fingerprint that cannot be read is not taken for one that was never there."""
    parsed = parse_binding(record(**changes))

    assert (parsed.binding, parsed.dropped) == (left, dropped)


@pytest.mark.parametrize(
    "projection",
    [
        {"schemaVersion": 2, "mode": "thread_bootstrap", "epoch": "e"},
        {"schemaVersion": 1, "mode": "per_turn", "epoch": "e"},
        {"schemaVersion": 1, "mode": "thread_bootstrap", "epoch": "  "},
        {"schemaVersion": 1, "mode": "thread_bootstrap"},
        {"schemaVersion": 1, "mode": "thread_bootstrap", "epoch": "e", "fingerprint": 3},
        "e1",
    ],
)
def test_a_malformed_projection_is_dropped_and_its_engine_stays(projection: object) -> None:
    """So that the engine is still compared, and the projection that is missing counts as a mismatch."""
    engine = {"schemaVersion": 1, "engineId": "reverie", "policyFingerprint": "pppppppp", "projection": projection}
    parsed = parse_binding(record(contextEngine=engine))

    assert parsed.dropped == ("contextEngine.projection",)
    assert parsed.binding == replace(WHOLE, engine=ThreadEngine("reverie", "pppppppp"))


def test_a_legacy_fingerprint_of_tools_may_be_long() -> None:
    """OpenClaw 2026.5.28 stored the tools themselves."""
    text = "[" + ",".join(["{}"] * 5_000) + "]"
    parsed = parse_binding(record(dynamicToolsFingerprint=text))

    assert parsed.binding is not None
    assert parsed.binding.fingerprints.tools == text
    assert parsed.dropped == ()


anything: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = sorted(json.loads(encode_binding(WHOLE)))


@given(st.dictionaries(st.sampled_from(NAMES), anything, max_size=6))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_whatever_stands_in_a_record_it_is_read(changes: dict[str, Any]) -> None:
    """A binding or a reason; and what was read once is read again without anything dropped."""
    parsed = parse_binding(record(**changes), session_id="s1")

    assert (parsed.binding is None) == bool(parsed.reason)
    if parsed.binding is not None:
        again = parse_binding(encode_binding(parsed.binding), session_id=parsed.binding.session_id)
        assert (again.binding, again.dropped) == (parsed.binding, ())
