"""Errors of tools: their codes and their signatures."""

from __future__ import annotations

import time

import pytest

from reverie.learning.records import ToolUse
from reverie.learning.steps.normalise import StepText, reflection_in
from reverie.learning.steps.signatures import error_code_of, error_signatures, screaming
from reverie.learning.steps.tags import tags_of


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("a b c", ""),
        ("", ""),
        ("exit code 0", ""),
        ("The log says: ValueError: x\nand goes on\nfor long", ""),
        ("Process exited with code 1", "EXIT_1"),
        ("make: stopped\nCommand failed with exit code 2", "EXIT_2"),
        ('{"exit_code": 127, "stdout": ""}', "EXIT_127"),
        ('{"exit_code": 0, "stdout": "Error: no"}', ""),
        (
            "Traceback (most recent call last):\n  File x\nModuleNotFoundError: No module named 'x'",
            "MODULE_NOT_FOUND_ERROR",
        ),
        ("Traceback (most recent call last):\n  File x", "EXCEPTION"),
        ("TypeError: x is not a function", "TYPE_ERROR"),
        ("bash: foo: command not found", "COMMAND_NOT_FOUND"),
        ("ls: cannot access 'x': No such file or directory", "NO_SUCH_FILE"),
        ("open x: permission denied", "PERMISSION_DENIED"),
        ("HTTP/1.1 404 Not Found", "HTTP_404"),
        ("Error: ENOENT: no such file", "ENOENT"),
        ("错误\uff1a磁盘已满", "ERROR"),
        ('{"error": "file not found"}', "FILE_NOT_FOUND"),
        ('{"error": {"type": "RateLimit"}}', "RATE_LIMIT"),
        ('{"error": {"message": "a long story of what went wrong and why it did"}}', "ERROR"),
        ('{"error": null, "results": []}', ""),
        ('{"ok": false, "code": "busy"}', "BUSY"),
        ('{"isError": true}', "ERROR"),
        ('{"status": "failed", "message": "磁盘已满"}', "ERROR"),
        ('{"broken": ', ""),
        ("[" * 100_000, ""),
        ("{" * 60_000, ""),
    ],
)
def test_the_code_of_a_result(output: str, code: str) -> None:
    """What a tool says of itself is its code; what it only quotes is none."""
    assert error_code_of(output) == code


def test_a_code_is_in_capitals() -> None:
    """At most 32 characters."""
    assert screaming("ModuleNotFoundError") == "MODULE_NOT_FOUND_ERROR"
    assert screaming("HTTPError 404") == "HTTP_ERROR_404"
    assert len(screaming("word " * 20)) <= 32


def test_the_most_specific_signatures_come_first() -> None:
    """Each line once, whatever its case and however much of it another family knows."""
    text = (
        "error: could not build\nsrc/a.rs: error[E0308]: mismatched types\nKeyError: 'x'\nKEYERROR: 'X'\n"
        "connect ECONNREFUSED 10.0.0.1:80\nexit code 101"
    )
    assert error_signatures([text]) == (
        "error[E0308]: mismatched types",
        "KeyError: 'x'",
        "ECONNREFUSED 10.0.0.1:80",
        "error: could not build",
    )


def test_signatures_are_bounded() -> None:
    """At most four, of 6 to 160 characters; none where nothing failed."""
    many = error_signatures([f"Kind{chr(65 + number)}Error: {'x' * 300}" for number in range(9)])
    assert [len(each) for each in many] == [160] * 4
    assert error_signatures(["all is well", "exit 1", ""]) == ("exit 1",)
    assert error_signatures(["没有问题"]) == ()
    assert error_signatures(["读\n打开文件失败\uff1a权限不足\n写"]) == ("打开文件失败\uff1a权限不足",)
    assert error_signatures(["错误\uff1a磁盘已经满了"]) == ("错误\uff1a磁盘已经满了",)


@pytest.mark.parametrize(
    "piece", ["A.", "_A", " ", "\n", "error ", "exit with status ", "<reflection>", "# Reflection\n", "x="]
)
def test_no_text_takes_long(piece: str) -> None:
    """Also one that somebody made so that a pattern is slow on it."""
    text = (piece * 16_000)[:16_000]
    began = time.perf_counter()
    error_signatures([text[:4_000]])
    error_code_of(text)
    reflection_in(text)
    tags_of(StepText(text[:4_000], text[:4_000], "", "", "", (ToolUse("bash", text[:4_000]),)))
    assert time.perf_counter() - began < 0.5
