"""Reading conversations: both forms, dates, files, and whatever else a line may hold."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reverie.errors import ImportFileError
from reverie.importers.conversations import (
    History,
    ImportReport,
    PastSession,
    parse_date_ms,
    parse_history,
    read_histories,
    session_key,
)
from reverie.sessions.store import PastMessage
from reverie.types import SessionKey

if TYPE_CHECKING:
    from collections.abc import Sequence

pytestmark = pytest.mark.anyio

NOW_MS = 1_767_225_600_000
MAY_8_MS = 1_683_554_160_000  # 2023-05-08 13:56 UTC
FILE = Path("chats.jsonl")


def parse(data: Any, report: ImportReport | None = None) -> History:
    """A value as one line of a file."""
    return parse_history(json.dumps(data), 1, FILE, NOW_MS, report or ImportReport())


async def read(path: Path) -> list[History]:
    """All histories of a file."""
    return [history async for history in read_histories(path, now_ms=NOW_MS, report=ImportReport())]


def write_lines(path: Path, rows: Sequence[Any]) -> Path:
    """A file with one JSON value a line."""
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path


class TestForms:
    def test_turns(self) -> None:
        """Turns become the messages of their session, with speaker, words of the date, and instant."""
        turn = {"session": "S1", "speaker": "Vera", "text": "Hello", "when": "1:56 pm on 8 May, 2023"}

        history = parse({"name": "talk", "turns": [turn]})

        message = PastMessage("user", "Hello", "Vera", "1:56 pm on 8 May, 2023", MAY_8_MS)
        assert history == History("talk", (PastSession("S1", (message,)),), (("S1", 1),), 1)

    def test_messages(self) -> None:
        """OpenAI messages are one session; content parts count by their text."""
        parts = [{"type": "text", "text": "What is"}, {"type": "image_url"}, {"type": "text", "text": "this?"}]

        history = parse({"messages": [{"role": "user", "content": parts}, {"role": "assistant", "content": "A cup."}]})

        messages = (
            PastMessage("user", "What is\nthis?", "user", "", NOW_MS),
            PastMessage("assistant", "A cup.", "assistant", "", NOW_MS + 1),
        )
        assert history == History("chats.jsonl-1", (PastSession("1", messages),), (("1", 1), ("1", 2)), 1)

    def test_named_speaker_of_a_role(self) -> None:
        """A message's `name` is its speaker; its role still says who is the assistant."""
        history = parse({"messages": [{"role": "assistant", "name": "Robin", "content": "Done."}]})

        assert history.sessions[0].messages == (PastMessage("assistant", "Done.", "Robin", "", NOW_MS),)

    def test_session_and_date_are_carried_forward(self) -> None:
        """A turn without session and date continues those before it, a moment later."""
        history = parse(
            {
                "name": "n",
                "turns": [
                    {"session": "A", "speaker": "user", "text": "one", "when": "2023-05-08 13:56"},
                    {"session": "", "speaker": "assistant", "text": "two", "when": ""},
                    {"session": "B", "speaker": "user", "text": "three"},
                    {"session": "A", "speaker": "user", "text": "four"},
                ],
            }
        )

        day = "2023-05-08 13:56"
        assert history.sessions == (
            PastSession(
                "A",
                (
                    PastMessage("user", "one", "user", day, MAY_8_MS),
                    PastMessage("assistant", "two", "assistant", day, MAY_8_MS + 1),
                    PastMessage("user", "four", "user", day, MAY_8_MS + 3),
                ),
            ),
            PastSession("B", (PastMessage("user", "three", "user", day, MAY_8_MS + 2),)),
        )
        assert history.places == (("A", 1), ("A", 2), ("B", 1), ("A", 3))

    def test_what_is_not_said_is_counted(self) -> None:
        """Turns without text, instructions and tool results are left out, each counted by its reason."""
        report = ImportReport()
        turns = [
            {"role": "system", "content": "Be brief."},
            {"role": "tool", "content": "{}"},
            {"role": "user", "content": "  "},
            {"role": "user"},
            {"role": "user", "content": "Hello"},
        ]

        history = parse({"messages": turns}, report)

        assert history.places == (None, None, None, None, ("1", 1))
        assert report.skipped == {"instructions": 1, "tool result": 1, "no text": 2}

    def test_a_number_is_an_instant(self) -> None:
        """A date may be a number of seconds or of milliseconds since 1970."""
        history = parse({"turns": [{"text": "a", "when": MAY_8_MS // 1000}, {"text": "b", "when": MAY_8_MS}]})

        assert [(m.said_on, m.said_at_ms) for m in history.sessions[0].messages] == [("2023-05-08 13:56", MAY_8_MS)] * 2

    def test_half_of_a_character_pair(self) -> None:
        """Text that no encoding can store is replaced, so that it can be recorded."""
        line = '{"name": "a\\ud800b", "turns": [{"text": "x\\ud83d", "speaker": "\\udc00"}]}'

        history = parse_history(line, 1, FILE, NOW_MS, ImportReport())

        assert history.name == "a?b"
        assert history.sessions[0].messages == (PastMessage("user", "x?", "?", "", NOW_MS),)

    @pytest.mark.parametrize(
        "line", ["[]", "3", '"turns"', "{}", '{"turns": 3}', '{"turns": ["hello"]}', '{"messages": null}']
    )
    def test_not_a_conversation(self, line: str) -> None:
        """JSON of another shape is refused, naming file and line."""
        with pytest.raises(ImportFileError, match=r"chats\.jsonl line 7 is not a conversation: expected an object"):
            parse_history(line, 7, FILE, NOW_MS, ImportReport())

    @given(
        st.recursive(
            st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
            lambda v: (
                st.lists(v)
                | st.dictionaries(
                    st.sampled_from(["session", "speaker", "text", "when", "role", "content", "name", "x"]), v
                )
            ),
        )
    )
    def test_any_turn(self, value: Any) -> None:
        """Whatever JSON a turn holds, it becomes a message or a counted reason."""
        report = ImportReport()

        history = parse({"turns": [{"text": value, "when": value, "speaker": value, "session": value}]}, report)

        assert len(history.places) == sum(report.skipped.values()) + sum(len(s.messages) for s in history.sessions)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("2023/05/08 (Mon) 13:56", MAY_8_MS),
        ("1:56 pm on 8 May, 2023", MAY_8_MS),
        ("2023-05-08T13:56:00Z", MAY_8_MS),
        ("2023-05-08T15:56:00+02:00", MAY_8_MS),
        ("2023-05-08 13:56", MAY_8_MS),
        ("  2023-05-08   13:56 ", MAY_8_MS),
        ("March-15-2024", 1_710_460_800_000),
        ("2024/03/15", 1_710_460_800_000),
        ("15 March 2024", 1_710_460_800_000),
        ("", None),
        ("yesterday", None),
        ("2023-02-31", None),
        ("0001-01-01T00:00:00+14:00", -62_135_647_200_000),
    ],
)
def test_parse_date(words: str, expected: int | None) -> None:
    """Each form of date found in the field is read; anything else is none, never an error."""
    assert parse_date_ms(words) == expected


def test_session_key() -> None:
    """An imported session stands under its agent, its history and its own name."""
    assert session_key("work", "conv-26", "S1") == SessionKey("work", "agent:work:import:conv-26:S1")


class TestFile:
    async def test_gzip(self, tmp_path: Path) -> None:
        """A gzipped file is read like a plain one, whatever its name."""
        rows = [{"name": "a", "turns": [{"text": "one"}]}, {"name": "b", "turns": [{"text": "two"}]}]
        plain = write_lines(tmp_path / "plain.jsonl", rows)
        packed = tmp_path / "packed.jsonl"
        packed.write_bytes(gzip.compress(plain.read_bytes()))

        assert await read(packed) == await read(plain)

    async def test_blank_lines_and_a_byte_order_mark(self, tmp_path: Path) -> None:
        """Blank lines count as lines but hold nothing; a byte order mark is no text."""
        path = tmp_path / "chats.jsonl"
        path.write_bytes(b"\xef\xbb\xbf" + b'{"turns": []}\n\n   \n{"turns": []}\n')

        assert [history.line for history in await read(path)] == [1, 4]

    async def test_bad_json_names_its_line(self, tmp_path: Path) -> None:
        """What stands before a broken line is read; the error names the line."""
        path = tmp_path / "chats.jsonl"
        path.write_text('{"name": "good", "turns": []}\n{"name": "bad", "turns": [\n', encoding="utf-8")
        histories = read_histories(path, now_ms=NOW_MS, report=ImportReport())

        assert (await anext(histories)).name == "good"
        with pytest.raises(ImportFileError, match=r"chats\.jsonl line 2 is not JSON"):
            await anext(histories)

    async def test_deep_json(self, tmp_path: Path) -> None:
        """JSON nested too deeply to be read is refused like broken JSON."""
        path = tmp_path / "chats.jsonl"
        path.write_text("[" * 100_000, encoding="utf-8")

        with pytest.raises(ImportFileError, match="line 1 is not JSON"):
            await read(path)

    async def test_cut_off_gzip(self, tmp_path: Path) -> None:
        """A gzip file that ends too early says so."""
        path = tmp_path / "chats.jsonl.gz"
        path.write_bytes(gzip.compress(json.dumps({"turns": [{"text": "x" * 10_000}]}).encode())[:-20])

        with pytest.raises(ImportFileError, match="cannot be read after line 0"):
            await read(path)

    async def test_damaged_gzip(self, tmp_path: Path) -> None:
        """A gzip file with damaged contents says so."""
        path = tmp_path / "chats.jsonl.gz"
        packed = bytearray(gzip.compress(bytes(range(256)) * 40))
        packed[12:40] = b"\xff" * 28
        path.write_bytes(packed)

        with pytest.raises(ImportFileError, match="cannot be read after line 0"):
            await read(path)

    async def test_missing_file(self, tmp_path: Path) -> None:
        """A file that is not there says so."""
        with pytest.raises(ImportFileError, match=r"nowhere\.jsonl cannot be read: No such file"):
            await read(tmp_path / "nowhere.jsonl")

    async def test_a_folder(self, tmp_path: Path) -> None:
        """A folder is not a file."""
        with pytest.raises(ImportFileError, match="cannot be read: Is a directory"):
            await read(tmp_path)

    async def test_long_line(self, tmp_path: Path) -> None:
        """A line of many megabytes is read whole."""
        text = "word " * 2_000_000
        path = write_lines(tmp_path / "chats.jsonl", [{"turns": [{"text": "short"}, {"text": text[:4_000_000]}]}])

        (history,) = await read(path)

        assert [len(message.text) for message in history.sessions[0].messages] == [5, 4_000_000]
