"""Which agent and session a request means."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import RequestError, UnknownModelError
from reverie.gateway.routing import (
    KEY_CHARACTERS_MAX,
    Route,
    RoutingRules,
    agent_of_model,
    header_value,
    normalise_agent,
    route,
    routing_headers,
)
from reverie.types import SessionKey

AGENTS = ("main", "beta")
FRESH = "5f0c"


@dataclass(frozen=True)
class Case:
    """A request, and the key and agent it must get."""

    name: str
    key: str
    agent: str = "main"
    headers: dict[str, str] = field(default_factory=dict[str, str])
    model: str = "reverie"
    user: str | None = None
    main_key: str = "main"
    user_field: Literal["session", "metadata", "off"] = "session"


def routed(case: Case) -> Route:
    """Where a case goes."""
    rules = RoutingRules(AGENTS, case.main_key, case.user_field)
    return route(case.headers, model=case.model, user=case.user, rules=rules, request_id=FRESH)


def where(headers: dict[str, str] | None = None, **request: Any) -> Route:
    """Where a request goes."""
    return routed(Case("", "", headers=headers or {}, **request))


SCOPE = "x-openclaw-dm-scope"
OUR_SCOPE = "x-reverie-dm-scope"
KEY = "x-openclaw-session-key"
OUR_KEY = "x-reverie-session-key"
CHANNEL = "x-openclaw-message-channel"

TRUTH_TABLE = [
    # 1. an explicit key
    Case("key", "my:Key", headers={KEY: "my:Key"}),
    Case("our key wins", "ours", headers={KEY: "theirs", OUR_KEY: "ours"}),
    Case("key beats dm-scope", "k", headers={KEY: "k", SCOPE: "main"}),
    Case("key beats user", "k", headers={KEY: "k"}, user="main"),
    Case("key keeps the header's agent", "k", "beta", headers={KEY: "k", "x-openclaw-agent-id": "beta"}),
    Case("key names its agent", "agent:beta:Custom", "beta", headers={KEY: "agent:beta:Custom"}),
    Case("key agrees with model", "agent:beta:x", "beta", headers={KEY: "agent:beta:x"}, model="openclaw:beta"),
    Case("key of an agent we do not have", "agent:gone:x", headers={KEY: "agent:gone:x"}),
    Case("key in another script", "会話", headers={KEY: "会話"}),
    # 2. the main session, and the other scopes of direct messages
    Case("scope main", "agent:main:main", headers={SCOPE: "main"}),
    Case("scope main of an agent", "agent:beta:main", "beta", headers={SCOPE: "main"}, model="openclaw/beta"),
    Case("scope main beats user", "agent:main:main", headers={SCOPE: "main"}, user="alice"),
    Case("user main", "agent:main:main", user="main"),
    Case("user main is trimmed", "agent:main:main", user=" main "),
    Case("user Main is a name", "agent:main:openai-user:main", user="Main"),
    Case("user openclaw is a name", "agent:main:openai-user:openclaw", user="openclaw"),
    Case("configured main key", "agent:main:home", headers={SCOPE: "main"}, main_key="home"),
    Case("configured main key by user", "agent:main:home", user="main", main_key="home"),
    Case("our scope wins", "agent:main:direct:al", headers={SCOPE: "main", OUR_SCOPE: "per-peer"}, user="al"),
    Case("per-peer", "agent:main:direct:alice", headers={SCOPE: "per-peer"}, user="Alice"),
    Case("per-peer named main", "agent:main:direct:main", headers={SCOPE: "per-peer"}, user="main"),
    Case(
        "per-channel-peer",
        "agent:main:telegram:direct:al",
        headers={SCOPE: "per-channel-peer", CHANNEL: "Telegram"},
        user="al",
    ),
    Case("per-channel-peer at home", "agent:main:webchat:direct:al", headers={SCOPE: "per-channel-peer"}, user="al"),
    Case(
        "per-account-channel-peer",
        "agent:main:slack:work:direct:al",
        headers={SCOPE: "per-account-channel-peer", CHANNEL: "slack", "x-openclaw-account-id": "Work"},
        user="al",
    ),
    Case(
        "per-account-channel-peer without account",
        "agent:main:webchat:default:direct:al",
        headers={SCOPE: "per-account-channel-peer"},
        user="al",
    ),
    Case("scope request", "agent:main:openai:5f0c", headers={SCOPE: "request"}, user="main"),
    # 3. the user
    Case("user", "agent:main:openai-user:alice", user="alice"),
    Case("user in capitals", "agent:main:openai-user:alice", user="Alice"),
    Case("user of an agent", "agent:beta:openai-user:al", "beta", user="al", model="agent:beta"),
    # 4. nothing
    Case("nothing", "agent:main:openai:5f0c"),
    Case("blank user", "agent:main:openai:5f0c", user="  "),
    Case("user is metadata", "agent:main:openai:5f0c", user="alice", user_field="metadata"),
    Case("user is off", "agent:main:openai:5f0c", user="main", user_field="off"),
    Case("scope main with user off", "agent:main:main", headers={SCOPE: "main"}, user_field="off"),
    # the agent
    Case("model in capitals", "agent:beta:main", "beta", headers={SCOPE: "main"}, model="OpenClaw:BETA"),
    Case("our model", "agent:beta:main", "beta", headers={SCOPE: "main"}, model="reverie/beta"),
    Case("default agent", "agent:main:main", headers={SCOPE: "main"}, model="openclaw/default"),
    Case(
        "header beats model",
        "agent:main:main",
        headers={SCOPE: "main", "x-openclaw-agent": "main"},
        model="openclaw/beta",
    ),
    Case(
        "agent-id beats agent",
        "agent:beta:main",
        "beta",
        headers={SCOPE: "main", "x-openclaw-agent": "main", "x-openclaw-agent-id": "beta"},
    ),
    Case(
        "our agent beats theirs",
        "agent:beta:main",
        "beta",
        headers={SCOPE: "main", "x-openclaw-agent-id": "main", "x-reverie-agent": "beta"},
    ),
    Case("agent is normalised", "agent:beta:main", "beta", headers={SCOPE: "main", "x-openclaw-agent": "-Beta!"}),
]


@pytest.mark.parametrize("case", TRUTH_TABLE, ids=lambda case: case.name)
def test_truth_table(case: Case) -> None:
    """Headers, user and model decide agent and session key as the table says."""
    assert routed(case).session == SessionKey(case.agent, case.key)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("", "", headers={KEY: "k"}), "x-openclaw-session-key names the session"),
        (Case("", "", headers={OUR_KEY: "agent:beta:k"}), "x-reverie-session-key names the session and its agent"),
        (Case("", "", headers={OUR_SCOPE: "main"}), "x-reverie-dm-scope is main"),
        (Case("", "", user="main"), "user is main"),
        (Case("", "", user="alice"), "user names the session"),
        (Case("", ""), "nothing names a session: one of its own"),
    ],
)
def test_a_route_says_why(case: Case, reason: str) -> None:
    """The decision carries its reason."""
    assert routed(case).reason == reason


MODEL_ERROR = "Invalid `model`. Use `reverie`, `reverie/<agentId>`, `openclaw` or `openclaw/<agentId>`."


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("openai/", MODEL_ERROR),
        ("gpt-5", MODEL_ERROR),
        ("reverie/", MODEL_ERROR),
        ("agent:", MODEL_ERROR),
        ("reverie/-x", MODEL_ERROR),
        (f"reverie/{'x' * 65}", MODEL_ERROR),
        ("openclaw/", "Invalid `model`. Use `openclaw` or `openclaw/<agentId>`."),
        ("OpenClaw//x", "Invalid `model`. Use `openclaw` or `openclaw/<agentId>`."),
    ],
)
def test_a_model_that_is_no_agent_target_is_refused(model: str, message: str) -> None:
    """Who says openclaw gets OpenClaw's sentence; everybody else gets ours, which names both."""
    with pytest.raises(RequestError) as caught:
        where({"x-openclaw-agent-id": "main"}, model=model)
    assert (str(caught.value), caught.value.param, caught.value.status) == (message, "model", 400)


@pytest.mark.parametrize(
    ("headers", "model", "param"),
    [({}, "reverie/nobody", "model"), ({"x-reverie-agent": "nobody"}, "reverie", "x-reverie-agent")],
)
def test_an_unknown_agent_is_not_found(headers: dict[str, str], model: str, param: str) -> None:
    """A well-formed name of no agent is a 404 that lists the agents."""
    with pytest.raises(UnknownModelError) as caught:
        where(headers, model=model)
    error = caught.value
    assert (str(error), error.param, error.code, error.status) == (
        "The agent 'nobody' does not exist. Agents: main, beta.",
        param,
        "model_not_found",
        404,
    )


@pytest.mark.parametrize(
    ("headers", "user", "message"),
    [
        (
            {SCOPE: "Main"},
            None,
            (
                "Invalid `x-openclaw-dm-scope`. Use one of `main`, `per-peer`, `per-channel-peer`, "
                "`per-account-channel-peer`, `request`."
            ),
        ),
        (
            {KEY: "k", OUR_SCOPE: "nonsense"},
            None,
            (
                "Invalid `x-reverie-dm-scope`. Use one of `main`, `per-peer`, `per-channel-peer`, "
                "`per-account-channel-peer`, `request`."
            ),
        ),
        ({SCOPE: "per-peer"}, None, "`x-openclaw-dm-scope: per-peer` needs `user`."),
        ({KEY: "a\x07b"}, None, "`x-openclaw-session-key` must not contain control characters."),
        ({KEY: "a\u2028b"}, None, "`x-openclaw-session-key` must not contain control characters."),
        ({KEY: "k" * 513}, None, "`x-openclaw-session-key` may have at most 512 characters."),
        ({}, "a\nb", "`user` must not contain control characters."),
        ({}, "u" * 513, "The session key would be longer than 512 characters."),
        (
            {KEY: "agent:beta:x", "x-openclaw-agent": "main"},
            None,
            "`x-openclaw-session-key` belongs to the agent 'beta', but the request names 'main'.",
        ),
        ({"x-openclaw-model": "a b"}, None, "Invalid `x-openclaw-model`."),
        ({"x-reverie-model": "openai/"}, None, "Invalid `x-reverie-model`."),
        ({"x-openclaw-model": "m" * 257}, None, "Invalid `x-openclaw-model`."),
    ],
)
def test_headers_that_are_not_understood_are_refused(headers: dict[str, str], user: str | None, message: str) -> None:
    """Nothing is silently ignored."""
    with pytest.raises(RequestError) as caught:
        where(headers, user=user)
    assert (str(caught.value), caught.value.status) == (message, 400)


def test_peers_of_unknown_channels_are_not_mixed() -> None:
    """A channel we do not know is no part of a key, since all of them would share one session."""
    with pytest.raises(RequestError, match="needs a known channel: discord, feishu"):
        where({SCOPE: "per-channel-peer", CHANNEL: "pigeon"}, user="al")


@pytest.mark.parametrize(
    ("headers", "override", "channel"),
    [
        ({}, None, "webchat"),
        ({"x-openclaw-model": "openai/gpt-5"}, "openai/gpt-5", "webchat"),
        ({"x-openclaw-model": "gpt-5", "x-reverie-model": "qwen3:8b"}, "qwen3:8b", "webchat"),
        ({CHANNEL: "pigeon"}, None, "webchat"),
        ({CHANNEL: "Signal"}, None, "signal"),
    ],
)
def test_model_override_and_channel(headers: dict[str, str], override: str | None, channel: str) -> None:
    """The backend model and the channel come from their headers; an unknown channel is the web chat."""
    found = where(headers)
    assert (found.model_override, found.channel) == (override, channel)


@pytest.mark.parametrize(
    ("name", "agent"),
    [("Beta", "beta"), (" a b!c ", "a-b-c"), ("--x--", "x"), ("Ä", "main"), ("", "main"), ("y" * 70, "y" * 64)],
)
def test_agent_names_are_normalised(name: str, agent: str) -> None:
    """Lower case, dashes for what is not allowed, at most 64 characters, never empty."""
    assert normalise_agent(name) == agent


def test_an_agent_may_be_called_default() -> None:
    """`openclaw/default` means the default agent unless one of that name exists."""
    assert (agent_of_model("openclaw/default", ("main",)), agent_of_model("openclaw/default", ("main", "default"))) == (
        None,
        "default",
    )


def test_only_routing_headers_are_read() -> None:
    """They are trimmed, blank ones do not count, the first of a name wins, and UTF-8 is understood."""
    headers = [
        (b"user-agent", b"x"),
        (b"x-openclaw-session-key", b"   "),
        (b"x-reverie-session-key", " 会話 ".encode()),
        (b"x-openclaw-agent", b"main"),
        (b"x-openclaw-agent", b"beta"),
    ]
    assert routing_headers(headers) == {"x-reverie-session-key": "会話", "x-openclaw-agent": "main"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("agent:main:openai-user:a%b c", "agent:main:openai-user:a%b c"),
        ("agent:main:会%", "agent:main:%E4%BC%9A%25"),
    ],
)
def test_a_key_in_a_header_is_ascii(key: str, value: str) -> None:
    """A key that is not ASCII is percent-encoded as UTF-8."""
    assert header_value(key) == value


@given(
    st.dictionaries(st.sampled_from([KEY, OUR_KEY, SCOPE, CHANNEL, "x-openclaw-agent", "x-reverie-model"]), st.text()),
    st.one_of(st.sampled_from(["reverie", "openclaw/beta"]), st.text()),
    st.one_of(st.none(), st.text()),
)
def test_routing_gives_a_bounded_key_or_a_refusal(headers: dict[str, str], model: str, user: str | None) -> None:
    """Whatever the headers hold, a key is one line of bounded length and fits a header, or the request is refused."""
    try:
        found = where(headers, model=model, user=user)
    except RequestError:
        return
    key = found.session.value
    assert len(key) <= KEY_CHARACTERS_MAX
    assert key.splitlines() in ([key], [])
    assert found.agent in AGENTS
    header_value(key).encode("ascii")
