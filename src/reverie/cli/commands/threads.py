"""`reverie threads …`: which native threads there are, why turns ran in them, and asking for another one.

Beside a running server that is asked; without one, the home is opened here.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote, urlencode

from reverie.cli.opening import find_home, open_home
from reverie.cli.output import counted, printable, say, say_json, size_words, warn
from reverie.cli.running import ask, find_server
from reverie.cli.table import show_table
from reverie.clock import iso_minute
from reverie.config import read_secret

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.cli.running import RunningServer
    from reverie.config import Config
    from reverie.sessions.thread_directory import ThreadDirectory
    from reverie.types import JsonObject

DOMINANT_SHOWN = 3
COUNTED = {"last": "its last call", "total": "all its calls"}
SHOWN_AS = {
    ("resume", "none"): "went on",
    ("resume", "delta"): "went on, told what is new",
    ("resume", "full"): "went on, told everything",
    ("fork", "none"): "went on in a copy",
    ("fork", "delta"): "went on in a copy, told what is new",
    ("start", "full"): "began",
    ("start", "none"): "began, nothing to tell",
    ("transient", "full"): "began, for one turn",
    ("transient", "none"): "began, for one turn, nothing to tell",
}


class _Source(Protocol):
    """Where threads are: a server, or a home that is open here. Each answer has the form of `/v1/threads`."""

    async def listed(self, limit: int, after: str | None) -> JsonObject: ...
    async def one(self, name: str, limit: int) -> JsonObject: ...
    async def rotate(self, name: str) -> JsonObject: ...


class _Served:
    """Through the server that runs on the home."""

    def __init__(self, server: RunningServer, token: str | None) -> None:
        self._server = server
        self._token = token

    async def _ask(self, method: str, path: str) -> JsonObject:
        return await asyncio.to_thread(ask, self._server, method, path, self._token)

    async def listed(self, limit: int, after: str | None) -> JsonObject:
        asked = {"limit": limit} | ({"after": after} if after else {})
        return await self._ask("GET", f"/v1/threads?{urlencode(asked)}")

    async def one(self, name: str, limit: int) -> JsonObject:
        return await self._ask("GET", f"/v1/threads/{quote(name, safe='')}?{urlencode({'limit': limit})}")

    async def rotate(self, name: str) -> JsonObject:
        return await self._ask("POST", f"/v1/threads/{quote(name, safe='')}/rotate")


class _Here:
    """In the home itself, which nobody serves. A wish for another thread is one commit, so it may be written here."""

    def __init__(self, threads: ThreadDirectory) -> None:
        self._threads = threads

    async def listed(self, limit: int, after: str | None) -> JsonObject:
        page = await self._threads.page(limit, after)
        return {"object": "list", "data": [asdict(each) for each in page.threads], "has_more": page.more}

    async def one(self, name: str, limit: int) -> JsonObject:
        return {"object": "reverie.thread", **asdict(await self._threads.explain(name, limit))}

    async def rotate(self, name: str) -> JsonObject:
        return {"object": "reverie.thread.rotate", **asdict(await self._threads.rotate(name))}


@asynccontextmanager
async def _source(given: Path | None) -> AsyncGenerator[_Source]:
    home, config = await asyncio.to_thread(find_home, given)
    server = await asyncio.to_thread(find_server, home)
    if server is not None:
        yield _Served(server, await asyncio.to_thread(_token, config))
        return
    async with open_home(home, config, with_vectors=False) as opened:
        yield _Here(opened.memory.threads)


def _token(config: Config) -> str | None:
    gateway = config.gateway
    return read_secret(gateway.token_env, gateway.token_file) if gateway.auth == "token" else None


# -- commands ----------------------------------------------------------------------------------------------------


async def list_threads(given: Path | None, *, limit: int, after: str | None, as_json: bool) -> None:
    """Show the threads used last. Raises `ReverieError` when the home or the server cannot be used."""
    async with _source(given) as source:
        page = await source.listed(limit, after)
    if as_json:
        say_json(page)
        return
    threads: list[JsonObject] = page["data"]
    if not threads:
        say("no session goes on in a native thread; only agents whose runtime has them do")
        return
    heads = ("session", "thread", "state", "tokens", "last turn", "why", "used (UTC)")
    show_table(heads, [_row(each) for each in threads])
    if page["has_more"]:
        warn(f"there are more: --after {threads[-1]['session_id']}")


async def explain_thread(given: Path | None, name: str, *, limit: int, as_json: bool) -> None:
    """Show why a session's turns ran in which threads. Raises `ReverieError` when there is no such session."""
    async with _source(given) as source:
        explained = await source.one(name, limit)
    if as_json:
        say_json(explained)
        return
    say("\n".join(_explained(explained)))
    if explained["churn"] is not None:
        warn(churn_words(explained["churn"]))


async def rotate_thread(given: Path | None, name: str, *, as_json: bool) -> None:
    """Have the next turn begin another thread. Raises `ReverieError` when there is none that may be replaced."""
    async with _source(given) as source:
        thread = await source.rotate(name)
    if as_json:
        say_json(thread)
    else:
        say(f"{printable(thread['session_key'])}: the next message begins another thread in place of "
            f"{printable(str(thread['thread_id']))}, and that is told the whole conversation")  # fmt: skip


# -- for people --------------------------------------------------------------------------------------------------


def churn_words(churn: JsonObject) -> str:
    """What flaps, in a sentence."""
    turns = counted(churn["turns"], "turn")
    return f"{counted(churn['rotations'], 'new thread')} within the last {turns}: most often `{churn['of']}` differed"


def _row(thread: JsonObject) -> tuple[str, ...]:
    last: JsonObject | None = thread["last"]
    return (
        printable(thread["session_key"]),
        printable(str(thread["thread_id"] or "none")),
        _state(thread),
        _tokens(thread),
        "" if last is None else _done(last),
        "" if last is None else printable(last["reason"]),
        iso_minute(thread["updated_at_ms"]),
    )


def _state(thread: JsonObject) -> str:
    if thread["thread_id"] is None:
        why = thread["cleared_for"] or thread["ignored"]
        return f"none: {printable(why)}" if why else "none"
    words = [thread["state"], *(["in use"] if thread["held"] else []), *(["to be replaced"] if thread["asked"] else [])]
    return ", ".join([*words, *(["watched"] if thread["scope"] == "supervision" else [])])


def _tokens(thread: JsonObject) -> str:
    if thread["tokens"] is None:
        return ""
    return f"{thread['tokens']:,}" + (f" of {thread['window']:,}" if thread["window"] else "")


def _done(decision: JsonObject) -> str:
    return SHOWN_AS.get((decision["action"], decision["project"]), f"{decision['action']}, {decision['project']}")


def _explained(explained: JsonObject) -> list[str]:
    thread: JsonObject | None = explained["thread"]
    lines = [f"{printable(explained['session_key'])}  {explained['session_id']}"]
    if thread is None:
        lines.append("it has no native thread")
    else:
        lines.append(f"thread {printable(str(thread['thread_id'] or 'none'))}: {_state(thread)}")
        if thread["thread_id"] is not None:
            lines += _known(thread)
    told = ", ".join(f"{printable(name)} {value}" for name, value in explained["parts"].items())
    lines += [f"it was told: {told}"] if told else []
    for decision in explained["decisions"]:
        lines += ["", *_decision(decision)]
    return lines


def _known(thread: JsonObject) -> list[str]:
    parts = [f"runtime {printable(thread['runtime'])}"]
    parts += [f"model {printable(thread['model'])}"] if thread["model"] else []
    parts += [f"engine {printable(thread['engine'])}"] if thread["engine"] else ["no engine"]
    parts += [f"epoch {printable(thread['epoch'])}"] if thread["epoch"] else []
    parts += [f"{_tokens(thread)} tokens"] if thread["tokens"] is not None else []
    covered = thread["covered_through"]
    parts.append("what it has seen is not known" if covered is None else f"has seen entries up to {covered}")
    return [", ".join(parts)]


def _decision(decision: JsonObject) -> list[str]:
    """A decision: when, what, why in every respect, and how large it was."""
    data: dict[str, Any] = decision["data"]
    head = f"{iso_minute(decision['at_ms'])}  {_done(decision)}  {printable(str(decision['thread_id'] or ''))}".rstrip()
    reasons = [
        each["reason"] + (f" ({', '.join(map(printable, each['of']))})" if each["of"] else "")
        for each in data["differences"]
    ]
    lines = [head, f"  because: {'; '.join(reasons) or decision['reason']}"]
    if data["told"]:
        lines.append(f"  told what is new of: {', '.join(map(printable, data['told']))}")
    lines.append(f"  {_sizes(data)}")
    lines += [f"  {_fullness(data)}"] if data["tokens"] is not None or data["thread_bytes"] is not None else []
    lines += [f"  warning: {printable(text)}" for text in data["warnings"]]
    lines += [f"  alarm: `{printable(decision['alarm'])}` differs again and again"] if decision["alarm"] else []
    return lines


def _sizes(data: JsonObject) -> str:
    text = f"sent {data['sent_chars']:,} characters"
    text += f", {data['instruction_chars']:,} of instructions" if data["instruction_chars"] else ""
    text += f"; {data['cut_chars']:,} of older conversation left out" if data["cut_chars"] else ""
    largest = [f"{printable(name)} {size:,}" for name, size in data["dominant"][:DOMINANT_SHOWN]]
    return f"{text}; largest: {', '.join(largest)}" if largest else text


def _fullness(data: JsonObject) -> str:
    parts: list[str] = []
    if data["tokens"] is not None:
        limit = "no limit" if data["token_limit"] is None else f"limit {data['token_limit']:,}"
        window = "window not known" if data["window"] is None else f"window {data['window']:,}"
        source = COUNTED.get(data["token_source"], "all its calls")
        parts.append(f"held {data['tokens']:,} tokens (of {source}; {limit}, {window})")
    if data["thread_bytes"] is not None:
        parts.append(f"file {size_words(data['thread_bytes'])}")
    return ", ".join(parts)
