"""Which refusals say that a prompt is too large, and what is read from them."""

from __future__ import annotations

import pytest

from reverie.errors import UpstreamRefusedError, UpstreamTimeoutError
from reverie.llm.overflow import Overflow, overflow


def refusal(message: str, *, status: int = 400, code: str | None = None) -> UpstreamRefusedError:
    return UpstreamRefusedError(
        f"the model's server at http://x/v1 answered HTTP {status}: {message}",
        upstream_status=status, status=400, kind="invalid_request_error", code=code, retry_after=None,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("message", "counted", "limit"),
    [
        ("request_too_large", None, None),
        ("This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens.",
         9_001, 8_192),
        ("This model's maximum context length is 4,097 tokens, however you requested 5,360 tokens.",
         5_360, 4_097),
        ("prompt is too long: 213462 tokens > 200000 maximum", 213_462, 200_000),
        ("The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).", 1_200_000,
         1_048_576),
        ("the request exceeds the available context size. try increasing the context size or enable context shift",
         None, None),
        ("request (9234 tokens) exceeds the available context size (8192 tokens), try increasing it", 9_234, 8_192),
        ("ollama error: context length exceeded", None, None),
        ("input is too long for the model", None, None),
        ("input exceeds the maximum number of tokens", None, None),
        ("Please reduce the length of the messages or completion.", None, None),
    ],
)  # fmt: skip
def test_a_prompt_that_is_too_large(message: str, counted: int | None, limit: int | None) -> None:
    """In the words of many servers; figures where they give some."""
    assert overflow(refusal(message)) == Overflow(counted, limit)


def test_the_code_is_enough() -> None:
    """Whatever the words are."""
    assert overflow(refusal("Nope.", code="context_length_exceeded")) == Overflow(None, None)


@pytest.mark.parametrize(
    "error",
    [
        refusal("Rate limit: too many tokens per minute", status=429),
        refusal("too many tokens per min (TPM): limit 30000, requested 40000"),
        refusal("max_tokens is too large"),
        refusal("'messages' is required"),
        UpstreamTimeoutError("maximum context length"),
    ],
)
def test_any_other_refusal(error: UpstreamRefusedError) -> None:
    """A limit on tokens a minute is no matter of the prompt's size."""
    assert overflow(error) is None
