"""`reverie memory forget`: what an agent is to forget, shown first, and done with `--apply`.

A server that runs on the home does it, because it has the index; without one this command does.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from reverie.app import forgetter_of
from reverie.cli.opening import find_home, open_home
from reverie.cli.output import columns, counted, printable, say, say_json, warn
from reverie.cli.progress import Progress
from reverie.cli.running import ask, find_server
from reverie.clock import parse_instant
from reverie.config import read_secret
from reverie.dreaming.forgetting import Options, Selection, Surroundings
from reverie.errors import ConfigError, HomeInUseError, RequestError

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.cli.running import RunningServer
    from reverie.config import Config, Home
    from reverie.dreaming.forgetting import Forgetting
    from reverie.types import JsonObject

CALL_S_MAX = 24 * 3600.0
"""A server is waited for: what it has done when the command is stopped stays done, and doing the same again goes on."""

LABELS = {
    "sessions": "conversations",
    "messages": "messages",
    "answers": "answers to them",
    "summaries": "summaries",
    "notes": "notes",
    "paragraphs": "paragraphs of notes",
    "entries": "recall entries",
    "searches": "recorded searches",
    "hits": "hits of other searches",
    "quotes": "quotations elsewhere",
    "passages": "passages of the index",
    "vectors": "cached vectors",
    "promoted": "entries of MEMORY.md",
    "changes": "changes of MEMORY.md that can be undone",
    "reports": "lines of reports",
    "diary": "entries of the dream diary",
    "openclaw": "entries of OpenClaw's files",
    "steps": "steps that learning kept",
    "episodes": "episodes",
    "policies": "policies that rest on it",
    "world_models": "world models that rest on it",
    "skills": "skills that rest on it, with their files",
    "feedback": "feedback, and repairs that rest on it",
    "archives": "files of the archive",
}


@dataclass(frozen=True, slots=True)
class ForgetFlags:
    """What was given on the command line."""

    agent: str
    session: str
    source: str
    participant: str
    since: str | None
    until: str | None
    apply: bool
    delete_file: bool
    archives: bool
    as_json: bool

    def selection(self) -> Selection:
        """What is selected.

        Raises:
            ConfigError: nothing is, it makes no sense, or an instant is none.
        """
        selection = Selection(
            self.session,
            self.source,
            self.participant,
            _instant("--since", self.since),
            _instant("--until", self.until),
        )
        try:
            selection.check()
        except RequestError as error:
            raise ConfigError(f"--{error.param}", getattr(self, error.param or ""), str(error)) from None
        return selection

    def body(self) -> JsonObject:
        """The same for a server."""
        named = {
            "session": self.session,
            "source": self.source,
            "participant": self.participant,
            "since": self.since,
            "until": self.until,
        }
        given: JsonObject = {name: value for name, value in named.items() if value}
        return {
            **given,
            "agent": self.agent,
            "apply": self.apply,
            "deleteFile": self.delete_file,
            "archives": self.archives,
        }


async def forget(given: Path | None, flags: ForgetFlags) -> None:
    """Show what would be forgotten; with `apply`, forget it.

    Raises:
        ConfigError: what is selected makes no sense.
        HomeInUseError: another process has the home and does not answer.
        ReverieError: there is no such home, agent or session, one is busy, or something could not be written.
    """
    selection = flags.selection()
    home, config = await asyncio.to_thread(find_home, given)
    server = await asyncio.to_thread(find_server, home)
    if server is not None:
        done = await _by_server(server, config, flags)
    else:
        done = (await _here(home, config, flags, selection)).as_json()
    if flags.as_json:
        say_json(done)
    else:
        show(done)


async def _by_server(server: RunningServer, config: Config, flags: ForgetFlags) -> JsonObject:
    gateway = config.gateway
    token = None
    if gateway.auth == "token":
        token = await asyncio.to_thread(read_secret, gateway.token_env, gateway.token_file)
    with Progress(shown=not flags.as_json) as progress, progress.step("the server forgets"):
        return await asyncio.to_thread(
            lambda: ask(server, "POST", "/v1/memory/forget", token, flags.body(), within_s=CALL_S_MAX)
        )


async def _here(home: Home, config: Config, flags: ForgetFlags, selection: Selection) -> Forgetting:
    options = Options(delete_files=flags.delete_file, delete_archives=flags.archives)
    async with open_home(home, config, with_vectors=False) as opened:
        if not opened.alone:
            raise HomeInUseError("another Reverie process has this home and does not answer: stop it, or try again.")
        forgetter = await forgetter_of(opened.memory, Surroundings(alone=True))
        with Progress(shown=not flags.as_json) as progress:
            with progress.step("looking"):
                found = await forgetter.plan(flags.agent, selection, options)
            if not flags.apply:
                return found
            total = found.counts.get("messages", 0) + found.counts.get("answers", 0)
            with progress.step("messages", total=total) as advance:
                return await forgetter.apply(flags.agent, selection, options, progress=advance)


def show(done: JsonObject) -> None:
    """What was found or done, for people: the changes of files, how much of what, and what stays."""
    changes: list[dict[str, str]] = done["changes"]
    for change in changes:
        say(printable(change["diff"], lines=True), end=False)
    counts: dict[str, int] = done["counts"]
    rows = [(LABELS[name], f"{count:,}") for name, count in counts.items()]
    if rows:
        say("\n".join(columns([("forgotten" if done["applied"] else "would be forgotten", ""), *rows], indent="")))
    for file in done["archives"]:
        say(f"in the archive: {printable(file)}")
    for remark in done["remarks"]:
        warn(printable(remark))
    if not rows:
        say("nothing was found")
    elif not done["applied"]:
        say(f"nothing is changed yet: --apply forgets it, in {counted(len(rows), 'kind of place', 'kinds of places')}")


def _instant(option: str, text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return parse_instant(text)
    except ValueError as error:
        wanted: Any = "an instant as ISO 8601, such as 2026-04-03T03:00:00Z or 2026-04-03"
        raise ConfigError(option, text, wanted) from error
