"""OpenClaw's files of recalls, in both directions: `short-term-recall.json` and `phase-signals.json`, version 1.

Reading puts right silently what OpenClaw puts right, and leaves out, with a reason, what it would: an entry that is no
object, that names no path or no lines, or that is of another source. Fields it does not know are passed over. Writing
gives what OpenClaw would write: a file of normalised entries that is read into an empty store comes out byte for byte.

Two fields are newer than April 2026: `userQueryHashes` and `provenance`. They are written only where a reader without
them would take the entry for something else. Where they are missing, all queries count as somebody's but those of
OpenClaw's own passes, which the days of the entry tell; and a daily note is its owner's, as it is to the index, while
a day of transcripts is untrusted.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast, get_args

from reverie.dreaming.entry import (
    DAYS_MAX,
    HITS_MAX,
    QUERIES_MAX,
    SNIPPET_CHARACTERS_MAX,
    TAGS_MAX,
    RecallEntry,
    entry_key,
    query_hash,
)
from reverie.dreaming.recording import no_tags, note_path
from reverie.errors import ImportFileError
from reverie.memory.text import clean, collapse
from reverie.types import Provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

VERSION = 1
FILE_BYTES_MAX = 64 * 1024 * 1024
COUNT_MAX = 2**53 - 1
KEY_CHARACTERS_MAX = 4_096
OWN_DAYS_MAX = 400
PASSES = ("__dreaming_daily__:{}", "__dreaming_sessions__:{}")
PASSES_WITHOUT_DAY = ("__dreaming_grounded_backfill__", "__dreaming_session_backfill__")
NEWER_FIELDS = frozenset({"userQueryHashes", "provenance"})
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_DAY_IN_PATH = re.compile(r"(\d{4}-\d{2}-\d{2})[^/]*$")


@dataclass(slots=True)
class RecallFile:
    """A recall store as it was read. `invalid` says how many entries were left out, by reason."""

    entries: list[RecallEntry] = field(default_factory=list[RecallEntry])
    invalid: dict[str, int] = field(default_factory=dict[str, int])
    updated_at_ms: int = 0


@dataclass(frozen=True, slots=True)
class PhaseSignal:
    """How often light and REM sleep reinforced an entry, and when last (milliseconds)."""

    light_hits: int = 0
    light_at_ms: int | None = None
    rem_hits: int = 0
    rem_at_ms: int | None = None


@dataclass(slots=True)
class PhaseFile:
    """Phase signals as they were read, by the key of their entry. `invalid` as in `RecallFile`."""

    signals: dict[str, PhaseSignal] = field(default_factory=dict[str, PhaseSignal])
    invalid: dict[str, int] = field(default_factory=dict[str, int])
    updated_at_ms: int = 0


class InvalidEntryError(Exception):
    """An entry that is left out; its text is the reason."""


# -- reading -----------------------------------------------------------------------------------------------------


def read_recall_file(path: Path, now_ms: int, tags: Callable[[str, str], tuple[str, ...]] = no_tags) -> RecallFile:
    """Read `short-term-recall.json`. Reads a file and parses it: call it on a worker thread.

    `now_ms` stands for times that are missing; `tags` names the concepts of an entry that has none.

    Raises:
        ImportFileError: it cannot be read, is larger than 64 MiB, or is no recall store of version 1.
    """
    store = _read_store(path, "short-term-recall.json")
    read = RecallFile(updated_at_ms=instant_of(store.get("updatedAt")) or now_ms)
    found: dict[str, RecallEntry] = {}
    for value in _entries_of(store, path).values():
        try:
            entry = parse_entry(value, now_ms, tags)
        except InvalidEntryError as error:
            read.invalid[str(error)] = read.invalid.get(str(error), 0) + 1
        else:
            found[entry.key] = entry
    read.entries = list(found.values())
    return read


def read_phase_file(path: Path, now_ms: int) -> PhaseFile:
    """Read `phase-signals.json`; an entry without hits is passed over. On a worker thread, as `read_recall_file`.

    Raises:
        ImportFileError: as there.
    """
    store = _read_store(path, "phase-signals.json")
    read = PhaseFile(updated_at_ms=instant_of(store.get("updatedAt")) or now_ms)
    for name, value in _entries_of(store, path).items():
        if not isinstance(value, dict):
            read.invalid["not an object"] = read.invalid.get("not an object", 0) + 1
            continue
        fields = cast("dict[str, Any]", value)
        signal = PhaseSignal(
            min(count_of(fields.get("lightHits")), HITS_MAX),
            instant_of(fields.get("lastLightAt")),
            min(count_of(fields.get("remHits")), HITS_MAX),
            instant_of(fields.get("lastRemAt")),
        )
        if signal.light_hits or signal.rem_hits:
            read.signals[_text(fields.get("key")) or name] = signal
    return read


def with_phases(entries: Iterable[RecallEntry], signals: Mapping[str, PhaseSignal]) -> list[RecallEntry]:
    """The entries with the reinforcements that are known of them; those of other keys stand for nothing."""
    return [
        replace(
            entry,
            light_hits=signal.light_hits,
            light_at_ms=signal.light_at_ms,
            rem_hits=signal.rem_hits,
            rem_at_ms=signal.rem_at_ms,
        )
        if (signal := signals.get(entry.key))
        else entry
        for entry in entries
    ]


def _read_store(path: Path, called: str) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ImportFileError(f"{path} cannot be read: {error.strerror or error}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ImportFileError(f"{path} is larger than 64 MiB: have OpenClaw repair its store, which shortens it.")
    if not data.strip():
        return {"version": VERSION, "entries": {}}
    try:
        store: object = json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ImportFileError(f"{path} is no JSON ({error}): give the path of OpenClaw's {called}.") from error
    if not isinstance(store, dict):
        raise ImportFileError(f"{path} is no store of OpenClaw: give the path of its {called}.")
    fields = cast("dict[str, Any]", store)
    if fields.get("version", VERSION) != VERSION:
        message = f"{path} is of version {str(fields['version'])[:20]}; only version {VERSION} can be read."
        raise ImportFileError(message)
    return fields


def _entries_of(store: dict[str, Any], path: Path) -> dict[str, Any]:
    entries = store.get("entries", {})
    if not isinstance(entries, dict):
        raise ImportFileError(f"{path} is no store of OpenClaw: its `entries` are no object.")
    return cast("dict[str, Any]", entries)


def parse_entry(value: object, now_ms: int, tags: Callable[[str, str], tuple[str, ...]]) -> RecallEntry:
    """An entry as a file holds it, put right.

    Raises:
        InvalidEntryError: it is left out, and why.
    """
    if not isinstance(value, dict):
        raise InvalidEntryError("not an object")
    fields = cast("dict[str, Any]", value)
    path = note_path(_text(fields.get("path")))
    if not path:
        raise InvalidEntryError("no path")
    start, end = _line(fields.get("startLine")), _line(fields.get("endLine"))
    if fields.get("source") != "memory":
        raise InvalidEntryError("source is not memory")
    claim = _text(fields.get("claimHash"))
    key = _text(fields.get("key")) or entry_key(path, start, end, claim)
    if len(key) > KEY_CHARACTERS_MAX:
        raise InvalidEntryError("key or path too long")
    last = instant_of(fields.get("lastRecalledAt"))
    entry = RecallEntry(
        key=key,
        path=path,
        start_line=start,
        end_line=end,
        snippet=collapse(_text(fields.get("snippet")))[:SNIPPET_CHARACTERS_MAX].rstrip(),
        recall_count=count_of(fields.get("recallCount")),
        daily_count=count_of(fields.get("dailyCount")),
        grounded_count=count_of(fields.get("groundedCount")),
        total_score=max(0.0, _number(fields.get("totalScore"))),
        max_score=min(1.0, max(0.0, _number(fields.get("maxScore")))),
        first_recalled_at_ms=_or_now(instant_of(fields.get("firstRecalledAt")), now_ms),
        last_recalled_at_ms=_or_now(last, now_ms),
        queries=tuple(_distinct(fields.get("queryHashes")))[:QUERIES_MAX],
        days=_days(fields.get("recallDays")),
        tags=tuple(tag.lower() for tag in _distinct(fields.get("conceptTags"), lowered=True))[:TAGS_MAX],
        claim_hash=claim,
        promoted_at_ms=_promoted(fields.get("promotedAt"), now_ms),
    )
    return replace(
        entry,
        tags=entry.tags or tags(path, entry.snippet),
        user_queries=_read_user_queries(entry, fields.get("userQueryHashes")),
        provenance=_read_provenance(entry, fields.get("provenance")),
    )


def _text(value: object) -> str:
    return clean(value).strip() if isinstance(value, str) else ""


def _number(value: object) -> float:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return 0.0
    if isinstance(value, bool) or not isinstance(value, int | float):
        return 0.0
    try:
        number = float(value)
    except OverflowError:
        return 0.0
    return number if math.isfinite(number) else 0.0


def count_of(value: object) -> int:
    """A count as the files have it: whole, and neither negative nor beyond what JavaScript counts."""
    return min(COUNT_MAX, max(0, math.floor(_number(value))))


def _line(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or not float(value).is_integer():
        raise InvalidEntryError("a line is not an integer")
    return min(COUNT_MAX, max(1, int(value)))


def instant_of(value: object) -> int | None:
    """An instant as the files have it, in milliseconds since 1970; None for what is none."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value.strip())
    except ValueError:
        return None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    try:
        return max(0, (at - datetime.fromtimestamp(0, UTC)) // timedelta(milliseconds=1))
    except OverflowError:
        return None


def _or_now(instant: int | None, now_ms: int) -> int:
    return now_ms if instant is None else instant


def _promoted(value: object, now_ms: int) -> int | None:
    """Whatever stands there marks it as promoted, also a time that nobody can read."""
    return _or_now(instant_of(value), now_ms) if value else None


def _distinct(value: object, *, lowered: bool = False) -> list[str]:
    if not isinstance(value, list):
        return []
    texts = (_text(each) for each in cast("list[object]", value))
    return list(dict.fromkeys((text.lower() if lowered else text)[:64] for text in texts if text))


def _days(value: object) -> tuple[str, ...]:
    found = {text[:10] for text in _distinct(value) if _DAY.match(text)}
    return tuple(sorted(found))[-DAYS_MAX:]


def _read_user_queries(entry: RecallEntry, value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_distinct(cast("list[object]", value)))[:QUERIES_MAX]
    return _supposed_user_queries(entry)


def _supposed_user_queries(entry: RecallEntry) -> tuple[str, ...]:
    """The queries of people and models, as far as an entry without that field tells them."""
    if not entry.recall_count:
        return ()
    if not entry.daily_count + entry.grounded_count:
        return entry.queries
    own = set(map(query_hash, PASSES_WITHOUT_DAY))
    for day in _days_of(entry):
        own.update(_queries_of_passes(day))
    return tuple(each for each in entry.queries if each not in own)


def _days_of(entry: RecallEntry) -> set[str]:
    """The days on which, or about which, a pass may have counted an entry: its note's, and those of its recalls."""
    days = set(entry.days) | set(_DAY_IN_PATH.findall(entry.path))
    for day in tuple(days)[:DAYS_MAX]:
        try:
            around = date.fromisoformat(day)
        except ValueError:
            continue
        days.update((around + timedelta(days=shift)).isoformat() for shift in (-1, 1))
    first, last = entry.first_recalled_at_ms // 86_400_000, entry.last_recalled_at_ms // 86_400_000
    for number in range(max(first, last - OWN_DAYS_MAX), last + 1):
        days.add(datetime.fromtimestamp(number * 86_400, UTC).date().isoformat())
    return days


@lru_cache(maxsize=2 * OWN_DAYS_MAX)
def _queries_of_passes(day: str) -> frozenset[str]:
    return frozenset(query_hash(each.format(day)) for each in PASSES)


def _read_provenance(entry: RecallEntry, value: object) -> Provenance:
    if not isinstance(value, dict):
        return _supposed_provenance(entry)
    said = cast("dict[str, Any]", value).get("originClass")
    return next((known for known in get_args(Provenance) if known == said), "untrusted")


def _supposed_provenance(entry: RecallEntry) -> Provenance:
    return "untrusted" if "memory/.dreams/" in entry.path else "owner"


# -- writing -----------------------------------------------------------------------------------------------------


def file_head(updated_at_ms: int) -> str:
    """The beginning of either file, up to its first entry."""
    return f'{{\n  "version": {VERSION},\n  "updatedAt": {_quoted(iso_time(updated_at_ms))},\n  "entries": {{'


def file_tail(*, any_entries: bool) -> str:
    """The end of either file, behind its last entry."""
    return ("\n  }" if any_entries else "}") + "\n}\n"


def recall_lines(entries: Sequence[RecallEntry], *, first: bool) -> str:
    """Entries as they stand in `short-term-recall.json`; `first` if nothing stands before them."""
    return _lines([(entry.key, _recall_fields(entry)) for entry in entries], first=first)


def phase_lines(entries: Sequence[RecallEntry], *, first: bool) -> str:
    """The reinforced ones of these entries as they stand in `phase-signals.json`; empty if there is none."""
    reinforced = [entry for entry in entries if entry.light_hits or entry.rem_hits]
    return _lines([(entry.key, _phase_fields(entry)) for entry in reinforced], first=first)


def iso_time(at_ms: int) -> str:
    """An instant as OpenClaw writes it: `2026-04-04T03:00:00.000Z`."""
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at_ms % 1000:03}Z"


def entry_fields(entry: RecallEntry, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of an entry that was read from `given`: those in its order, unknown ones as they are, then the rest.

    What is newer than April 2026 stays as it is where it is, and is not added.
    """
    known = {name: value for name, value in _recall_fields(entry).items() if name not in NEWER_FIELDS}
    optional = {"claimHash", "promotedAt"}
    kept = {name: known.get(name, value) for name, value in given.items() if name in known or name not in optional}
    return kept | {name: value for name, value in known.items() if name not in kept}


def _recall_fields(entry: RecallEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "key": entry.key,
        "path": entry.path,
        "startLine": entry.start_line,
        "endLine": entry.end_line,
        "source": "memory",
        "snippet": entry.snippet,
        "recallCount": entry.recall_count,
        "dailyCount": entry.daily_count,
        "groundedCount": entry.grounded_count,
        "totalScore": entry.total_score,
        "maxScore": entry.max_score,
        "firstRecalledAt": iso_time(entry.first_recalled_at_ms),
        "lastRecalledAt": iso_time(entry.last_recalled_at_ms),
        "queryHashes": entry.queries,
        "recallDays": entry.days,
        "conceptTags": entry.tags,
    }
    if entry.claim_hash:
        fields["claimHash"] = entry.claim_hash
    if entry.promoted_at_ms is not None:
        fields["promotedAt"] = iso_time(entry.promoted_at_ms)
    if entry.user_queries != _supposed_user_queries(entry):
        fields["userQueryHashes"] = entry.user_queries
    if entry.provenance != _supposed_provenance(entry):
        fields["provenance"] = {"originClass": entry.provenance}
    return fields


def _phase_fields(entry: RecallEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {"key": entry.key, "lightHits": entry.light_hits, "remHits": entry.rem_hits}
    if entry.light_at_ms is not None:
        fields["lastLightAt"] = iso_time(entry.light_at_ms)
    if entry.rem_at_ms is not None:
        fields["lastRemAt"] = iso_time(entry.rem_at_ms)
    return fields


def _lines(named: Sequence[tuple[str, dict[str, Any]]], *, first: bool) -> str:
    pieces = [f"\n    {_quoted(key)}: {written(fields, '    ')}" for key, fields in named]
    return ("" if first or not pieces else ",") + ",".join(pieces)


def written(value: object, indent: str = "") -> str:
    """A value as JavaScript writes it, indented by two spaces: numbers differ from Python's."""
    inner = f"{indent}  "
    if isinstance(value, dict):
        parts = [f"{inner}{_quoted(name)}: {written(each, inner)}" for name, each in cast("Any", value).items()]
        return "{\n" + ",\n".join(parts) + f"\n{indent}}}" if parts else "{}"
    if isinstance(value, tuple | list):
        parts = [inner + written(each, inner) for each in cast("tuple[Any, ...]", value)]
        return "[\n" + ",\n".join(parts) + f"\n{indent}]" if parts else "[]"
    return javascript_number(value) if isinstance(value, float) else _quoted(value)


def _quoted(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def javascript_number(value: float) -> str:
    """A finite number as JavaScript writes it: `1`, not `1.0`; `0.00001`, not `1e-05`."""
    if value.is_integer() and abs(value) < 1e21:  # noqa: PLR2004 (where JavaScript begins to write exponents)
        return str(int(value))
    written = repr(value)
    mantissa, _, exponent = written.partition("e")
    if not exponent:
        return written
    power = int(exponent)
    if -7 < power < 0:  # noqa: PLR2004 (as above)
        return format(Decimal(written), "f")
    return f"{mantissa}e{power:+d}"
