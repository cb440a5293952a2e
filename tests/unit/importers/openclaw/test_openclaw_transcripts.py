"""Session files become conversations: what was said, by whom and when."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from reverie.importers.openclaw import transcripts
from reverie.importers.openclaw.transcripts import SessionFile, SessionsReport, list_sessions, read_parts
from reverie.sessions.store import PastMessage

if TYPE_CHECKING:
    from pathlib import Path

MS = 1_770_000_000_000
ON = "2026-02-02 02:40"


def message(role: str, content: Any, **fields: Any) -> str:
    """A record of a message as a line."""
    return json.dumps({"type": "message", "message": {"role": role, "content": content, **fields}})


def read(tmp_path: Path, *lines: str | bytes) -> tuple[list[PastMessage], SessionsReport]:
    """The messages of a file with these lines."""
    path, report = tmp_path / "a.jsonl", SessionsReport()
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    os.utime(path, (5, 5))
    parts = list(read_parts(SessionFile(path, "a", "openclaw: a"), report))
    return [past for part in parts for past in part.messages], report


def test_what_was_said(tmp_path: Path) -> None:
    """Text and blocks of text by the user and the assistant, with their newlines; nothing else.

    An answer that follows the result of a tool may be the tool's.
    """
    blocks = [
        {"type": "thinking", "text": "hm"},
        {"type": "text", "text": "green"},
        {"type": "text", "text": "or black"},
    ]
    messages, report = read(
        tmp_path,
        json.dumps({"type": "session", "version": 3, "id": "a"}),
        message("user", "Which\ntea?", timestamp=MS),
        message("toolResult", "secret tool output"),
        message("assistant", blocks, timestamp=MS // 1000 + 1),
        message("assistant", [{"type": "toolCall", "name": "x"}]),
        json.dumps({"type": "compaction", "summary": "s"}),
        "",
    )

    assert messages == [
        PastMessage("user", "Which\ntea?", "user", ON, MS),
        PastMessage("assistant", "green\nor black", "assistant", ON, MS + 1_000, foreign=True),
    ]
    assert report.skipped == {}


def test_when_it_was_said(tmp_path: Path) -> None:
    """The message's own time, else the record's, else just after the one before, else the file's."""
    stamped = json.dumps(
        {"type": "message", "timestamp": "2026-02-02T02:40:00.000Z", "message": {"role": "user", "content": "b"}}
    )
    messages, _ = read(
        tmp_path,
        message("user", "a"),
        stamped,
        message("user", "c", timestamp="soon"),
        message("user", "d", timestamp=-4),
    )

    assert [past.said_at_ms for past in messages] == [5_000, MS, MS + 1, MS + 2]


def test_secrets_are_hidden(tmp_path: Path) -> None:
    """A key in a message does not come over."""
    messages, _ = read(tmp_path, message("user", "OPENAI_API_KEY=sk-abcdefghijklmnopqrstuvwx"))

    assert [past.text for past in messages] == ["OPENAI_API_KEY=sk-abc…uvwx"]


def test_a_bad_line_costs_that_line(tmp_path: Path) -> None:
    """What cannot be read is named by file and line, never by what it holds."""
    messages, report = read(
        tmp_path, message("user", "a"), b'{"type": "mess', b"\xff\xfe", "[1]", "[" * 100_000, message("user", "b")
    )

    assert [past.text for past in messages] == ["a", "b"]
    assert report.examples == [
        {"file": "a.jsonl", "line": 2, "reason": "not JSON"},
        {"file": "a.jsonl", "line": 3, "reason": "not JSON"},
        {"file": "a.jsonl", "line": 4, "reason": "not an object"},
        {"file": "a.jsonl", "line": 5, "reason": "not JSON"},
    ]


def test_a_long_conversation_comes_in_parts(tmp_path: Path) -> None:
    """No more than a part is held at once; each part is a session that names its number."""
    path = tmp_path / "a.jsonl"
    count = 2 * transcripts.PART_MESSAGES_MAX + 1
    path.write_text("\n".join([message("user", "x")] * count), encoding="utf-8")
    parts = list(read_parts(SessionFile(path, "a", "t"), SessionsReport()))

    assert [(part.name, len(part.messages)) for part in parts] == [("a", 5_000), ("a.2", 5_000), ("a.3", 1)]


def test_which_files_are_read(tmp_path: Path) -> None:
    """Those of people, reset ones under their session's id; deleted ones and those of machines are counted."""
    register = {
        "agent:main:main": {"sessionId": "a", "displayName": " Kitchen\nplans "},
        "agent:main:cron:nightly": {"sessionId": "b"},
        "agent:main:telegram:direct:7": {"sessionId": "c"},
        "broken": 7,
    }
    (tmp_path / "sessions.json").write_text(json.dumps(register), encoding="utf-8")
    for name in (
        "a.jsonl",
        "b.jsonl",
        "c.jsonl.reset.2026-01-01T00-00-00",
        "d.jsonl.deleted.1",
        "e.jsonl",
        "a.jsonl.lock",
    ):
        (tmp_path / name).write_text("", encoding="utf-8")
    (tmp_path / "f.jsonl").symlink_to(tmp_path / "a.jsonl")
    report = SessionsReport()

    assert [(file.name, file.title) for file in list_sessions(tmp_path, report)] == [
        ("a", "openclaw: Kitchen plans"),
        ("c", "openclaw: agent:main:telegram:direct:7"),
        ("e", "openclaw: e"),
    ]
    assert report.skipped == {
        "a cron, hook, heartbeat or subagent session: nobody spoke": 1,
        "deleted in OpenClaw": 1,
        "a link, or not a file": 1,
    }
