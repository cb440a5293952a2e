"""Pages of what was learned: filtered first, then cut, and never at the cost of reading everything.

A page looks at stretches of rows, the newest first, until it is full, until there are no more, or until it has looked
at `STRETCHES_MAX` of them. In the last case it says where to go on, and may hold less than was asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.errors import RequestError, UnknownLearnedError
from reverie.learning.surfaces.items import FORMS, item
from reverie.memory.text import clean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from reverie.learning.surfaces.ports import Kind
    from reverie.storage import Row, Transaction
    from reverie.types import JsonObject

LISTED, LISTED_MAX = 50, 200
LOOKED_AT = 5_000
"""Rows of a stretch, where a filter may leave out most of them."""
STRETCHES_MAX = 20
QUERY_CHARS_MAX = 200
TRIGRAM_CHARS = 3
"""Fewer characters than this are looked for in titles alone: the index of words has no shorter pieces."""
EXCERPT_CHARS = 280
BEFORE_ALL = {"at": 2**63 - 1, "id": ""}
"""A place ahead of the newest row."""


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page: `agent` '' means all of them (of jobs alone), `after` is the id of the last row before it."""

    kind: Kind
    agent: str = ""
    status: str = ""
    q: str = ""
    after: str = ""
    limit: int = LISTED

    def check(self) -> None:
        """Refuse what makes no sense.

        Raises:
            RequestError: the status is none of this kind, or the query or the limit is out of range.
        """
        statuses = FORMS[self.kind].statuses
        if self.status and self.status not in statuses:
            listed = ", ".join(f"`{each}`" for each in statuses)
            raise RequestError(f"`status` is one of {listed}.", param="status")
        if len(self.q) > QUERY_CHARS_MAX:
            raise RequestError(f"`q` has at most {QUERY_CHARS_MAX} characters.", param="q")
        if not 1 <= self.limit <= LISTED_MAX:
            raise RequestError(f"`limit` is a number from 1 to {LISTED_MAX}.", param="limit")


@dataclass(frozen=True, slots=True)
class Page:
    """Items, the newest first. `next_after` is where the next page begins; None: there is none."""

    items: tuple[JsonObject, ...]
    next_after: str | None

    def as_json(self) -> JsonObject:
        """As a list of the wire."""
        more = self.next_after is not None
        return {"object": "list", "data": list(self.items), "has_more": more, "next_after": self.next_after}


def read_page(tx: Transaction, asked: PageRequest) -> Page:
    """A page of one kind.

    Raises:
        UnknownLearnedError: there is no row `after`.
    """
    stem = FORMS[asked.kind].stem
    filters = _filters(asked)
    looked_at = LOOKED_AT if any(filters.values()) else asked.limit + 1
    place: Row = dict(BEFORE_ALL)
    if asked.after:
        place = tx.row(f"place_of_{stem}", id=asked.after) or {}
        if not place:
            raise UnknownLearnedError(f"There is no {FORMS[asked.kind].noun} '{asked.after[:100]}'.", param="after")
    found: list[Row] = []
    for _ in range(STRETCHES_MAX):
        stretch = {"agent": asked.agent, "at": place["at"], "id": place["id"], "looked_at": looked_at}
        found += tx.rows(f"page_of_{stem}", **stretch, **_used(asked, filters), limit=asked.limit + 1 - len(found))
        if len(found) > asked.limit:
            return _page(asked, found[: asked.limit], found[asked.limit - 1]["id"])
        end = tx.row(f"end_of_{stem}", **(stretch if asked.kind != "jobs" else _without_agent(stretch)))
        if end is None:
            return _page(asked, found, None)
        place = end
    return _page(asked, found, place["id"])


def _page(asked: PageRequest, rows: list[Row], next_after: str | None) -> Page:
    return Page(tuple(item(asked.kind, row) for row in rows), next_after)


def _filters(asked: PageRequest) -> dict[str, str | None]:
    """What rows must be like. Words are looked up in their index; what it does not have, or is too short, in titles."""
    q = clean(asked.q)
    by_words = FORMS[asked.kind].has_words and len(q) >= TRIGRAM_CHARS
    match = '"' + q.replace('"', '""') + '"' if by_words else None
    escaped = q.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    pattern = f"%{escaped}%" if q and not by_words else None
    agent = asked.agent if asked.kind == "jobs" else ""
    return {"status": asked.status, "match": match, "pattern": pattern, "of_agent": agent}


def _used(asked: PageRequest, filters: Mapping[str, str | None]) -> JsonObject:
    """The parameters that the query of this kind has beside those of its stretch."""
    used: JsonObject = {"status": filters["status"], "pattern": filters["pattern"]}
    if FORMS[asked.kind].has_words:
        used["match"] = filters["match"]
    if asked.kind in {"traces", "policies", "world-models", "feedback"}:
        used["chars"] = EXCERPT_CHARS
    return used


def _without_agent(stretch: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in stretch.items() if name != "agent"}
