"""Buckets: what a step was like, in four words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.learning.policies.buckets import Bucket, bucket_of, error_code, parse_signature
from reverie.learning.records import ToolUse

words = st.text(st.characters(categories=("L", "N")), max_size=12)


def test_signature_has_a_line_for_what_is_missing() -> None:
    """A signature is `primary|secondary|tool|err`, with `_` for what there is none of."""
    bucket = bucket_of(["docker", "pip"], [ToolUse("shell", "pip install", error_code="1")], [], "")

    assert bucket == Bucket("docker", "pip", "shell", "EXIT_1")
    assert bucket.signature == "docker|pip|shell|EXIT_1"
    assert bucket_of([], [], [], "").signature == "_|_|_|_"
    assert bucket_of(["docker"], [], [], "").signature == "docker|_|_|_"


@given(words, words, words, words)
def test_parsing_is_the_inverse_of_writing(primary: str, secondary: str, tool: str, error: str) -> None:
    """A signature that is parsed gives the bucket that was written."""
    bucket = bucket_of([primary, secondary], [ToolUse(tool, "")], [error], "")

    assert parse_signature(bucket.signature) == bucket


def test_words_that_would_break_a_signature_do_not() -> None:
    """A tag with the separator in it is one component, and `_` as a tag is none."""
    bucket = bucket_of(["a|b", "_"], [], [], "")

    assert bucket == Bucket("a/b")
    assert parse_signature(bucket.signature) == bucket


def test_what_is_no_signature_has_no_components() -> None:
    """A signature of another number of parts is read as none."""
    assert parse_signature("") == Bucket()
    assert parse_signature("a|b|c") == Bucket()
    assert parse_signature("a|b|c|d|e") == Bucket()


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("failed with MODULE_NOT_FOUND at line 3", "MODULE_NOT_FOUND"),
        ("the command exited with code 127", "EXIT_127"),
        ("exit status 2", "EXIT_2"),
        ("EXIT_1", "EXIT_1"),
        ("exit code 0", ""),
        ("open: ENOENT, no such file", "ENOENT"),
        ("an ERROR of EVERY kind", ""),
        ("SSL_CERT_ERROR, then exit code 60", "SSL_CERT_ERROR"),
        ("nothing of the kind", ""),
    ],
)
def test_codes_are_found_in_texts(text: str, code: str) -> None:
    """A code is a word in capitals with underscores, a system's own, or the number a program ended with."""
    assert error_code([text]) == code


def test_error_is_read_from_the_reflection_last() -> None:
    """A tool's code counts before the signatures of errors, and these before the reflection."""
    reflection = "It stopped with PIP_BUILD_FAILED, as before."

    assert bucket_of([], [ToolUse("sh", "", error_code="not found")], ["E_X_Y"], reflection).error == "NOT_FOUND"
    assert bucket_of([], [ToolUse("sh", "")], ["oops ENOENT"], reflection).error == "ENOENT"
    assert bucket_of([], [ToolUse("sh", "")], ["no code in here"], reflection).error == "PIP_BUILD_FAILED"
