"""Errors of tools: whether a result reports one, its code, and lines by which the same error is known again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, cast

from reverie.learning.steps.tool_json import object_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SIGNATURES_MAX = 4
SIGNATURE_CHARS_MIN = 6
SIGNATURE_CHARS_MAX = 160
JSON_CHARS_MAX = 65_536
"""A longer result is not parsed to look for an error in it."""
EDGE_CHARS = 2_000
"""Of a result without form, its beginning and its end are looked at: a tool says there how it went."""
CODE_CHARS_MAX = 32
BEFORE_CHARS, AFTER_CHARS = 80, 60
"""Of a line in which something like `permission denied` stands."""

_PHRASED = re.compile(
    r"command not found|no such file or directory|permission denied|connection refused|timed out|"
    r"找不到|没有权限|权限不足|超时",
    re.IGNORECASE,
)
_FAMILIES: tuple[re.Pattern[str], ...] = (
    re.compile(r"\b(?:error|warning)(?:\[[A-Z]\d+\]|\s+[A-Z]{1,4}\d{2,5})\s*:[^\n]*"),  # compilers: error[E0308]: …
    re.compile(r"\b[A-Z]\w*(?:Error|Exception)\b(?:[ \t]*[:\uff1a][^\n]*)?"),  # exceptions
    re.compile(r"\bE(?:NOENT|ACCES|PERM|EXIST|CONNREFUSED|CONNRESET|TIMEDOUT|ADDRINUSE|PIPE|MFILE|NOSPC)\b[^\n]*"),
    re.compile(r"\b(?:HTTP(?:/\d(?:\.\d)?)?\s+|status(?:\s+code)?\s*[:=]?\s*)[45]\d\d\b[^\n]*", re.IGNORECASE),
    _PHRASED,
    re.compile(
        r"(?:\bexit(?:ed)?(?:\s+with)?(?:\s+(?:status|code))?\s*[:=]?\s*[1-9]\d{0,2}\b|"
        r"^[ \t]*(?:error|fatal|failed|错误|失败)[ \t]*[:\uff1a])[^\n]*",
        re.IGNORECASE | re.MULTILINE,
    ),
)
"""The most specific first: a line that two of them know is the first one's."""

_EXIT = re.compile(
    r"\b(?:exit(?:ed)?(?:\s+with)?\s+(?:exit\s+)?(?:status|code)|exit_code|returncode)\W{1,3}([1-9]\d{0,2})\b",
    re.IGNORECASE,
)
_TRACEBACK = re.compile(r"Traceback \(most recent call last\)")
_RAISED = re.compile(r"^(?:[\w.]+\.)?([A-Z]\w*(?:Error|Exception))\b", re.MULTILINE)
_BEGINS_BADLY = re.compile(r"\s*\[?(?:error|fatal|failed|failure|错误|失败)\]?\s*[:!\uff1a\uff01]", re.IGNORECASE)
_STATUS = re.compile(r"\s*(?:HTTP(?:/\d(?:\.\d)?)?\s+)?([45]\d\d)\s+[A-Z][a-z]")
_ERRNO = re.compile(r"\b(E[A-Z]{3,12}):")
_PHRASES = (
    ("COMMAND_NOT_FOUND", re.compile(r"\bcommand not found\s*$", re.IGNORECASE)),
    ("NO_SUCH_FILE", re.compile(r"\bno such file or directory\s*$", re.IGNORECASE)),
    ("PERMISSION_DENIED", re.compile(r"\bpermission denied\b[^\n]{0,20}$", re.IGNORECASE)),
    ("TIMED_OUT", re.compile(r"\btimed out\b[^\n]{0,30}$", re.IGNORECASE)),
    ("CONNECTION_REFUSED", re.compile(r"\bconnection refused\b[^\n]{0,20}$", re.IGNORECASE)),
)
_HUMPS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NO_WORD = re.compile(r"[^A-Za-z0-9]+")
_SPACES = re.compile(r"\s+")


def error_signatures(texts: Iterable[str]) -> tuple[str, ...]:
    """At most four lines of 6 to 160 characters that name errors in these texts, the most specific first.

    Two that differ in case alone are one, and so is one that stands within another.
    """
    kept: list[str] = []
    held = list(texts)
    for family in _FAMILIES:
        for text in held:
            for found in family.finditer(text):
                line = _line_of(found)
                if len(line) >= SIGNATURE_CHARS_MIN and not any(_same(line, one) for one in kept):
                    kept.append(line)
                if len(kept) == SIGNATURES_MAX:
                    return tuple(kept)
    return tuple(kept)


def _line_of(found: re.Match[str]) -> str:
    """What was found, on one line: a phrase says nothing without a part of the rest of its own."""
    line, text = found[0], found.string
    if found.re is _PHRASED:
        before = text[max(0, found.start() - BEFORE_CHARS) : found.start()].rsplit("\n", 1)[-1]
        line = before + line + text[found.end() : found.end() + AFTER_CHARS].split("\n", 1)[0]
    return _SPACES.sub(" ", line).strip(" :,;")[:SIGNATURE_CHARS_MAX].rstrip()


def _same(line: str, other: str) -> bool:
    one, two = line.casefold(), other.casefold()
    return one in two or two in one


def error_code_of(output: str) -> str:
    """The code of the error that a tool's output reports, such as `EXIT_1` or `NO_SUCH_FILE`; '' when it went well.

    An output that only quotes errors, a log that was read for example, reports none.
    """
    stripped = output.strip()
    if stripped.startswith("{") and len(stripped) <= JSON_CHARS_MAX:
        result = object_in(stripped)
        if result is not None:
            return _code_of_object(result)
    return _code_of_text(stripped)


def screaming(words: str) -> str:
    """Words as a code: `ModuleNotFoundError` and `module not found error` become `MODULE_NOT_FOUND_ERROR`."""
    code = _NO_WORD.sub("_", _HUMPS.sub("_", words)).strip("_").upper()
    return code[:CODE_CHARS_MAX].rstrip("_")


def _code_of_object(result: dict[str, Any]) -> str:
    for name in ("exit_code", "exitCode", "returncode", "return_code"):
        number = result.get(name)
        if isinstance(number, int) and not isinstance(number, bool) and number != 0:
            return f"EXIT_{abs(number)}"
    error = result.get("error")
    if error and error is not True:
        return next(_codes_of_error(error))
    says_no = (
        any(result.get(name) is False for name in ("ok", "success"))
        or any(result.get(name) is True for name in ("error", "isError", "is_error"))
        or result.get("status") in ("error", "failed")
    )
    return next(_codes_of_error(result.get("code") or result.get("message") or "")) if says_no else ""


def _codes_of_error(error: object) -> Iterator[str]:
    if isinstance(error, dict):
        known = cast("dict[str, Any]", error)
        for name in ("code", "type", "name"):
            if isinstance(known.get(name), str) and (code := screaming(known[name])):
                yield code
        error = known.get("message", "")
    text = str(error)
    code = _code_of_text(text)
    if code:
        yield code
    if len(text) <= CODE_CHARS_MAX and (code := screaming(text)):
        yield code
    yield "ERROR"


def _code_of_text(text: str) -> str:
    head, tail = text[:EDGE_CHARS], text[-EDGE_CHARS:]
    first_line, last_line = head.split("\n", 1)[0], tail.rsplit("\n", 1)[-1]
    return (
        _traced(head, tail)
        or _exited(first_line, last_line)
        or next((code for code, phrase in _PHRASES if phrase.search(last_line)), "")
        or _said_at_once(first_line)
    )


def _traced(head: str, tail: str) -> str:
    if not (_TRACEBACK.search(head) or _TRACEBACK.search(tail)):
        return ""
    raised = _RAISED.findall(tail)
    return screaming(raised[-1]) if raised else "EXCEPTION"


def _exited(first_line: str, last_line: str) -> str:
    exited = _EXIT.search(last_line) or _EXIT.search(first_line)
    return f"EXIT_{exited[1]}" if exited else ""


def _said_at_once(line: str) -> str:
    named, status = _RAISED.match(line), _STATUS.match(line)
    if named:
        return screaming(named[1])
    if status:
        return f"HTTP_{status[1]}"
    if not _BEGINS_BADLY.match(line):
        return ""
    errno = _ERRNO.search(line)
    return errno[1] if errno else "ERROR"
