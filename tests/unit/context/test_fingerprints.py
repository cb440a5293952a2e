"""Fingerprints are equal when the same is meant, differ when it is not, and hold no secret."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.context.fingerprints import (
    NO_TOOLS,
    EnginePolicy,
    auth_fingerprint,
    config_fingerprint,
    digest,
    environment_fingerprint,
    is_empty_tools,
    mcp_fingerprint,
    sealed,
    stabilised,
    tools_fingerprint,
)
from reverie.context.threads import expected_of
from reverie.sessions.binding_record import encode_binding
from reverie.types import ThreadBinding, ThreadFingerprints

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from reverie.types import JsonObject

SEARCH: JsonObject = {
    "name": "memory_search",
    "description": "Looks.",
    "deferLoading": False,
    "inputSchema": {"type": "object", "properties": {"query": {"type": "string"}, "limit": {"type": "integer"}}},
}
APPEND: JsonObject = {
    "name": "memory_append",
    "description": "Writes.",
    "namespace": "memory",
    "inputSchema": {"type": "object"},
}


class TestPolicy:
    def test_the_example_byte_for_byte(self) -> None:
        """What is not set is left out; the fingerprint is the digest of exactly this text."""
        policy = EnginePolicy("lossless-claw", owns_compaction=True, projection_max_chars=24_000)
        text = '{"schemaVersion":1,"engineId":"lossless-claw","ownsCompaction":true,"projectionMaxChars":24000}'

        assert policy.canonical() == text
        assert policy.fingerprint() == hashlib.sha256(text.encode()).hexdigest()

    def test_every_field_in_its_order(self) -> None:
        """And `False` is something that is set."""
        policy = EnginePolicy("é", "1.2", False, "background", "auto", 200_000, 800_000)

        assert policy.canonical() == (
            '{"schemaVersion":1,"engineId":"é","engineVersion":"1.2","ownsCompaction":false,'
            '"turnMaintenanceMode":"background","citationsMode":"auto","contextTokenBudget":200000,'
            '"projectionMaxChars":800000}'
        )

    def test_a_budget_that_differs_is_another_policy(self) -> None:
        """The view would be another one."""
        assert EnginePolicy("a", context_token_budget=1).fingerprint() != EnginePolicy("a").fingerprint()


class TestTools:
    def test_their_order_is_nothing(self) -> None:
        """Neither that of the tools nor that of keys."""
        turned = dict(reversed(list(SEARCH.items())))

        assert tools_fingerprint([SEARCH, APPEND]) == tools_fingerprint([APPEND, turned])

    def test_the_whole_of_each_counts(self) -> None:
        """A description or a name space that changes makes other tools; the legacy form does not see it."""
        changed = tools_fingerprint([SEARCH | {"description": "Finds."}])
        before = tools_fingerprint([SEARCH])

        assert not changed.accepts(before.full)
        assert changed.legacy == before.legacy

    def test_the_legacy_form_is_accepted(self) -> None:
        """As OpenClaw 2026.5.28 stored it: sorted, without description, deferLoading and namespace, not hashed."""
        stored = (
            '[{"inputSchema":{"properties":{"limit":{"type":"integer"},"query":{"type":"string"}},"type":"object"},'
            '"name":"memory_search"},{"inputSchema":{"type":"object"},"name":"memory_append"}]'
        )

        assert tools_fingerprint([APPEND, SEARCH]).accepts(stored)
        assert not tools_fingerprint([SEARCH]).accepts(stored)
        assert not tools_fingerprint([APPEND, SEARCH]).accepts(stored.replace("integer", "string"))

    def test_a_thread_without_a_fingerprint_is_taken_to_have_them(self) -> None:
        """A thread that a person resumed elsewhere has none."""
        assert tools_fingerprint([SEARCH]).accepts(None)

    def test_no_tools_are_recognised(self) -> None:
        """In today's form and in the legacy one."""
        assert is_empty_tools(NO_TOOLS.full)
        assert is_empty_tools("[]")
        assert NO_TOOLS.accepts("[]")
        assert not is_empty_tools(tools_fingerprint([SEARCH]).full)
        assert NO_TOOLS.empty
        assert tools_fingerprint([SEARCH | {"deferLoading": True}]).deferred

    @given(st.lists(st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3), max_size=5), st.randoms())
    def test_any_order_of_anything(self, tools: list[dict[str, str]], shuffle: random.Random) -> None:
        """The same tools have one fingerprint, as a list of whatever order."""
        other = list(tools)
        shuffle.shuffle(other)

        assert tools_fingerprint(tools) == tools_fingerprint(other)


class TestTheRest:
    def test_the_order_of_environments_counts_and_that_of_servers_does_not(self) -> None:
        """The first environment is where a thread works; servers are known by name."""
        one, two = {"id": "local"}, {"id": "remote"}
        servers: dict[str, Any] = {"a": {"url": "x"}, "b": {"url": "y"}}

        assert environment_fingerprint([one, two]) != environment_fingerprint([two, one])
        assert mcp_fingerprint(servers) == mcp_fingerprint(dict(reversed(list(servers.items()))))

    def test_another_key_is_another_fingerprint(self) -> None:
        """A value that is sealed still counts."""
        before = mcp_fingerprint({"a": {"headers": {"Authorization": "Bearer one"}}})

        assert before != mcp_fingerprint({"a": {"headers": {"Authorization": "Bearer two"}}})

    def test_what_is_sealed(self) -> None:
        """The value of a header by its own digest, and nothing else."""
        told = sealed({"url": "http://h", "headers": {"Authorization": "Bearer s3cret"}, "apiKey": "k", "args": ["-v"]})

        assert told == {
            "url": "http://h",
            "headers": {"Authorization": f"sha256:{digest('Bearer s3cret')}"},
            "apiKey": f"sha256:{digest('k')}",
            "args": ["-v"],
        }

    def test_an_account_is_the_name_of_its_profile(self) -> None:
        """And nothing that a token or a password could be read from."""
        assert auth_fingerprint("work") == digest("auth:work")

    def test_a_value_however_deep(self) -> None:
        """What nobody configures does not end in an error."""
        deep: Any = "end"
        for _ in range(200):
            deep = [deep]

        assert len(config_fingerprint(deep)) == 64


secrets = st.text("QXZJKVWY", min_size=8, max_size=40).map(lambda text: f"S3C-{text}")
PLACES: list[Callable[[str], JsonObject]] = [
    lambda secret: {"headers": {"Authorization": f"Bearer {secret}"}},
    lambda secret: {"http_headers": {"X-Api-Key": secret}},
    lambda secret: {"env": {"HOME_TOKEN": secret, "PLAIN": secret}},
    lambda secret: {"bearer_token": secret},
    lambda secret: {"auth": {"password": [secret, {"inner": secret}]}},
    lambda secret: {"nested": {"headers": [{"name": "cookie", "value": secret}]}},
    lambda secret: {"client_secret": {"deep": {"deeper": secret}}},
]  # fmt: skip


@given(secrets, st.sampled_from(PLACES), st.text(max_size=8))
def test_no_secret_is_in_what_is_hashed_nor_in_a_stored_binding(
    secret: str, place: Callable[[str], JsonObject], name: str
) -> None:
    """Not raw, not in part: neither in the text before hashing nor anywhere in the record."""
    server = place(secret)
    expected = expected_of(
        input_seq=3,
        policy=EnginePolicy("reverie"),
        parts={"file:USER.md": digest(secret)},
        tools=tools_fingerprint([SEARCH]),
        fingerprints=ThreadFingerprints(
            user_mcp=mcp_fingerprint({name: server}),
            environment=environment_fingerprint([server]),
            network=config_fingerprint(server),
            runtime=config_fingerprint({"name": name, **server}),
        ),
        auth_profile="work",
    )
    stored = encode_binding(
        ThreadBinding("t", "s", engine=expected.engine, parts=expected.parts, fingerprints=expected.fingerprints)
    )
    hashed = stabilised(sealed(server))

    for text in (stored, hashed):
        assert not any(secret[start : start + 6] in text for start in range(4, len(secret) - 5))
        assert "S3C-" not in text


def test_a_stable_superset_does_not_flip() -> None:
    """Owner-only tools that come and go in turns are registered all the time: 74 tools or 71, one fingerprint."""
    registered: list[JsonObject] = [{"name": f"tool_{number}", "inputSchema": {}} for number in range(74)]
    allowed = [registered, registered[:71]] * 5

    assert {tools_fingerprint(registered).full for _ in allowed} == {tools_fingerprint(registered).full}
    assert len({tools_fingerprint(each).full for each in allowed}) == 2


@pytest.mark.parametrize("value", [None, [], {}, "", 0, False, {"a": None}])
def test_nothing_is_something_too(value: object) -> None:
    """An empty configuration has a fingerprint, which is not that of another."""
    assert config_fingerprint(value) == digest(json.dumps(value, separators=(",", ":")))
