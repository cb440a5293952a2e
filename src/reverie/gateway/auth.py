"""Who may call: everybody on this machine (mode `none`), or whoever has the token (mode `token`).

Whoever has the token is the owner; there are no lesser scopes. An address that fails too often is refused for the
rest of a minute whatever it sends, so that a token cannot be guessed. In mode `none` a request that a web page of
another site made is refused too: the browser runs on this machine, the page does not belong to its owner.
"""

from __future__ import annotations

import ipaddress
import math
from collections import OrderedDict
from dataclasses import dataclass
from hmac import compare_digest
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

from starlette.responses import Response

from reverie.errors import ConfigError
from reverie.gateway.replies import TOO_MANY_ATTEMPTS, UNAUTHORIZED, error_body

if TYPE_CHECKING:
    from starlette.types import Scope

    from reverie.clock import Clock
    from reverie.config import GatewayConfig

FAILURES_MAX = 20
WINDOW_S = 60.0
ADDRESSES_MAX = 4_096
"""Addresses remembered; beyond that the one that failed longest ago is forgotten."""

_FORWARDING = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip"})


def check_exposure(config: GatewayConfig, token: str | None) -> None:
    """Refuse to start a server that strangers could use.

    Raises:
        ConfigError: token mode without a token, or an address that others can reach without token mode.
    """
    where = f"set the environment variable {config.token_env} or gateway.token_file"
    if config.auth == "token" and not token:
        raise ConfigError("gateway.auth", config.auth, f"`token` needs a token: {where}")
    if not config.is_loopback and config.auth != "token":
        allowed = f'an address of this machine only, or gateway.auth = "token" ({where})'
        raise ConfigError("gateway.host", config.host, allowed)


class Guard:
    """Decides about callers. `token` None means mode `none`."""

    def __init__(self, token: str | None, clock: Clock) -> None:
        self._token = token.encode() if token is not None else None
        self._failures = _Failures(clock)

    def refusal(self, scope: Scope) -> Response | None:
        """The answer for a caller who may not enter; None for one who may."""
        if self._token is None:
            return _json(403, _FOREIGN_PAGE) if is_foreign_page(scope) else None
        address = _address(scope)
        wait_s = self._failures.wait_s(address)
        if wait_s > 0:
            return _json(429, TOO_MANY_ATTEMPTS, {"Retry-After": str(math.ceil(wait_s))})
        if self._has_token(scope):
            return None
        self._failures.add(address)
        return _json(401, UNAUTHORIZED, {"WWW-Authenticate": "Bearer"})

    @property
    def has_token(self) -> bool:
        """True in mode `token`."""
        return self._token is not None

    def may_see_details(self, scope: Scope) -> bool:
        """True for a caller with the token, and for one on this machine that no proxy stands in front of."""
        return is_local_direct(scope) or (self._token is not None and self.refusal(scope) is None)

    def _has_token(self, scope: Scope) -> bool:
        assert self._token is not None
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, secret = value.partition(b" ")
                return scheme.lower() == b"bearer" and compare_digest(secret.strip(), self._token)
        return False


class OwnHostGuard:
    """A guard that in mode `none` also wants the request to name this machine, or `host`, in its Host header.

    A page whose own name was made to point here (DNS rebinding) is of this origin to the browser, which then sends no
    Origin with what it reads. The name gives it away. With a token there is nothing such a page could do.
    """

    def __init__(self, guard: Guard, host: str) -> None:
        self._guard = guard
        self._host = host.lower()

    def refusal(self, scope: Scope) -> Response | None:
        """The answer for a caller who may not enter; None for one who may."""
        refused = self._guard.refusal(scope)
        if refused is not None or self._guard.has_token or self._is_own(scope):
            return refused
        return _json(403, _FOREIGN_HOST)

    def _is_own(self, scope: Scope) -> bool:
        named = next((value for name, value in scope["headers"] if name == b"host"), b"").decode("latin-1").strip()
        try:
            host = urlsplit(f"//{named}").hostname or ""
        except ValueError:
            return False
        return _is_loopback(host) or host == self._host


_FOREIGN_HOST = error_body(
    'The Host header names another machine. Use 127.0.0.1 or localhost, or set gateway.auth = "token".',
    "invalid_request_error",
    code="foreign_host",
)
_FOREIGN_PAGE = error_body(
    'Requests from web pages need gateway.auth = "token".', "invalid_request_error", code="foreign_origin"
)


def is_foreign_page(scope: Scope) -> bool:
    """True when a browser says that a page of another machine made the request."""
    for name, value in scope["headers"]:
        if name == b"origin":
            return _is_foreign(value.decode("latin-1").strip())
    return False


def _is_foreign(origin: str) -> bool:
    """Of a web page, and not of one that this machine served. Desktop programs and extensions are the owner's."""
    if origin == "null":
        return True
    try:
        parts: SplitResult = urlsplit(origin)
        return parts.scheme in {"http", "https"} and not _is_loopback(parts.hostname or "")
    except ValueError:
        return True


def is_local_direct(scope: Scope) -> bool:
    """True for a connection from this machine that does not come through a proxy."""
    if any(name in _FORWARDING for name, _ in scope["headers"]):
        return False
    return _is_loopback(_address(scope))


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _address(scope: Scope) -> str:
    client = scope.get("client")
    return client[0] if client else ""


def _json(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, media_type="application/json")


@dataclass(slots=True)
class _Window:
    ends_s: float
    count: int


class _Failures:
    """Failed attempts by address, each counted within a window that begins with its first failure."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._windows: OrderedDict[str, _Window] = OrderedDict()

    def wait_s(self, address: str) -> float:
        """How long the address must wait; 0 when it need not."""
        window = self._windows.get(address)
        if window is None or window.count < FAILURES_MAX:
            return 0.0
        return max(0.0, window.ends_s - self._clock.monotonic_s())

    def add(self, address: str) -> None:
        now_s = self._clock.monotonic_s()
        window = self._windows.get(address)
        if window is None or window.ends_s <= now_s:
            window = self._windows[address] = _Window(now_s + WINDOW_S, 0)
        window.count += 1
        self._windows.move_to_end(address)
        while len(self._windows) > ADDRESSES_MAX:
            self._windows.popitem(last=False)
