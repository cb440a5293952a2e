"""`reverie serve`: what is to be served, settled before the event loop starts; then the server."""

from __future__ import annotations

import asyncio
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import typer

from reverie import __version__
from reverie.cli.config_file import save_setting
from reverie.cli.listening import address_of, take_port
from reverie.cli.logs import configure_logs
from reverie.cli.output import columns, counted, is_terminal, say, say_json
from reverie.cli.sample_memory import QUESTION, copy_sample
from reverie.cli.server import ServerPlan, run_on_fast_loop, serve_until_stopped
from reverie.config import PRIVATE, Config, load_config, read_secret, resolve_home
from reverie.gateway.auth import check_exposure
from reverie.llm.detect import detect_local_upstreams
from reverie.llm.upstream_server import public_url

if TYPE_CHECKING:
    import socket
    from collections.abc import Generator
    from pathlib import Path

    from reverie.app import App
    from reverie.config import GatewayConfig, Home
    from reverie.llm.detect import LocalUpstream
    from reverie.types import JsonObject

MODELS_SHOWN = 5


@dataclass(frozen=True, slots=True)
class ServeFlags:
    """The command line of `reverie serve`; None stands for what was not given."""

    home: Path | None
    host: str | None
    port: int | None
    upstream: str | None
    model: str | None
    sample: bool
    log_level: str
    as_json: bool

    def as_settings(self) -> JsonObject:
        """The flags that are settings, in the shape of `config.toml`."""
        gateway = {"host": self.host, "port": self.port}
        upstream = {"base_url": self.upstream, "model": self.model}
        return {
            name: given
            for name, section in (("gateway", gateway), ("upstream", upstream))
            if (given := {key: value for key, value in section.items() if value is not None})
        }


def serve_home(flags: ServeFlags) -> None:
    """Serve until a signal.

    Raises:
        ConfigError: a setting is wrong, or strangers could use the server.
        ListenError: the address cannot be taken.
        ReverieError: the home cannot be opened.
    """
    configure_logs(flags.log_level, as_json=True if flags.as_json else None)
    home = resolve_home(flags.home)
    config = load_config(home, flags.as_settings())
    gateway = config.gateway
    token = read_secret(gateway.token_env, gateway.token_file) if gateway.auth == "token" else None
    check_exposure(gateway, token)
    with closing(take_port(gateway.host, gateway.port)) as port, _probe_port(gateway) as probe_port:
        if flags.sample:
            home.path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            copy_sample(home.workspace(config, "main"))
        config = _with_local_upstream(home, config, flags)
        plan = ServerPlan(home, config, token, address_of(port, gateway.host), port, probe_port)

        async def listening(app: App) -> None:
            await _show_listening(plan, app, flags)

        run_on_fast_loop(serve_until_stopped(plan, listening))


@contextmanager
def _probe_port(gateway: GatewayConfig) -> Generator[socket.socket | None]:
    """The port for probes, bound; None when there is none."""
    if not gateway.probe_port:
        yield None
        return
    with closing(take_port(gateway.host, gateway.probe_port)) as port:
        yield port


# -- the model -------------------------------------------------------------------------------------------------------


def _with_local_upstream(home: Home, config: Config, flags: ServeFlags) -> Config:
    """The settings with a model server of this machine, if none is configured, one runs, and the person wants it."""
    if config.upstream.base_url is not None or not config.upstream.detect:
        return config
    found = asyncio.run(detect_local_upstreams())
    if not found:
        return config
    if flags.as_json or not is_terminal():
        _tell_found(home, found, flags)
        return config
    chosen = found[0]
    say(f"{describe_upstream(chosen)} runs on this machine.")
    if not typer.confirm("Use it?", default=True):
        return config
    if typer.confirm(f"Remember this in {home.config_file}?", default=False):
        save_setting(home, "upstream.base_url", chosen.base_url)
    settings = flags.as_settings()
    settings.setdefault("upstream", {})["base_url"] = chosen.base_url
    return load_config(home, settings)


def describe_upstream(found: LocalUpstream) -> str:
    """A server that was found, with its models, in a few words."""
    shown = ", ".join(found.models[:MODELS_SHOWN]) + (", …" if len(found.models) > MODELS_SHOWN else "")
    return f"{found.name} ({found.base_url}; {shown or 'no model loaded'})"


def _tell_found(home: Home, found: list[LocalUpstream], flags: ServeFlags) -> None:
    for each in found:
        model = f" --model {each.models[0]}" if each.models else ""
        command = f"reverie serve --home {home.path} --upstream {each.base_url}{model}"
        if flags.as_json:
            say_json({"event": "upstream_found", "name": each.name, "url": each.base_url, "models": list(each.models)})
        else:
            say(f"{describe_upstream(each)} runs on this machine. To use it:\n  {command}\n")


# -- the banner ------------------------------------------------------------------------------------------------------


async def _show_listening(plan: ServerPlan, app: App, flags: ServeFlags) -> None:
    totals = await app.open.sessions.totals()
    index = app.open.memory.statistics()
    if flags.as_json:
        say_json(
            {
                "event": "listening",
                "url": plan.url,
                "home": str(plan.home.path),
                "model": app.model.name,
                "upstream": public_url(plan.config.upstream.base_url) if plan.config.upstream.base_url else None,
                "note_files": index.memory_documents,
                "passages": index.chunks,
                "sessions": totals.sessions,
                "messages": totals.messages,
            }
        )
        return
    memory = ", ".join(
        (
            counted(index.memory_documents, "note file"),
            counted(index.chunks, "passage"),
            counted(totals.sessions, "session"),
            counted(totals.messages, "message"),
        )
    )
    say(f"Reverie {__version__} is listening on {plan.url}\n")
    rows = [("home", str(plan.home.path)), ("model", model_words(plan.config)), ("memory", memory)]
    for line in columns(rows):
        say(line)
    say(f"\n{_curl(plan, QUESTION if flags.sample else 'What do you remember?')}\n\nCtrl-C stops it.")


def model_words(config: Config) -> str:
    """Which model answers, for people."""
    upstream = config.upstream
    if upstream.base_url is None:
        return "none connected: answers are quoted from memory (--upstream URL connects one)"
    return f"{upstream.model or 'the first one listed'} at {public_url(upstream.base_url)}"


def _curl(plan: ServerPlan, question: str) -> str:
    """A request that can be pasted into a shell."""
    token = f' \\\n    -H "Authorization: Bearer ${plan.config.gateway.token_env}"' if plan.token else ""
    text = question.replace("'", "'\\''")
    body = f'{{"model": "reverie", "user": "main", "messages": [{{"role": "user", "content": "{text}"}}]}}'
    return f"  curl {plan.url}/v1/chat/completions -H 'Content-Type: application/json'{token} \\\n    -d '{body}'"
