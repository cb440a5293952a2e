"""Secrets in imported text are hidden; what only looks long is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.memory.redaction import redacted

A = "A1b2C3d4E5f6G7h8I9j0K1l2M3n4O5p6Q7r8S9t0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"OPENAI_API_KEY=sk-{A}", "OPENAI_API_KEY=sk-A1b…S9t0"),
        (f"use sk-ant-api03-{A} please", "use sk-ant…S9t0 please"),
        (f"ghp_{A[:36]}", f"ghp_A1…{A[32:36]}"),
        (f"xoxb-12345-{A}", "xoxb-1…S9t0"),
        ("AKIAIOSFODNN7EXAMPLE", "AKIAIO…MPLE"),
        (f"AIza{A[:35]}", f"AIzaA1…{A[31:35]}"),
        (f"bot 123456789:{A[:35]}", f"bot 123456…{A[31:35]}"),
        (f"Authorization: Bearer {A}", "Authorization: Bearer A1b2C3…S9t0"),
        ("eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK", "eyJhbG…SMeK"),
        ('"password": "correct-horse"', '"password": "***"'),
        ("client_secret = hunter2hunter2", "client_secret = ***"),
        ("postgres://me:hunter2@db/x", "postgres://me:***@db/x"),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIE\n-----END RSA PRIVATE KEY-----", "***"),
    ],
)
def test_known_forms_are_hidden(text: str, expected: str) -> None:
    """A key or token keeps its beginning and its end, a short one nothing."""
    assert redacted(text) == expected
    assert redacted(expected) == expected


@pytest.mark.parametrize(
    "text",
    [
        "The task-list is long, and the sky-scraper too.",
        "My password is short.",
        "tokens: 400",
        "https://example.org:8443/path",
        "3f786850e387550fdab836ed7e6dc881de23001b",
    ],
)
def test_ordinary_text_stays(text: str) -> None:
    """Words, ports, commits and addresses are no secrets."""
    assert redacted(text) == text


@given(st.text(alphabet="sk-_=: AB12…\n\"'", max_size=300))
def test_hiding_twice_changes_nothing(text: str) -> None:
    """What was hidden is not hidden again, so that importing again finds the same text."""
    assert redacted(redacted(text)) == redacted(text)
