"""What forgetting is about, as values: the portion that is to go, and the traces of it that were found or removed.

A home keeps what was said in many places. Each kind of place is one `Forgets`: it finds the traces of a portion, and
removes them. What is to forget is a list of these, so that whatever keeps something new joins it here.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

from reverie.dreaming.cuttings import Mentions, same_words
from reverie.memory.forgetting import Place

if TYPE_CHECKING:
    from reverie.dreaming.cuttings import Stretch
    from reverie.sessions.forgetting import Doomed, Wanted

Trace = Literal[
    "sessions",  # whole conversations
    "messages",  # single messages that are meant
    "answers",  # what the model wrote in their turns
    "summaries",  # compactions that may hold some of it
    "notes",  # note files, whole
    "paragraphs",  # paragraphs of other notes: extracts, and what a model wrote down
    "entries",  # recall entries
    "searches",  # recorded searches that asked with its words
    "hits",  # what other searches surfaced of it
    "quotes",  # results of tools and quoting answers elsewhere
    "passages",  # of the index
    "vectors",  # of the embedding cache
    "promoted",  # generated entries of MEMORY.md
    "changes",  # recorded changes of MEMORY.md, which cannot be undone any more
    "reports",  # items of reports of sleep
    "diary",  # entries of the dream diary
    "openclaw",  # entries of OpenClaw's files of recalls in the workspace
    "steps",  # what learning kept of each step
    "episodes",  # what was learned of a stretch of conversation: gone, or without its words
    "policies",  # that rest on any of it
    "world_models",  # that rest on any of it
    "skills",  # that rest on any of it, with their files
    "feedback",  # and repairs that rest on it
    "archives",  # files of the archive that hold some of it
]
"""What is counted, in the order in which it is told."""


class Edit(NamedTuple):
    """A change of a Markdown file of the workspace: its path there, and what it is as a unified diff."""

    path: str
    diff: str


class Cut(NamedTuple):
    """What is cut out of a note: extracts of these stretches, and paragraphs of these digests.

    `lines` are those it takes now, and `text` what stands there. They are found anew when it is cut.
    """

    path: str
    stretches: tuple[Stretch, ...] = ()
    digests: frozenset[bytes] = frozenset()
    lines: frozenset[int] = frozenset()
    text: str = ""


@dataclass(slots=True)
class Traces:
    """What was found, or removed: how much of what, the edits of Markdown, files of the archive, and what is left.

    `remarks` are sentences for people: what stays behind, and why.
    """

    counts: Counter[Trace] = field(default_factory=Counter["Trace"])
    edits: list[Edit] = field(default_factory=list[Edit])
    archives: list[str] = field(default_factory=list[str])
    remarks: list[str] = field(default_factory=list[str])

    def add(self, other: Traces) -> None:
        """Take in what was found elsewhere, or of another portion."""
        self.counts.update(other.counts)
        self.edits += other.edits
        self.archives += [name for name in other.archives if name not in self.archives]
        self.remarks += [remark for remark in other.remarks if remark not in self.remarks]


@dataclass(frozen=True)
class Portion:
    """A bounded part of what an agent is to forget, with what was learned of it before anything was removed.

    `notes` are notes that go whole. `history` is an imported history that does: what was learned under its name.
    `cuts` are paragraphs of other notes. `passages` are the texts of its recall entries, by which they are known again
    where they are quoted. `learned` is how what was learned from it is cited.
    """

    agent: str
    wanted: Wanted
    now_ms: int
    dooms: tuple[Doomed, ...] = ()
    notes: tuple[str, ...] = ()
    history: str = ""
    delete_files: bool = False
    delete_archives: bool = False
    cuts: tuple[Cut, ...] = ()
    passages: tuple[str, ...] = ()
    learned: frozenset[str] = frozenset()

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where in memory it stands: conversations, messages of conversations, notes, lines of notes."""
        found = [Place(doom.session.path, None if doom.whole else frozenset(doom.seqs)) for doom in self.dooms]
        found += [Place(path) for path in self.notes]
        return (*found, *(Place(cut.path, cut.lines) for cut in self.cuts))

    @cached_property
    def by_path(self) -> dict[str, Place]:
        """The places by their paths."""
        return {place.path: place for place in self.places}

    def holds(self, path: str, start_line: int, end_line: int) -> bool:
        """Whether these lines stand there, with any of them."""
        place = self.by_path.get(path)
        return place is not None and place.holds(start_line, end_line)

    def means(self, path: str, start_line: int, end_line: int, text: str) -> bool:
        """Whether a passage is of it, by its place or, in a note whose lines may have moved, by what it says."""
        if self.holds(path, start_line, end_line):
            return True
        return any(cut.path == path and same_words(text, cut.text) for cut in self.cuts)

    @cached_property
    def mentions(self) -> Mentions:
        """Finds where it is cited or quoted."""
        return Mentions(self.places, self.passages, self.learned)

    @property
    def teaches(self) -> bool:
        """Whether anything can have been learned of it."""
        return bool(self.dooms or self.history)

    @cached_property
    def turns(self) -> tuple[str, ...]:
        """The turns of which single messages go."""
        return tuple(turn for doom in self.dooms if not doom.whole for turn in doom.turns)

    @cached_property
    def whole_sessions(self) -> tuple[Doomed, ...]:
        """The conversations that go whole."""
        return tuple(doom for doom in self.dooms if doom.whole)


class Forgets(Protocol):
    """One kind of place where something is kept. `remove` may be interrupted anywhere, and is then called again."""

    async def look(self, portion: Portion) -> Traces:
        """What is there of a portion. Nothing is changed."""
        ...

    async def remove(self, portion: Portion) -> Traces:
        """Remove it; what is not there any more is no error."""
        ...
