"""What a refusal means for the caller, the operator, and another try."""

from __future__ import annotations

import json
from typing import Any

import pytest

from reverie.errors import (
    UpstreamMalformedError,
    UpstreamRefusedError,
    UpstreamTimeoutError,
    UpstreamUnreachableError,
)
from reverie.llm.upstream_failures import CalledServer, Refusal, refused, reported, retry_after_s, retry_wait

KEY = "sk-very-secret"
SERVER = CalledServer("the model's server", "https://api.example/v1", "the environment variable KEY", KEY)
NOW_MS = 1_767_225_600_000  # 2026-01-01 00:00 UTC


def refusal(
    status: int, body: str = "", *, tools: bool = False, retry_after: str | None = None
) -> UpstreamRefusedError:
    """The error for an answer with this status and body."""
    return refused(SERVER, Refusal(status, body, retry_after), model="gpt-x", with_tools=tools)


def error_body(message: str, code: str | None = None, kind: str = "invalid_request_error") -> str:
    """An error in OpenAI's form."""
    return json.dumps({"error": {"message": message, "type": kind, "code": code}})


@pytest.mark.parametrize(
    ("upstream", "body", "answer"),
    [
        (
            400,
            error_body("too long", "context_length_exceeded"),
            (400, "invalid_request_error", "context_length_exceeded"),
        ),
        (413, "", (400, "invalid_request_error", None)),
        (422, '{"detail": "no"}', (400, "invalid_request_error", None)),
        (401, error_body("bad key", "invalid_api_key"), (502, "authentication_error", "upstream_auth")),
        (403, "", (502, "authentication_error", "upstream_auth")),
        (402, "", (429, "insufficient_quota", "insufficient_quota")),
        (404, "", (502, "api_error", "upstream_not_found")),
        (408, "", (504, "api_error", "upstream_timeout")),
        (429, error_body("slow down", kind="requests"), (429, "rate_limit_error", "requests")),
        (429, "", (429, "rate_limit_error", "rate_limit_exceeded")),
        (429, error_body("pay", "insufficient_quota"), (429, "insufficient_quota", "insufficient_quota")),
        (429, error_body("pay", None, "insufficient_quota"), (429, "insufficient_quota", "insufficient_quota")),
        (500, "", (502, "api_error", "upstream_error")),
        (503, "", (502, "api_error", "upstream_error")),
        (504, "", (504, "api_error", "upstream_timeout")),
        (529, "", (502, "api_error", "upstream_error")),
        (301, "", (502, "api_error", "upstream_error")),
        (418, "", (502, "api_error", "upstream_error")),
    ],
)
def test_each_status_has_its_meaning(upstream: int, body: str, answer: tuple[int, str, str | None]) -> None:
    """A status of the server becomes one status, type and code for the caller."""
    error = refusal(upstream, body)
    assert (error.status, error.type, error.code) == answer
    assert error.upstream_status == upstream


def test_the_servers_words_are_quoted() -> None:
    """The message names the server, the status and what it said."""
    said = str(refusal(400, error_body("messages: too many")))
    assert said == "the model's server at https://api.example/v1 answered HTTP 400: messages: too many"


@pytest.mark.parametrize(
    ("body", "quoted"),
    [
        ('{"error": "plain text"}', "plain text"),
        ('{"object": "error", "message": "vllm says no", "code": 400}', "vllm says no"),
        ('{"detail": [{"loc": ["body"], "msg": "extra"}]}', '[{"loc": ["body"], "msg": "extra"}]'),
        ('[{"error": {"message": "in a list"}}]', "in a list"),
        ('{"error": {"message": {"detail": "nested"}}}', '{"detail": "nested"}'),
        ("<html>\n  Bad gateway\n</html>", "<html> Bad gateway </html>"),
        ('"a string"', '"a string"'),
    ],
)
def test_error_bodies_of_all_shapes(body: str, quoted: str) -> None:
    """Whatever shape a server gives its errors, its message is found; what is no JSON is quoted as it is."""
    assert str(refusal(400, body)).endswith(f"answered HTTP 400: {quoted}")


def test_long_bodies_are_cut() -> None:
    """A page of HTML does not become a page of error message."""
    assert len(str(refusal(500, "x" * 100_000))) < 600


def test_a_wrong_key_says_where_the_key_is_and_not_what_it_is() -> None:
    """The operator learns which variable to look at; an echoed key is removed."""
    said = str(refusal(401, error_body(f"Incorrect API key provided: {KEY}")))
    assert said.endswith("Incorrect API key provided: ***; check the API key in the environment variable KEY")
    assert KEY not in said


def test_a_placeholder_for_a_key_is_not_taken_out() -> None:
    """A key like `ollama`, set because some key is needed, leaves the message readable."""
    server = CalledServer("the model's server", "http://127.0.0.1:11434/v1", "the environment variable KEY", "ollama")
    said = str(refused(server, Refusal(400, "ollama says no"), model="m", with_tools=False))
    assert said.endswith("ollama says no")


def test_a_missing_key_says_so() -> None:
    """Without a key the advice is to set one."""
    server = CalledServer("the model's server", "https://api.example/v1", "the file /etc/key")
    said = str(refused(server, Refusal(401, ""), model="m", with_tools=False))
    assert said.endswith("answered HTTP 401; no API key is set: put one into the file /etc/key")


def test_an_unknown_model_is_named() -> None:
    """404 is as often a wrong URL as a wrong model: the message names both."""
    assert "serves the model 'gpt-x' and that the URL" in str(refusal(404))


def test_a_redirect_names_its_target() -> None:
    """A server that has moved tells where to; redirects are not followed with a key in hand."""
    error = refused(SERVER, Refusal(308, "", location="https://new.example/v1"), model="m", with_tools=False)
    assert str(error).endswith("answered HTTP 308; it points to https://new.example/v1: set that as the URL")


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (400, "registry.ollama.ai/library/phi3:latest does not support tools"),
        (400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'),
        (500, "Unsupported param: tools"),
        (500, "tools param requires --jinja flag"),
        (404, "No endpoints found that support tool use."),
        (400, "This model doesn't support function calling"),
        (400, "Function calling is not enabled for this model"),
        (422, "`tools` is not supported by this model"),
        (400, "Tool use has not been supported yet"),
    ],
)
def test_a_model_without_tools_is_recognised(status: int, message: str) -> None:
    """The wordings of servers that cannot be offered tools give the code on which the turn goes on without."""
    error = refusal(status, error_body(message), tools=True)
    assert (error.status, error.type, error.code) == (400, "invalid_request_error", "tools_unsupported")
    assert refusal(status, error_body(message)).code != "tools_unsupported"


@pytest.mark.parametrize(
    "message",
    [
        "messages with role 'tool' must be a response to a preceding message with 'tool_calls'",
        "Invalid 'tools[0].function.name': string does not match pattern",
        "context length exceeded: 9000 > 8192",
        "temperature is not supported with this model",
    ],
)
def test_other_refusals_are_not_taken_for_that(message: str) -> None:
    """A wrong use of tools, or an unsupported parameter, is not a model without tools."""
    assert refusal(400, error_body(message), tools=True).code != "tools_unsupported"


@pytest.mark.parametrize(
    ("report", "answer"),
    [
        ({"message": "overloaded", "code": 503}, (503, 502, "api_error")),
        ({"message": "busy", "type": "rate_limit_error"}, (429, 429, "rate_limit_error")),
        ({"message": "pay", "code": "insufficient_quota"}, (429, 429, "insufficient_quota")),
        ({"message": "long", "type": "invalid_request_error", "code": "x"}, (400, 400, "invalid_request_error")),
        ({"message": "odd", "code": 7}, (502, 502, "api_error")),
        ("just text", (502, 502, "api_error")),
    ],
)
def test_errors_inside_an_answer(report: dict[str, Any] | str, answer: tuple[int, int, str]) -> None:
    """An error object in a stream is understood by its code or type, and quoted."""
    error = reported(SERVER, report, model="m", with_tools=False)
    assert (error.upstream_status, error.status, error.type) == answer
    said = report if isinstance(report, str) else report["message"]
    assert str(error) == f"the model's server at https://api.example/v1 reported an error in its answer: {said}"


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 529])
def test_passing_refusals_are_tried_again(status: int) -> None:
    """Overload, limits and gateway errors pass: another try after the usual backoff."""
    assert retry_wait(refusal(status), NOW_MS, 30) is True


@pytest.mark.parametrize("status", [301, 400, 401, 402, 403, 404, 409, 413, 422, 501])
def test_lasting_refusals_are_not(status: int) -> None:
    """What the same request would meet again is not tried again, whatever the header says."""
    assert retry_wait(refusal(status, retry_after="1"), NOW_MS, 30) is False


@pytest.mark.parametrize(
    "error",
    [
        refusal(429, error_body("pay", "insufficient_quota"), retry_after="1"),
        refusal(500, error_body("Unsupported param: tools"), tools=True),
        UpstreamTimeoutError("late"),
        UpstreamMalformedError("odd"),
        ValueError("a defect"),
    ],
)
def test_errors_that_another_try_cannot_help(error: Exception) -> None:
    """No quota, no tools, a timeout, a broken reply and a defect of ours are final."""
    assert retry_wait(error, NOW_MS, 30) is False


def test_a_failed_connection_is_tried_again() -> None:
    """A server that is restarting is waited for."""
    assert retry_wait(UpstreamUnreachableError("refused"), NOW_MS, 30) is True


@pytest.mark.parametrize(
    ("header", "wait"),
    [("7", 7.0), ("30", 30.0), ("31", False), ("Thu, 01 Jan 2026 00:00:12 GMT", 12.0), ("soon", True), ("-5", 0.0)],
)
def test_retry_after_is_honoured_up_to_the_longest_wait(header: str, wait: float) -> None:
    """The server's wait is taken as given; one beyond the bound means no further try."""
    assert retry_wait(refusal(429, retry_after=header), NOW_MS, 30) == wait


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("nonsense", None),
        ("nan", None),
        ("1.5", 1.5),
        ("Wed, 31 Dec 2025 23:59:00 GMT", 0.0),
        ("Thu, 01 Jan 2026 00:01:00 -0000", 60.0),
    ],
)
def test_retry_after_forms(header: str | None, seconds: float | None) -> None:
    """Seconds and HTTP dates are read; dates that have passed ask for no wait."""
    assert retry_after_s(header, NOW_MS) == seconds


def test_overload_that_mentions_tools_is_overload() -> None:
    """A passing failure does not take the tools away for good."""
    assert refusal(503, "tools are not supported while loading", tools=True).code == "upstream_error"
