"""Which agent and which session a request means: a pure decision with its reason.

The agent: header, else the prefix of `model`, else the default one. The session key, first match wins:

    1  x-reverie-session-key / x-openclaw-session-key   that value, as it is
    2  dm-scope `main`, or `user` equal to `main`       agent:<agent>:<main key>
       dm-scope `request`                               agent:<agent>:openai:<request id>
       dm-scope `per-peer`                              agent:<agent>:direct:<user>
       dm-scope `per-channel-peer`                      agent:<agent>:<channel>:direct:<user>
       dm-scope `per-account-channel-peer`              agent:<agent>:<channel>:<account>:direct:<user>
    3  `user`                                           agent:<agent>:openai-user:<user>
    4  otherwise                                        agent:<agent>:openai:<request id>

Each `x-openclaw-…` header has an `x-reverie-…` twin that wins. What follows the agent in a key is lower-cased; an
explicit key is not. An explicit key of the form `agent:<id>:…` chooses that agent when it exists and the request
names no other; naming another one is refused, because one agent's memory would answer in another's session.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import quote

from reverie.errors import RequestError, UnknownModelError
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from reverie.config import SessionsConfig

KEY_CHARACTERS_MAX = 512
AGENTS_LISTED_MAX = 20
CHANNEL_DEFAULT = "webchat"
ACCOUNT_DEFAULT = "default"
CHANNELS = frozenset({
    "discord", "feishu", "googlechat", "imessage", "irc", "line", "matrix", "mattermost", "msteams", "signal", "slack",
    "telegram", "webchat", "whatsapp", "zalo",
})  # fmt: skip
DM_SCOPES = ("main", "per-peer", "per-channel-peer", "per-account-channel-peer", "request")

Dialect = Literal["reverie", "openclaw"]

_AGENT = r"[a-z0-9][a-z0-9_-]{0,63}"
_MODEL = re.compile(rf"(?:(?P<prefix>reverie|openclaw)(?:[/:](?P<agent>{_AGENT}))?|agent:(?P<bare>{_AGENT}))")
_KEY_OF_AGENT = re.compile(rf"agent:(?P<agent>{_AGENT}):.", re.IGNORECASE | re.DOTALL)
_NOT_IN_AGENT = re.compile(r"[^a-z0-9_-]+")
_OVERRIDE = re.compile(r"[A-Za-z0-9][\w.:@+~-]*(?:/[\w.:@+~-]+)*", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_PREFIXES = (b"x-reverie-", b"x-openclaw-")


@dataclass(frozen=True, slots=True)
class RoutingRules:
    """What of the configuration decides: the agents (the first is the default) and how sessions are told apart."""

    agents: tuple[str, ...]
    main_key: str
    user_field: Literal["session", "metadata", "off"]

    @classmethod
    def of(cls, agents: tuple[str, ...], config: SessionsConfig) -> RoutingRules:
        """The rules of a configuration."""
        return cls(agents, config.main_key, config.user_field)


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes, and why. `channel` is where it came from, as its header says."""

    session: SessionKey
    model_override: str | None
    channel: str
    reason: str

    @property
    def agent(self) -> str:
        """Whose workspace and memory the turn uses."""
        return self.session.agent


def routing_headers(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The `x-reverie-…` and `x-openclaw-…` headers of a request, trimmed, without the blank ones; the first wins."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name.startswith(_PREFIXES) and (text := value.decode("utf-8", "replace").strip()):
            found.setdefault(name.decode("latin-1"), text)
    return found


def header_value(text: str) -> str:
    """A session key as a header value: as it is when it is ASCII, else percent-encoded UTF-8."""
    return text if text.isascii() else quote(text, safe="/:@!$&'()*+,;=?#[]{}|<> ")


def dialect_of(model: str) -> Dialect:
    """Whose words a caller expects: OpenClaw's when its `model` says openclaw, else ours."""
    return "openclaw" if model.strip().lower().startswith("openclaw") else "reverie"


def route(headers: Mapping[str, str], *, model: str, user: str | None, rules: RoutingRules, request_id: str) -> Route:
    """Where a request goes. `request_id` is what a session of its own would be named after.

    Raises:
        UnknownModelError: the agent is well named but does not exist.
        RequestError: `model`, `user` or a header is not well formed.
    """
    of_model = agent_of_model(model, rules.agents)
    of_header = named_agent(headers, rules.agents)
    named = of_header or of_model
    override = _model_override(headers)
    channel = _Channel.of(headers)
    scope = _dm_scope(headers)
    key = _pick(headers, "session-key")
    if key is not None:
        session, reason = _explicit(*key, named, rules.agents)
        return Route(session, override, channel.name, reason)
    agent = named or rules.agents[0]
    peer = _peer(user) if rules.user_field == "session" else None
    rest, reason = _rest_of_key(scope, peer, channel, headers, rules, request_id)
    return Route(_session(agent, rest), override, channel.name, reason)


# -- agent -----------------------------------------------------------------------------------------------------------


def agent_of_model(model: str, agents: tuple[str, ...]) -> str | None:
    """The agent that a `model` names; None when it leaves the choice to the server.

    `reverie`, `openclaw` and their `/default` leave it; `<prefix>/<agent>`, `<prefix>:<agent>` and `agent:<agent>`
    name one. Case does not matter.

    Raises:
        RequestError: `model` is something else.
        UnknownModelError: there is no such agent.
    """
    match = _MODEL.fullmatch(model.strip().lower())
    if match is None:
        ours = "" if dialect_of(model) == "openclaw" else "`reverie`, `reverie/<agentId>`, "
        tail = "`openclaw` or `openclaw/<agentId>`."
        raise RequestError(f"Invalid `model`. Use {ours}{tail}", param="model")
    agent = match["agent"] or match["bare"]
    if agent is None or (agent == "default" and "default" not in agents):
        return None
    return known_agent(agent, agents, "model")


def named_agent(headers: Mapping[str, str], agents: tuple[str, ...]) -> str | None:
    """The agent that a header names; None when none does.

    Raises:
        UnknownModelError: there is no such agent.
    """
    for prefix in ("x-reverie-", "x-openclaw-"):
        for suffix in ("agent-id", "agent"):
            value = headers.get(prefix + suffix)
            if value is not None:
                return known_agent(normalise_agent(value), agents, prefix + suffix)
    return None


def normalise_agent(name: str) -> str:
    """An agent's name as an id: lower case, other characters as dashes, at most 64; `main` when nothing is left."""
    return _NOT_IN_AGENT.sub("-", name.lower()).strip("-")[:64].strip("-") or "main"


def known_agent(agent: str, agents: tuple[str, ...], param: str) -> str:
    """The agent, if it exists; `param` is where it was named.

    Raises:
        UnknownModelError: it does not.
    """
    if agent in agents:
        return agent
    listed = ", ".join(agents[:AGENTS_LISTED_MAX]) + (", …" if len(agents) > AGENTS_LISTED_MAX else "")
    message = f"The agent '{agent}' does not exist. Agents: {listed}."
    raise UnknownModelError(message, param=param, code="model_not_found")


# -- session ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Channel:
    """Where a message came from. `asked` is what the header said, which may be a channel we do not know."""

    name: str
    asked: str | None

    @classmethod
    def of(cls, headers: Mapping[str, str]) -> _Channel:
        found = _pick(headers, "message-channel")
        asked = found[1].lower() if found else None
        return cls(asked if asked in CHANNELS else CHANNEL_DEFAULT, asked)


def _pick(headers: Mapping[str, str], suffix: str) -> tuple[str, str] | None:
    """The header with that ending, and its value; ours before OpenClaw's."""
    for name in (f"x-reverie-{suffix}", f"x-openclaw-{suffix}"):
        if (value := headers.get(name)) is not None:
            return name, value
    return None


def _dm_scope(headers: Mapping[str, str]) -> tuple[str, str] | None:
    found = _pick(headers, "dm-scope")
    if found is not None and found[1] not in DM_SCOPES:
        choices = ", ".join(f"`{scope}`" for scope in DM_SCOPES)
        raise RequestError(f"Invalid `{found[0]}`. Use one of {choices}.", param=found[0])
    return found


def _explicit(name: str, key: str, named: str | None, agents: tuple[str, ...]) -> tuple[SessionKey, str]:
    _check_text(key, name)
    if len(key) > KEY_CHARACTERS_MAX:
        raise RequestError(f"`{name}` may have at most {KEY_CHARACTERS_MAX} characters.", param=name)
    match = _KEY_OF_AGENT.match(key)
    of_key = match["agent"].lower() if match else None
    if of_key is None or of_key not in agents:
        return SessionKey(named or agents[0], key), f"{name} names the session"
    if named is not None and named != of_key:
        message = f"`{name}` belongs to the agent '{of_key}', but the request names '{named}'."
        raise RequestError(message, param=name)
    return SessionKey(of_key, key), f"{name} names the session and its agent"


def _rest_of_key(
    scope: tuple[str, str] | None,
    peer: str | None,
    channel: _Channel,
    headers: Mapping[str, str],
    rules: RoutingRules,
    request_id: str,
) -> tuple[str, str]:
    """What follows the agent in a key that was not given, and why."""
    if scope is not None:
        return _rest_of_scope(scope, peer, channel, headers, rules, request_id)
    if peer == "main":
        return rules.main_key, "user is main"
    if peer is not None:
        return f"openai-user:{peer}", "user names the session"
    return f"openai:{request_id}", "nothing names a session: one of its own"


def _rest_of_scope(
    scope: tuple[str, str],
    peer: str | None,
    channel: _Channel,
    headers: Mapping[str, str],
    rules: RoutingRules,
    request_id: str,
) -> tuple[str, str]:
    name, value = scope
    reason = f"{name} is {value}"
    if value == "main":
        return rules.main_key, reason
    if value == "request":
        return f"openai:{request_id}", reason
    if peer is None:
        hint = "" if rules.user_field == "session" else ' (and `sessions.user_field = "session"` on the server)'
        raise RequestError(f"`{name}: {value}` needs `user`{hint}.", param="user")
    if value == "per-peer":
        return f"direct:{peer}", reason
    if channel.asked not in {None, channel.name}:
        message = f"`{name}: {value}` needs a known channel: {', '.join(sorted(CHANNELS))}."
        raise RequestError(message, param="x-reverie-message-channel")
    if value == "per-channel-peer":
        return f"{channel.name}:direct:{peer}", reason
    found = _pick(headers, "account-id")
    if found is not None:
        _check_text(found[1], found[0])
    return f"{channel.name}:{found[1] if found else ACCOUNT_DEFAULT}:direct:{peer}", reason


def _peer(user: str | None) -> str | None:
    """`user` without surrounding white space; None when nothing is left."""
    peer = user.strip() if user is not None else ""
    if not peer:
        return None
    _check_text(peer, "user")
    return peer


def _session(agent: str, rest: str) -> SessionKey:
    key = f"agent:{agent}:{rest.lower()}"
    if len(key) > KEY_CHARACTERS_MAX:
        raise RequestError(f"The session key would be longer than {KEY_CHARACTERS_MAX} characters.", param="user")
    return SessionKey(agent, key)


def _check_text(text: str, param: str) -> None:
    """Refuse control characters and line separators: a key is one line, in logs and headers too."""
    if _CONTROL.search(text):
        raise RequestError(f"`{param}` must not contain control characters.", param=param)


def _model_override(headers: Mapping[str, str]) -> str | None:
    found = _pick(headers, "model")
    if found is None:
        return None
    name, value = found
    if len(value) > 256 or _OVERRIDE.fullmatch(value) is None:  # noqa: PLR2004 (longer than any model's name)
        raise RequestError(f"Invalid `{name}`.", param=name)
    return value
