"""`reverie learning …` and `reverie skills …`: what was learned, why, and changing it.

Beside a running server that is asked; without one, `state.db` is opened here. A change is one commit, so it may be made
from either.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import quote, urlencode

import typer

from reverie.cli.commands.learning_text import explained_lines, item_lines, listed_rows, status_lines
from reverie.cli.opening import find_home
from reverie.cli.output import is_terminal, printable, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, find_server
from reverie.cli.table import show_table
from reverie.clock import SystemClock
from reverie.config import read_secret
from reverie.errors import ConfigError
from reverie.gateway.feedback_body import read_feedback
from reverie.learning.surfaces.edits import DELETABLE, EDITABLE, VERBS
from reverie.learning.surfaces.items import FORMS
from reverie.learning.surfaces.pages import PageRequest
from reverie.learning.surfaces.surfaces import LearningSurfaces
from reverie.storage import STATE, Database

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from reverie.cli.running import RunningServer
    from reverie.config import Config
    from reverie.learning.surfaces.ports import Kind, Verb
    from reverie.types import JsonObject

PAGES_MAX = 50
"""A filter may leave pages half empty: so many are asked for until there is enough to show."""
FILE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class LearnedFlags:
    """What was given on the command line: what to do, to what, and how to look for it."""

    kind: Kind
    action: str = "list"
    name: str = ""
    agent: str = ""
    status: str = ""
    q: str = ""
    after: str = ""
    limit: int = 50
    changes: Sequence[str] = ()
    yes: bool = False
    as_json: bool = False


class _Source(Protocol):
    """Where it is: a server, or a database that is open here. Each answer has the form of `/v1/learning/…`."""

    async def status(self) -> JsonObject: ...
    async def page(self, asked: PageRequest) -> JsonObject: ...
    async def show(self, kind: Kind, name: str, agent: str) -> JsonObject: ...
    async def explain(self, kind: Kind, name: str, agent: str) -> JsonObject: ...
    async def edit(self, kind: Kind, name: str, changes: JsonObject, agent: str) -> JsonObject: ...
    async def act(self, kind: Kind, name: str, verb: Verb, agent: str) -> JsonObject: ...
    async def delete(self, kind: Kind, name: str, agent: str) -> JsonObject: ...
    async def give_feedback(self, body: JsonObject, agent: str) -> JsonObject: ...


class _Served:
    """Through the server that runs on the home."""

    def __init__(self, server: RunningServer, token: str | None) -> None:
        self._server = server
        self._token = token

    async def _ask(self, method: str, path: str, body: object = None, **asked: object) -> JsonObject:
        query = urlencode({name: value for name, value in asked.items() if value})
        return await asyncio.to_thread(ask, self._server, method, f"/v1/{path}?{query}", self._token, body)

    async def status(self) -> JsonObject:
        return await self._ask("GET", "learning/status")

    async def page(self, asked: PageRequest) -> JsonObject:
        given = {"agent": asked.agent, "status": asked.status, "q": asked.q, "after": asked.after}
        return await self._ask("GET", f"learning/{asked.kind}", limit=asked.limit, **given)

    async def show(self, kind: Kind, name: str, agent: str) -> JsonObject:
        return await self._ask("GET", _path(kind, name), agent=agent)

    async def explain(self, kind: Kind, name: str, agent: str) -> JsonObject:
        return await self._ask("GET", f"{_path(kind, name)}/explain", agent=agent)

    async def edit(self, kind: Kind, name: str, changes: JsonObject, agent: str) -> JsonObject:
        return await self._ask("PATCH", _path(kind, name), changes, agent=agent)

    async def act(self, kind: Kind, name: str, verb: Verb, agent: str) -> JsonObject:
        return await self._ask("POST", f"{_path(kind, name)}/{verb}", agent=agent)

    async def delete(self, kind: Kind, name: str, agent: str) -> JsonObject:
        return await self._ask("DELETE", _path(kind, name), agent=agent)

    async def give_feedback(self, body: JsonObject, agent: str) -> JsonObject:  # noqa: ARG002 (the server has a default)
        return await self._ask("POST", "feedback", body)


class _Here:
    """In the database, which nobody serves. A change is one commit, so it may be made here."""

    def __init__(self, surfaces: LearningSurfaces) -> None:
        self.status, self.page, self.show, self.explain = (
            surfaces.status, surfaces.page, surfaces.show, surfaces.explain,
        )  # fmt: skip
        self.edit, self.act, self.delete = surfaces.edit, surfaces.act, surfaces.delete
        self._surfaces = surfaces

    async def give_feedback(self, body: JsonObject, agent: str) -> JsonObject:
        return await self._surfaces.give_feedback(read_feedback(body, agent))


def _path(kind: Kind, name: str) -> str:
    return f"learning/{kind}/{quote(name, safe='')}"


@asynccontextmanager
async def _source(given: Path | None, agent: str) -> AsyncGenerator[tuple[_Source, str]]:
    """Where it is, and the agent that is meant: the first one when none is named.

    Raises:
        ConfigError: the home has no such agent.
    """
    home, config = await asyncio.to_thread(find_home, given)
    if agent and agent not in config.agent_names():
        raise ConfigError("--agent", agent, f"one of this home's agents ({', '.join(config.agent_names())})")
    meant = agent or config.agent_names()[0]
    server = await asyncio.to_thread(find_server, home)
    if server is not None:
        yield _Served(server, await asyncio.to_thread(_token, config)), meant
        return
    clock = SystemClock()
    state = await Database.open(home.state_db, STATE, now_ms=clock.now_ms())
    try:
        workspaces = {name: home.workspace(config, name) for name in config.agent_names()}
        yield _Here(LearningSurfaces.over(state, clock, config.learning, workspaces)), meant
    finally:
        await state.aclose()


def _token(config: Config) -> str | None:
    gateway = config.gateway
    return read_secret(gateway.token_env, gateway.token_file) if gateway.auth == "token" else None


# -- commands ------------------------------------------------------------------------------------------------------


async def learning_status(given: Path | None, *, as_json: bool) -> None:
    """Show how learning does now. Raises `ReverieError` when the home or the server cannot be used."""
    async with _source(given, "") as (source, _):
        status = await source.status()
    if as_json:
        say_json(status)
        return
    say("\n".join(status_lines(status, SystemClock().now_ms())))
    if status["storm"]["alarm"]:
        warn(f"storm: {status['storm']['alarm']}")


async def learned(given: Path | None, flags: LearnedFlags) -> None:
    """Do what the flags say.

    Raises:
        ConfigError: there is no such action, agent or field, or a name is missing.
        ReverieError: there is no such thing, or it cannot be changed.
    """
    _check_action(flags)
    if flags.action == "delete":
        _agree(flags)
    changes = await asyncio.to_thread(_changes, flags) if flags.action == "edit" else {}
    async with _source(given, flags.agent) as (source, agent):
        meant = flags if flags.kind == "jobs" else replace(flags, agent=agent)
        with Progress(shown=not flags.as_json) as progress, progress.step(flags.kind):
            answer = await _done(source, meant, changes)
    if flags.as_json:
        say_json(answer)
    elif flags.action == "list":
        _show_list(flags.kind, answer)
    elif flags.action == "explain":
        say("\n".join(explained_lines(answer)))
    elif flags.action == "delete":
        say(f"{printable(answer['id'])} is deleted")
    else:
        say("\n".join(item_lines(answer)))


async def give_feedback(given: Path | None, body: JsonObject, agent: str, *, as_json: bool) -> None:
    """Say how something was; `body` is checked. Raises `ReverieError` when there is no such thing."""
    async with _source(given, agent) as (source, meant):
        taken = await source.give_feedback(body, meant)
    if as_json:
        say_json(taken)
    else:
        say(f"{taken['id']} is taken as {taken['polarity']}; what follows from it happens in the background")


def actions_of(kind: Kind) -> tuple[str, ...]:
    """What can be done with things of a kind."""
    editing = ("edit",) if kind in EDITABLE else ()
    return ("list", "show", "explain", *editing, *VERBS[kind], *(("delete",) if kind in DELETABLE else ()))


def _check_action(flags: LearnedFlags) -> None:
    allowed = actions_of(flags.kind)
    if flags.action not in allowed:
        raise ConfigError("action", flags.action, f"one of {', '.join(allowed)}")
    if flags.action != "list" and not flags.name:
        raise ConfigError("id", "", f"`{flags.action}` needs the id of one {FORMS[flags.kind].noun}")
    if flags.action == "list" and flags.name:
        raise ConfigError("id", flags.name, "`list` takes none; `show` and `explain` do")
    if flags.changes and flags.action != "edit":
        raise ConfigError("--set", flags.changes[0], "an option of `edit`")
    statuses = FORMS[flags.kind].statuses
    if flags.status and flags.status not in statuses:
        raise ConfigError("--status", flags.status, f"one of {', '.join(statuses)}")


def _agree(flags: LearnedFlags) -> None:
    """Nothing is deleted unasked."""
    if flags.yes:
        return
    if not is_terminal():
        raise ConfigError("--yes", False, "set, to delete where nobody can be asked")
    typer.confirm(f"Delete {printable(flags.name)} for good?", abort=True)


def _changes(flags: LearnedFlags) -> JsonObject:
    """What `--set FIELD=VALUE` says: texts as they are or from `@FILE`, lists and switches as JSON. Blocks."""
    editable = EDITABLE[flags.kind]
    changes: JsonObject = {}
    for given in flags.changes:
        field, found, value = given.partition("=")
        if not found or field not in editable.fields:
            raise ConfigError("--set", given, f"FIELD=VALUE with one of {', '.join(editable.fields)}")
        changes[field] = _file(value[1:]) if value.startswith("@") else value
        if field not in editable.texts:
            changes[field] = _parsed(field, changes[field])
    if not changes:
        raise ConfigError("--set", "", f"FIELD=VALUE with one of {', '.join(editable.fields)}")
    return changes


def _parsed(field: str, text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigError("--set", f"{field}={text}", 'JSON, such as true or ["one", "two"]') from None  # fmt: skip


def _file(path: str) -> str:
    try:
        with Path(path).open(encoding="utf-8") as file:
            return file.read(FILE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError("--set", f"@{path}", f"a text file that can be read ({error})") from error


async def _done(source: _Source, flags: LearnedFlags, changes: JsonObject) -> JsonObject:
    kind, name, agent = flags.kind, flags.name, flags.agent
    match flags.action:
        case "list":
            return await _listed(source, flags)
        case "show":
            return await source.show(kind, name, agent)
        case "explain":
            return await source.explain(kind, name, agent)
        case "edit":
            return await source.edit(kind, name, changes, agent)
        case "delete":
            return await source.delete(kind, name, agent)
        case _:
            return await source.act(kind, name, cast("Verb", flags.action), agent)


async def _listed(source: _Source, flags: LearnedFlags) -> JsonObject:
    """As many as were asked for, over as many pages as that takes."""
    found: list[JsonObject] = []
    after, page = flags.after, {}
    for _ in range(PAGES_MAX):
        limit = flags.limit - len(found)
        page = await source.page(PageRequest(flags.kind, flags.agent, flags.status, flags.q, after, limit))
        found += page["data"]
        after = page["next_after"]
        if after is None or len(found) >= flags.limit:
            break
    return {**page, "data": found}


def _show_list(kind: Kind, page: JsonObject) -> None:
    if not page["data"]:
        say(f"no {FORMS[kind].noun} is there")
    else:
        show_table(*listed_rows(kind, page["data"]))
    if page["next_after"] is not None:
        warn(f"there are more: --after {printable(page['next_after'])}")
