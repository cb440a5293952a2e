"""The main job: talk, stop, start again tomorrow, and it remembers, with citations."""

from __future__ import annotations

import json
import subprocess
import time
from typing import TYPE_CHECKING, Any

import openai
import pytest

from reverie.testing.fake_upstream import Plan
from reverie.types import ToolCall
from tests.acceptance.servers import said_by_user, sdk, until

if TYPE_CHECKING:
    from tests.acceptance.servers import Server, WithUpstream

MEMORY_TOOL = ToolCall("call_1", "memory_search", '{"query": "spare key flowerpot"}')


def say(client: openai.OpenAI, text: str, user: str = "main") -> str:
    answer = client.chat.completions.create(model="reverie", user=user, messages=[{"role": "user", "content": text}])
    return answer.choices[0].message.content or ""


# -- memory ----------------------------------------------------------------------------------------------------------


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
        alice = connected.asked[1].body["messages"]

        until(lambda: connected.server.figure("indexed_chunks") >= 4, "what was said is indexed", within_s=5)
        say(client, "Where did I put the spare key?", user="bob")
        bob = connected.asked[-1].body["messages"][-1]["content"]

    assert [message["role"] for message in alice] == ["system", "user", "assistant", "user"]
    assert alice[1]["content"] == "The spare key is under the third flowerpot."
    assert bob.startswith("<recalled_memory>")
    assert bob.endswith("</recalled_memory>\n\nWhere did I put the spare key?")


def test_the_model_searches_memory_itself(connected: WithUpstream) -> None:
    """A memory_search of the model is answered by Reverie within the turn; the client sees only what was said."""
    note = connected.server.workspace / "memory" / "2026-02-03.md"
    note.write_text("The spare key is under the third flowerpot.\n", encoding="utf-8")
    until(lambda: connected.server.figure("indexed_chunks"), "the note is indexed", within_s=5)
    connected.upstream.plan = Plan(text="I will look.", tool_calls=(MEMORY_TOOL,))
    answer = connected.server.chat("Where is it?")
    offered = {tool["function"]["name"] for tool in connected.asked[0].body["tools"]}
    result = connected.asked[1].body["messages"][-1]
    reply = {"role": "assistant", "content": "I will look.\n\nI will look."}

    assert answer.json["choices"] == [{"index": 0, "message": reply, "finish_reason": "stop"}]
    assert offered == {"memory_search", "memory_get", "memory_append"}
    assert (result["role"], result["tool_call_id"]) == ("tool", "call_1")
    assert "memory/2026-02-03.md" in result["content"]
    assert "third flowerpot" in result["content"]


def test_a_file_changed_by_hand_is_found_within_a_second(server: Server) -> None:
    """The watcher notices, and the next question is answered from the new line, with its place."""
    server.start()
    note = server.workspace / "memory" / "2026-02-03.md"
    note.write_text("# Tuesday\n\nThe piano tuner Ms. Velasquez comes on Thursday at ten.\n", encoding="utf-8")
    saved_at = time.monotonic()

    until(lambda: server.figure("indexed_chunks"), "the note is indexed", within_s=5)
    assert time.monotonic() - saved_at < 1
    answer = server.chat("When does the piano tuner come?").text

    assert "“The piano tuner Ms. Velasquez comes on Thursday at ten.” [memory/2026-02-03.md#L1-L3]" in answer


def test_a_question_asked_again_is_answered_again(server: Server) -> None:
    """The question's own echoes in the transcript do not push the answer away."""
    server.start()
    note = server.workspace / "memory" / "2026-02-03.md"
    note.write_text("The piano tuner Ms. Velasquez comes on Thursday at ten.\n", encoding="utf-8")
    until(lambda: server.figure("indexed_chunks"), "the note is indexed", within_s=5)
    answers: list[str] = []
    for number in range(5):
        answers.append(server.chat("When does the piano tuner come?").text)
        until(lambda number=number: server.figure("indexed_chunks") == number + 2, "the question is indexed")

    assert ["Velasquez" in answer for answer in answers] == [True] * 5


# -- what the model is sent ------------------------------------------------------------------------------------------


def test_the_prompt_prefix_is_byte_identical_between_turns(connected: WithUpstream) -> None:
    """What the model read in one turn up to its input is what the next turn begins with."""
    with sdk(connected.server) as client:
        for n in range(3):
            say(client, f"Message number {n}.", user="prefix")
    sent = [json.dumps(request.body["messages"], ensure_ascii=False) for request in connected.asked]
    tools = [json.dumps(request.body.get("tools")) for request in connected.asked]

    assert sent[1].startswith(sent[0][: sent[0].index("Message number 0.")])
    assert sent[2].startswith(sent[1][: sent[1].index("Message number 1.")])
    assert len(set(tools)) == 1


def test_a_client_that_resends_its_history_is_not_fed_twice(wire: WithUpstream) -> None:
    """An ordinary chat client keeps the whole conversation and sends it each time."""
    history: list[Any] = []
    with sdk(wire.server) as client:
        for n in range(4):
            history.append({"role": "user", "content": f"Question {n}"})
            answer = client.chat.completions.create(model="reverie", user="replay", messages=history)
            history.append({"role": "assistant", "content": answer.choices[0].message.content or ""})

    assert wire.asked[-1].body["messages"][1:] == history[:7]
    assert wire.server.transcript("agent:main:openai-user:replay") == [(m["role"], m["content"]) for m in history]


def test_images_reach_the_model_once(wire: WithUpstream) -> None:
    """A data URI is passed on with its turn, and stands for itself in words in later ones."""
    url = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5C"
    )
    content: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url, "detail": "low"}},
    ]
    with sdk(wire.server) as client:
        client.chat.completions.create(
            model="reverie",
            user="photographer",
            messages=[{"role": "user", "content": content}],
        )
        say(client, "And its colour?", user="photographer")

    assert wire.asked[0].body["messages"][-1] == {"role": "user", "content": content}
    assert said_by_user(wire.asked[1]) == ["What is this?\n[image omitted]", "And its colour?"]


def test_sampling_fields_reach_the_model(wire: WithUpstream) -> None:
    """What the client sets for the model is sent as it is; what is the runtime's own business is not."""
    shape = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}
    sampling: dict[str, Any] = {
        "temperature": 0.25,
        "top_p": 0.5,
        "presence_penalty": 0.5,
        "frequency_penalty": -0.5,
        "seed": 7,
        "stop": ["END"],
        "max_completion_tokens": 321,
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": shape, "strict": True}},
    }
    wire.server.chat("Answer in JSON.", user="sampler", **sampling)
    body = wire.asked[0].body

    assert {name: body.get(name) for name in sampling} == sampling
    assert body["model"] == "fake-model"
    assert body.keys() - sampling.keys() == {"model", "messages", "stream"}


# -- streaming -------------------------------------------------------------------------------------------------------


def test_streaming_with_the_sdk(wire: WithUpstream) -> None:
    """Deltas arrive in order and the usage comes last."""
    with sdk(wire.server) as client:
        stream = client.chat.completions.create(
            model="reverie",
            user="streamer",
            stream=True,
            stream_options={"include_usage": True},
            messages=[{"role": "user", "content": "stream this sentence please"}],
        )
        chunks = list(stream)

    deltas = [choice.delta.content for chunk in chunks for choice in chunk.choices if choice.delta.content]
    assert "".join(deltas) == "stream this sentence please"
    assert len(deltas) == 4
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens > 0


def test_the_first_words_arrive_while_the_model_still_speaks(wire: WithUpstream) -> None:
    """Nothing is held back until the end: the first delta is there while the turn runs."""
    wire.upstream.plan = Plan(echo=True, chunks=4, chunk_delay_s=0.1)
    with sdk(wire.server) as client:
        stream = client.chat.completions.create(
            model="reverie", user="listener", stream=True, messages=[{"role": "user", "content": "one two three four"}]
        )
        first = next(text for chunk in stream if (text := chunk.choices[0].delta.content))
        during = wire.server.turn_states("agent:main:openai-user:listener")
        rest = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
    after = wire.server.turn_states("agent:main:openai-user:listener")

    assert (first, rest) == ("one t", "wo three four")
    assert (during, after) == (["running"], ["answered"])


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
        vectors = await client.embeddings.create(model="reverie", input=["one", "two"])

    assert plain.choices[0].message.content == "hello there"
    assert streamed == "hello again"
    assert "reverie" in models
    assert [len(entry.embedding) for entry in vectors.data] == [512, 512]


def test_curl_plain_and_streaming(wire: WithUpstream) -> None:
    """The command line client that everybody has."""
    url = f"{wire.server.url}/v1/chat/completions"

    def curl(body: str) -> str:
        command = ["curl", "-sS", "-N", url, "-H", "Content-Type: application/json", "-d", body]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout

    plain = json.loads(curl('{"model":"reverie","messages":[{"role":"user","content":"hi"}]}'))
    stream = curl('{"model":"reverie","stream":true,"messages":[{"role":"user","content":"hi"}]}')

    assert plain["choices"][0]["message"] == {"role": "assistant", "content": "hi"}
    assert stream.startswith("data: {")
    assert stream.endswith("data: [DONE]\n\n")


# -- tools of the client ---------------------------------------------------------------------------------------------

WEATHER = ToolCall("call_9", "get_weather", '{"city": "Oslo", "days": 2}')
WEATHER_TOOL: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
ASKED = {
    "id": "call_9",
    "type": "function",
    "function": {"name": "get_weather", "arguments": '{"city": "Oslo", "days": 2}'},
}


def check_tool_round(wire: WithUpstream, user: str) -> None:
    """The model got the client's tool, and then its result after the call that asked for it."""
    first, second = (request.body for request in wire.asked)
    question, call, result = second["messages"][1:]
    assert first["tools"] == [WEATHER_TOOL]
    assert question == {"role": "user", "content": "Weather in Oslo?"}
    assert (call["role"], call["tool_calls"]) == ("assistant", [ASKED])
    assert result == {"role": "tool", "content": "rain, 4 degrees", "tool_call_id": "call_9"}
    assert [role for role, _ in wire.server.transcript(f"agent:main:openai-user:{user}")] == [
        "user",
        "assistant",
        "tool",
        "assistant",
    ]


def test_a_tool_of_the_client(wire: WithUpstream) -> None:
    """The model's call goes to the client, whose result in the next request is answered."""
    wire.upstream.plan = Plan(text="It rains.", tool_calls=(WEATHER,))
    messages: list[Any] = [{"role": "user", "content": "Weather in Oslo?"}]
    with sdk(wire.server) as client:
        first = client.chat.completions.create(
            model="reverie",
            user="tools",
            messages=messages,
            tools=[WEATHER_TOOL],
        ).choices[0]
        assert first.finish_reason == "tool_calls"
        assert first.message.tool_calls is not None
        messages += [
            first.message.model_dump(exclude_none=True),
            {"role": "tool", "tool_call_id": first.message.tool_calls[0].id, "content": "rain, 4 degrees"},
        ]
        second = client.chat.completions.create(
            model="reverie",
            user="tools",
            messages=messages,
            tools=[WEATHER_TOOL],
        ).choices[0]

    assert [call.model_dump() for call in first.message.tool_calls] == [ASKED]
    assert (second.finish_reason, second.message.content) == ("stop", "It rains.")
    check_tool_round(wire, "tools")


def test_a_tool_of_the_client_in_a_stream(wire: WithUpstream) -> None:
    """Streamed, the pieces of the call add up to it; a client that sends the result alone is understood."""
    wire.upstream.plan = Plan(text="It rains.", tool_calls=(WEATHER,))
    with sdk(wire.server) as client:
        with client.chat.completions.stream(
            model="reverie",
            user="stream-tools",
            messages=[{"role": "user", "content": "Weather in Oslo?"}],
            tools=[WEATHER_TOOL],
        ) as stream:
            first = stream.get_final_completion().choices[0]
        assert first.message.tool_calls is not None
        call = first.message.tool_calls[0]
        second = client.chat.completions.create(
            model="reverie",
            user="stream-tools",
            stream=True,
            messages=[{"role": "tool", "tool_call_id": call.id, "content": "rain, 4 degrees"}],
            tools=[WEATHER_TOOL],
        )
        answer = "".join(chunk.choices[0].delta.content or "" for chunk in second)

    assert first.finish_reason == "tool_calls"
    assert (call.id, call.function.name, call.function.arguments) == (WEATHER.id, WEATHER.name, WEATHER.arguments)
    assert answer == "It rains."
    check_tool_round(wire, "stream-tools")


# -- sessions, models, embeddings ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "user", "key"),
    [
        ({}, "Zoe", "agent:main:openai-user:zoe"),
        ({}, "main", "agent:main:main"),
        ({"x-openclaw-session-key": "agent:main:Kitchen"}, "zoe", "agent:main:Kitchen"),
        ({"x-reverie-session-key": "a free name"}, "zoe", "a free name"),
        ({"x-reverie-session-key": "ours", "x-openclaw-session-key": "theirs"}, "zoe", "ours"),
        ({"x-openclaw-dm-scope": "main"}, "zoe", "agent:main:main"),
        ({"x-openclaw-dm-scope": "per-channel-peer", "x-openclaw-message-channel": "telegram"}, "zoe",
         "agent:main:telegram:direct:zoe"),
    ],
)  # fmt: skip
def test_every_answer_names_its_session(wire: WithUpstream, headers: dict[str, str], user: str, key: str) -> None:
    """Header and `user` decide the session; plain, streamed and failed answers say which one it was."""
    plain = wire.server.chat("hello", user=user, headers=headers)
    stream = wire.server.chat("hello", user=user, headers=headers, stream=True)
    wire.upstream.plan = Plan(fail_first=1, fail_status=400)
    failed = wire.server.chat("hello", user=user, headers=headers)

    assert [answer.headers["x-reverie-session-key"] for answer in (plain, stream, failed)] == [key] * 3
    assert [answer.status for answer in (plain, stream, failed)] == [200, 200, 400]
    assert wire.server.transcript(key)[-5:] == [
        ("user", "hello"), ("assistant", "hello"), ("user", "hello"), ("assistant", "hello"), ("user", "hello"),
    ]  # fmt: skip


def test_clients_share_the_main_session(wire: WithUpstream) -> None:
    """What one client says with the scope `main`, another one goes on with as the user `main`."""
    wire.server.chat("The boat is called Alba.", user="phone", headers={"x-openclaw-dm-scope": "main"})
    wire.server.chat("What is the boat called?", user="main")

    assert said_by_user(wire.asked[-1])[-2:] == ["The boat is called Alba.", "What is the boat called?"]


def test_requests_without_a_session_share_nothing(wire: WithUpstream) -> None:
    """Without `user` or a header each request is a conversation of its own."""
    body = {"model": "reverie", "messages": [{"role": "user", "content": "hello"}]}
    first, second = (wire.server.post("/v1/chat/completions", body) for _ in range(2))

    assert first.headers["x-reverie-session-key"] != second.headers["x-reverie-session-key"]
    assert said_by_user(wire.asked[-1]) == ["hello"]


def test_the_models(wire: WithUpstream) -> None:
    """The agents are listed as models, under both names, and each can be looked up and used."""
    with sdk(wire.server) as client:
        models = [model.id for model in client.models.list()]
        one = client.models.retrieve("reverie/main")
        with pytest.raises(openai.NotFoundError) as unknown:
            client.models.retrieve("reverie/nobody")

    assert models == ["reverie", "reverie/main", "openclaw", "openclaw/default", "openclaw/main"]
    assert (one.id, one.object, one.owned_by) == ("reverie/main", "model", "reverie")
    assert unknown.value.code == "model_not_found"
    assert [wire.server.chat("hi", user="models", model=model).status for model in models] == [200] * 5


def test_embeddings_in_both_encodings(server: Server) -> None:
    """The SDK asks for base64 unless told otherwise; both encodings give the same vectors, of length 1."""
    server.start()
    texts = ["The boat is called Alba.", "Das Boot heißt Alba."]
    with sdk(server) as client:
        usual = client.embeddings.create(model="reverie", input=texts)
        floats = client.embeddings.create(model="reverie", input=texts, encoding_format="float")
    raw = server.post("/v1/embeddings", {"model": "reverie", "input": texts, "encoding_format": "base64"})

    assert isinstance(raw.json["data"][0]["embedding"], str)
    for one, other in zip(usual.data, floats.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert sum(x * x for x in one.embedding) == pytest.approx(1, abs=1e-3)
    first, second = (entry.embedding for entry in floats.data)
    assert sum(x * y for x, y in zip(first, second, strict=True)) > 0.5
