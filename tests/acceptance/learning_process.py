"""A server that learns, as a process of its own, with the model's server that answers what learning asks."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import openai

from reverie.testing.fake_upstream import serve_in_thread
from reverie.testing.learning_answers import LearningAnswers
from reverie.testing.learning_upstream import LearningUpstream
from reverie.types import ToolCall
from tests.acceptance.servers import sdk, until

if TYPE_CHECKING:
    from collections.abc import Generator

    from openai.types.chat import ChatCompletion, ChatCompletionMessageParam, ChatCompletionToolUnionParam

    from tests.acceptance.servers import Server

KEY = "agent:main:"
LEARNED_S_MAX = 45.0
AT_ONCE = {
    "REVERIE_LEARNING__MODE": "full",
    "REVERIE_LEARNING__REWARD__FEEDBACK_WINDOW_S": "3",
    "REVERIE_LEARNING__JOBS__IDLE_QUIET_S": "0",
    "REVERIE_LEARNING__JOBS__POLL_S": "0.1",
    "REVERIE_LEARNING__JOBS__RETRY_WAIT_S": "0.1",
    "REVERIE_LEARNING__SKILLS__COOLDOWN_HOURS": "0",
    "REVERIE_LEARNING__WORLD_MODELS__COOLDOWN_DAYS": "0",
}
"""Nothing is waited for that need not be."""
WITHOUT_VECTORS = {"REVERIE_MEMORY__EMBEDDER": "none"}
"""The server starts faster, and everything is found by its words."""
CALL = ToolCall("call_1", "run_checks", '{"path": "tests/test_parser.py"}')
TOOL: ChatCompletionToolUnionParam = {
    "type": "function",
    "function": {"name": CALL.name, "parameters": {"type": "object", "properties": {"path": {"type": "string"}}}},
}
ASK = "New task: run the checks of the parser"
RESULT = "3 passed in 0.12 s"


@dataclass
class Learner:
    """A server that learns, and the model's server behind it; the one here, unless another one is named."""

    server: Server
    upstream: LearningUpstream = field(default_factory=LearningUpstream)

    def say(self, session: str, *messages: ChatCompletionMessageParam, tools: bool = False) -> ChatCompletion:
        """One turn with the official client."""
        with sdk(self.server) as client:
            return client.chat.completions.create(
                model="reverie",
                messages=messages,
                extra_headers={"x-reverie-session-key": KEY + session},
                tools=[TOOL] if tools else openai.omit,
            )

    def ask(self, session: str, text: str) -> str:
        """A turn without tools; the id of its answer."""
        return self.say(session, {"role": "user", "content": text}).id

    def task(self, session: str, ask: str = ASK) -> str:
        """A task: the model calls a tool of the client's, has its result, replies; the id of that reply."""
        asked: ChatCompletionMessageParam = {"role": "user", "content": f"{ask}, for the branch {session}, please."}
        called = self.say(session, asked, tools=True).choices[0].message
        assert called.tool_calls is not None
        assistant: Any = called.model_dump(exclude_none=True)
        call_id = called.tool_calls[0].id
        result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": call_id, "content": RESULT}
        replied = self.say(session, asked, assistant, result, tools=True)
        assert replied.choices[0].finish_reason == "stop"
        return replied.id

    def end(self, session: str) -> None:
        """End a conversation: what was done in it is complete."""
        answer = self.server.post(f"/v1/sessions/{quote(KEY + session, safe='')}/reset", b"")
        assert answer.status == 200, answer.body

    def done(self, *sessions: str, ask: str = ASK) -> None:
        """One task in each session, and its end."""
        for session in sessions:
            self.task(session, ask)
            self.end(session)

    def rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        """What a query of `state.db` gives."""
        return self.server.rows(sql, *values)

    def learned(self, kind: str, **asked: str) -> list[dict[str, Any]]:
        """A page of what was learned, as the server lists it."""
        query = "&".join(f"{name}={quote(value)}" for name, value in asked.items())
        answer = self.server.get(f"/v1/learning/{kind}?{query}")
        assert answer.status == 200, answer.body
        return answer.json["data"]

    @property
    def status(self) -> dict[str, Any]:
        """`GET /v1/learning/status`."""
        return self.server.get("/v1/learning/status").json

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The calls of the model that were no turns."""
        return [call for call in list(self.upstream.log.calls) if call["op"] != "turn"]

    def command(self, *words: str) -> Any:
        """What a command tells a program."""
        done = self.server.run(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def until_scored(self, tasks: int) -> None:
        """Wait until so many tasks are scored."""
        scored = "SELECT count(*) FROM tasks WHERE state = 'scored'"
        until(lambda: self.rows(scored) == [(tasks,)], f"{tasks} tasks are scored", within_s=LEARNED_S_MAX)

    def settle(self) -> None:
        """Wait until all that was said is followed, and nothing is left to be done."""
        until(lambda: self.is_settled, f"nothing is left to be done: {self.unfinished}", within_s=LEARNED_S_MAX)

    @property
    def unfinished(self) -> list[tuple[Any, ...]]:
        """The jobs that are not done, and why."""
        return self.rows("SELECT key, state, waits_for, error FROM job_requests WHERE state <> 'done'")

    @property
    def is_settled(self) -> bool:
        return self.rows(
            "SELECT (SELECT coalesce(max(id), 0) FROM messages) = position,"
            " (SELECT count(*) FROM job_requests WHERE state NOT IN ('done', 'dead', 'cancelled'))"
            " FROM learning_cursors WHERE session_id = ''"
        ) == [(1, 0)]


@contextmanager
def learner_for(server: Server, *more: dict[str, str], upstream: LearningUpstream | None = None) -> Generator[Learner]:
    """Put a model's server behind a server that learns and is not started yet; `more` are variables for it."""
    made = upstream or LearningUpstream(tool_calls=(CALL,))
    server.environment |= AT_ONCE
    for variables in more:
        server.environment |= variables
    with serve_in_thread(made.app) as address:
        server.arguments += ["--upstream", f"{address}/v1", "--model", "fake-model"]
        yield Learner(server, made)


def answers(**changes: Any) -> LearningUpstream:
    """A model's server whose turns call a tool, and which judges as told."""
    return LearningUpstream(LearningAnswers(**changes), tool_calls=(CALL,))
