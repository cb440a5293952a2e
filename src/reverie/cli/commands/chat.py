"""`reverie chat`: a conversation in the terminal.

The terminal belongs to the main thread, which may wait for a key or be interrupted at any time; everything else runs
on an event loop in a thread of its own.
"""

from __future__ import annotations

import importlib
import queue
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING
from uuid import uuid4

import typer
from anyio.from_thread import start_blocking_portal

from reverie.cli.border import COULD_NOT, report_error
from reverie.cli.logs import configure_logs
from reverie.cli.opening import new_or_old_home
from reverie.cli.output import dim, is_terminal, say, say_json
from reverie.cli.running import find_server
from reverie.cli.talk import talk_here, talk_through
from reverie.config import read_secret
from reverie.errors import ReverieError

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager
    from pathlib import Path

    from anyio.from_thread import BlockingPortal

    from reverie.cli.talk import Answer, Talk
    from reverie.config import Config

MESSAGE_CHARACTERS_MAX = 1024 * 1024
EXCERPT_CHARACTERS_MAX = 100
PROMPT = "you> "


def chat_here(given: Path | None, *, session: str | None, url: str | None, agent: str | None, as_json: bool) -> None:
    """Read messages until `/quit` or the end of the input, and show the answers.

    Raises:
        ReverieError: the home cannot be opened, or the server not be reached.
    """
    configure_logs("error")
    home, config = new_or_old_home(given)
    server = None if url else find_server(home)
    token = read_secret(config.gateway.token_env, config.gateway.token_file)
    talk: AbstractAsyncContextManager[Talk]
    if url is not None:
        talk = talk_through(url.rstrip("/").removesuffix("/v1"), token, agent, None)
    elif server is not None:
        talk = talk_through(server.url, token, agent, home)
    else:
        talk = talk_here(home, config, agent)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(talk) as opened:
        chat = Chat(portal, opened, session or main_key(config, agent), agent or "main", as_json=as_json)
        failed = chat.run()
    if failed:
        raise typer.Exit(COULD_NOT)


def main_key(config: Config, agent: str | None) -> str:
    """The session that an agent's clients share."""
    return f"agent:{agent or 'main'}:{config.sessions.main_key}"


class Chat:
    """The loop of question and answer."""

    def __init__(self, portal: BlockingPortal, talk: Talk, key: str, agent: str, *, as_json: bool) -> None:
        self._portal = portal
        self._talk = talk
        self._key = key
        self._agent = agent
        self._as_json = as_json
        self._person = is_terminal() and not as_json

    def run(self) -> bool:
        """Talk until the person or the input ends it; returns whether the last message got no answer."""
        failed = False
        if self._person:
            if sys.platform != "win32":
                importlib.import_module("readline")  # gives `input` its keys
            say(dim(f"{self._key}, {self._talk.where}. /new begins a new conversation, /quit ends."))
        while (text := self._read()) is not None:
            if text == "/quit":
                break
            if text == "/new":
                self._key = f"agent:{self._agent}:chat:{uuid4().hex[:12]}"
                if self._person:
                    say(dim(f"a new conversation: {self._key}"))
            elif text:
                failed = not self._ask(text)
        return failed

    def _read(self) -> str | None:
        """The next message; None at the end of the input."""
        try:
            line = f"{input(PROMPT)}\n" if self._person else sys.stdin.readline(MESSAGE_CHARACTERS_MAX + 1)
        except (EOFError, KeyboardInterrupt):
            say()
            return None
        if len(line) > MESSAGE_CHARACTERS_MAX:
            raise ReverieError(f"a message may have at most {MESSAGE_CHARACTERS_MAX} characters")
        return line.strip() if line else None

    def _ask(self, text: str) -> bool:
        try:
            answer = self._answer(text)
        except ReverieError as error:
            report_error(error, as_json=self._as_json)
            return False
        if answer is not None:
            self._show(answer)
        return True

    def _answer(self, text: str) -> Answer | None:
        """Show the reply as it comes; None when the person did not wait for its end."""
        said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        future = self._portal.start_task_soon(self._talk.ask, self._key, text, said.put)
        future.add_done_callback(lambda _: said.put(None))
        try:
            while (piece := said.get()) is not None:
                if not self._as_json:
                    say(piece, end=False)
            return future.result()
        except KeyboardInterrupt:
            future.cancel()
            say(dim("\n(not shown any further; it is recorded all the same)"))
            return None

    def _show(self, answer: Answer) -> None:
        if self._as_json:
            memories = [asdict(memory) for memory in answer.memories]
            say_json({"session": self._key, "text": answer.text, "memories": memories})
            return
        say("\n")
        for memory in answer.memories:
            excerpt = memory.excerpt[:EXCERPT_CHARACTERS_MAX]
            say(dim(f"  {memory.citation}  {excerpt}".rstrip()))
        if answer.memories:
            say()
