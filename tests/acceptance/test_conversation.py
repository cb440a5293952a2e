"""The main job: talk, stop, start again tomorrow, and it remembers, with citations."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING

import openai
import pytest

if TYPE_CHECKING:
    from tests.acceptance.conftest import Server, WithUpstream


def sdk(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def say(client: openai.OpenAI, text: str, user: str = "main") -> str:
    answer = client.chat.completions.create(model="reverie", user=user, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


def test_a_conversation_is_remembered_after_a_restart_with_a_citation(server: Server) -> None:
    """With nothing configured, what was said before the restart is quoted after it, from where it stands."""
    server.start()
    with sdk(server) as client:
        first = client.chat.completions.with_raw_response.create(
            model="reverie",
            user="main",
            messages=[{"role": "user", "content": "My dentist is Dr. Okafor and the appointment is on 14 March."}],
        )
        session_id = first.headers["x-reverie-session-id"]
    assert server.stop() == 0
    server.start()
    with sdk(server) as client:
        answer = say(client, "Who is my dentist?", user="somebody-else")

    assert "Dr. Okafor" in answer
    assert f"[sessions/{session_id}#L1]" in answer
    assert "no model is connected" in answer.lower()


def test_the_model_gets_history_and_recall(connected: WithUpstream) -> None:
    """Within a session it reads the transcript; from another session it reads a fenced quotation."""
    with sdk(connected.server) as client:
        say(client, "The spare key is under the third flowerpot.", user="alice")
        say(client, "And the alarm code is on the fridge.", user="alice")
        deadline = time.monotonic() + 5
        while "flowerpot" not in str(connected.upstream.requests[-1].body) or time.monotonic() > deadline:
            say(client, "Where did I put the spare key?", user="bob")

    alice = connected.upstream.requests[1].body["messages"]
    bob = connected.upstream.requests[-1].body["messages"]
    assert [message["role"] for message in alice] == ["system", "user", "assistant", "user"]
    assert alice[1]["content"] == "The spare key is under the third flowerpot."
    assert "<recalled_memory>" in bob[-1]["content"]
    assert bob[-1]["content"].endswith("Where did I put the spare key?")


def test_the_prompt_prefix_is_byte_identical_between_turns(connected: WithUpstream) -> None:
    """What the model read in one turn up to its input is what the next turn begins with."""
    with sdk(connected.server) as client:
        for n in range(3):
            say(client, f"Message number {n}.", user="prefix")
    sent = [json.dumps(request.body["messages"], ensure_ascii=False) for request in connected.upstream.requests]
    tools = [json.dumps(request.body.get("tools")) for request in connected.upstream.requests]

    assert sent[1].startswith(sent[0][: sent[0].index("Message number 0.")])
    assert sent[2].startswith(sent[1][: sent[1].index("Message number 1.")])
    assert len(set(tools)) == 1


def test_a_client_that_resends_its_history_is_not_fed_twice(connected: WithUpstream) -> None:
    """An ordinary chat client keeps the whole conversation and sends it each time."""
    history: list[dict[str, str]] = []
    with sdk(connected.server) as client:
        for n in range(4):
            history.append({"role": "user", "content": f"Question {n}"})
            answer = client.chat.completions.create(model="reverie", user="replay", messages=history)  # pyright: ignore[reportArgumentType]
            history.append({"role": "assistant", "content": answer.choices[0].message.content or ""})
    last = [message["content"] for message in connected.upstream.requests[-1].body["messages"][1:]]

    assert last[:-1] == [text["content"] for text in history[:6]]
    assert last[-1].endswith("Question 3")


def test_streaming_with_the_sdk(connected: WithUpstream) -> None:
    """Deltas arrive in order and the usage comes last."""
    with sdk(connected.server) as client:
        stream = client.chat.completions.create(
            model="reverie",
            user="main",
            stream=True,
            stream_options={"include_usage": True},
            messages=[{"role": "user", "content": "stream this sentence please"}],
        )
        chunks = list(stream)

    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    assert text == "stream this sentence please"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


@pytest.mark.anyio
async def test_the_async_sdk(connected: WithUpstream) -> None:
    """The asynchronous client gets the same answers, streaming and not."""
    async with openai.AsyncOpenAI(base_url=f"{connected.server.url}/v1", api_key="none", max_retries=0) as client:
        plain = await client.chat.completions.create(
            model="reverie", user="main", messages=[{"role": "user", "content": "hello there"}]
        )
        stream = await client.chat.completions.create(
            model="reverie", user="main", stream=True, messages=[{"role": "user", "content": "hello again"}]
        )
        streamed = "".join([choice.delta.content or "" async for chunk in stream for choice in chunk.choices])
        models = [model.id async for model in client.models.list()]
        vector = await client.embeddings.create(model="reverie", input=["one", "two"])

    assert plain.choices[0].message.content == "hello there"
    assert streamed == "hello again"
    assert "reverie" in models
    assert len(vector.data) == 2
    assert len(vector.data[0].embedding) > 0


def test_curl_plain_and_streaming(connected: WithUpstream) -> None:
    """The command line client that everybody has."""
    url = f"{connected.server.url}/v1/chat/completions"

    def curl(body: str) -> str:
        command = ["curl", "-sS", "-N", url, "-H", "Content-Type: application/json", "-d", body]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout

    plain = json.loads(curl('{"model":"reverie","messages":[{"role":"user","content":"hi"}]}'))
    stream = curl('{"model":"reverie","stream":true,"messages":[{"role":"user","content":"hi"}]}')

    assert plain["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert stream.startswith("data: {")
    assert stream.endswith("data: [DONE]\n\n")


def test_a_file_changed_by_hand_is_found_within_a_second(server: Server) -> None:
    """The watcher notices, and the next question is answered from the new line."""
    server.start()
    note = server.home / "agents" / "main" / "workspace" / "memory" / "2026-02-03.md"
    note.parent.mkdir(exist_ok=True)
    note.write_text("# Tuesday\n\nThe piano tuner Ms. Velasquez comes on Thursday at ten.\n", encoding="utf-8")
    deadline = time.monotonic() + 1.0
    answer = ""
    while "Velasquez" not in answer and time.monotonic() < deadline:
        answer = server.chat("When does the piano tuner come?").json["choices"][0]["message"]["content"]

    assert "[memory/2026-02-03.md#L3]" in answer
