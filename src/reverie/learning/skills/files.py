"""`skills/<name>/SKILL.md`: what a skill says, where a person can read it, change it, switch it off or delete it.

The row and its file are kept in step in both directions. The row is changed first and says that its file is due; then
what is about to be written (its digest); then the file takes its name in one step; then the row says so. Killed at any
point, `sync` finds either the old file or the new one, knows both, and goes on. Whatever else stands there is a
person's, and the row takes it over.

Invariants: a person's text is never overwritten by ours; a file that cannot be written holds up no other; no more than
`SKILLS_MAX` skills of an agent are ever looked at.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from reverie.errors import EmbedderError, HomeReadOnlyError, MemoryPathError, StorageError, TextRefusedError
from reverie.learning.ids import content_id
from reverie.learning.records import Skill, skill_of
from reverie.learning.skills.document import (
    BrokenDocument,
    SkillDocument,
    has_head,
    judge,
    parse,
    render,
    revised,
    text_digest,
    words_digest,
)
from reverie.learning.skills.events import FILES_STAGE, note_event, note_file
from reverie.learning.skills.folder import (
    FILE_BYTES_MAX,
    SKILLS_MAX,
    Folder,
    Found,
    Glimpse,
    folder_names,
    glimpses,
    read_skill,
    remove_skill,
    survey,
    write_skill,
)
from reverie.learning.skills.moves import file_deleted, follow_moves, found_row, known_digests
from reverie.learning.trail import note
from reverie.learning.vectors import pack
from reverie.memory.documents import SKILLS_FOLDER, SkippedFile, skill_path
from reverie.sessions.forgetting import unlearned_among

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
    from pathlib import Path

    from reverie.clock import Clock
    from reverie.errors import ReverieError
    from reverie.llm.embeddings import Embedder
    from reverie.storage import Database, Row, Transaction
    from reverie.types import JsonObject, Provenance

FORGOTTEN = "what it was made of was forgotten; without the line `reverie:` in its head it is taken for your own"
ETA_WRITTEN = 0.5
"""The success rate of a skill that a person wrote, before it was used: nobody knows."""
DAY_MS = 86_400_000
VECTORS_PER_SYNC = 32
VECTOR_CHARS_MAX = 2_000


@dataclass(frozen=True, slots=True)
class SkillSync:
    """What a comparison of an agent's skills with their files did, in files."""

    written: int = 0
    edited: int = 0
    added: int = 0
    renamed: int = 0
    deleted: int = 0
    broken: int = 0
    restored: int = 0
    unwritten: int = 0


class _Step(NamedTuple):
    """What was done within the transaction, and what is to be written after it."""

    did: str = ""
    skill_id: str = ""
    text: str | None = None


class _Done(NamedTuple):
    """What became of one file, '' for nothing, and what the system said that kept it from being written."""

    did: str = ""
    error: ReverieError | None = None


class _Compared(NamedTuple):
    """What was done, by kind, and which files could not be written, by name."""

    done: Counter[str]
    errors: dict[str, ReverieError]


class SkillFiles:
    """The skill files of all agents of one home. One comparison of an agent's files runs at a time.

    `workspaces` leads from an agent to its folder. Without an `embedder` skills are found by their words alone.
    """

    def __init__(
        self, database: Database, clock: Clock, workspaces: Mapping[str, Path], embedder: Embedder | None = None
    ) -> None:
        self._database = database
        self._clock = clock
        self._workspaces = workspaces
        self._embedder = embedder
        self._locks: dict[str, asyncio.Lock] = defaultdict(asyncio.Lock)  # by agent: as many as there are agents

    async def sync(self, agent: str) -> SkillSync:
        """Bring an agent's skills in step with their files.

        People's edits, deletions and new skills are taken over, and what was not written yet is. A file that cannot be
        written is noted in the trail, counted, and tried again by the next comparison.

        Raises:
            StorageError: the database did not do what was asked.
        """
        workspace = self._workspaces.get(agent)
        if workspace is None:
            return SkillSync()
        async with self._locks[agent]:
            compared = await self._compare_all(agent, workspace)
        await self._embed_missing(agent)
        return SkillSync(**compared.done)

    @asynccontextmanager
    async def at_rest(self, agent: str) -> AsyncGenerator[Callable[[str], Awaitable[None]]]:
        """What people did to an agent's files is taken over, and no file is compared or written until this ends.

        None is written here either. Gives what deletes the file of a skill by its name, as `remove` does.
        """
        workspace = self._workspaces.get(agent)

        async def delete(name: str) -> None:
            if workspace is not None:
                await asyncio.to_thread(remove_skill, workspace, name)

        async with self._locks[agent]:
            if workspace is not None:
                await self._compare_all(agent, workspace, writes=False)
            yield delete

    async def look(self, agent: str) -> frozenset[Glimpse]:
        """An agent's skill files by name, time and size: cheap, and no longer the same when somebody changed one."""
        workspace = self._workspaces.get(agent)
        return frozenset() if workspace is None else await asyncio.to_thread(glimpses, workspace)

    async def settle(self, agent: str, name: str) -> None:
        """Bring one skill in step with its file; all of the agent's, where somebody touched it: it may have been moved.

        Raises:
            HomeReadOnlyError, StorageFullError, StorageError: the file could not be written.
        """
        workspace = self._workspaces.get(agent)
        if workspace is None:
            return
        async with self._locks[agent]:
            found = await asyncio.to_thread(read_skill, workspace, name)
            row = await self._database.read(lambda tx: tx.row("find_skill_named", agent=agent, name=name))
            if row is not None and isinstance(found, Found) and found.digest in known_digests(row):
                error = (await self._reconcile(agent, workspace, name, found.digest)).error
            else:
                error = (await self._compare_all(agent, workspace)).errors.get(name)
        if error is not None:
            raise error

    async def folders(self, agent: str) -> frozenset[str]:
        """The names of all folders of skills that are there, whatever stands in them, in lower case."""
        workspace = self._workspaces.get(agent)
        return frozenset() if workspace is None else await asyncio.to_thread(folder_names, workspace)

    async def whose(self, agent: str, name: str, text: str) -> Provenance:
        """Whose words the text of a skill's file is; a stranger's as long as nobody has looked at it."""
        row = await self._database.read(lambda tx: tx.row("find_skill_named", agent=agent, name=name))
        return row["provenance"] if row is not None and row["file_digest"] == text_digest(text) else "untrusted"

    async def remove(self, agent: str, name: str) -> None:
        """Delete the file of a skill, and its folder when nothing else stands there.

        Raises:
            HomeReadOnlyError, StorageError: it could not be deleted.
        """
        workspace = self._workspaces.get(agent)
        if workspace is not None:
            async with self._locks[agent]:
                await asyncio.to_thread(remove_skill, workspace, name)

    async def _compare_all(self, agent: str, workspace: Path, *, writes: bool = True) -> _Compared:
        folder = await asyncio.to_thread(survey, workspace)
        if not folder.usable:
            return _Compared(Counter(), {})
        rows = await self._rows(agent)
        if folder.missing and any(row["file_digest"] for row in rows):
            await self._note_once(agent, SKILLS_FOLDER, str(self._clock.now_ms() // DAY_MS), "folder_away", {})
            return _Compared(Counter(), {})
        await self._note_strays(agent, folder)
        if folder.more or len(rows) == SKILLS_MAX:
            await self._note_once(agent, SKILLS_FOLDER, "", "too_many_skills", {"looked_at": SKILLS_MAX})
        done = await self._follow_moves(agent, folder, _unsettled(folder, rows))
        errors: dict[str, ReverieError] = {}
        for name in _unsettled(folder, await self._rows(agent) if done else rows):
            seen = folder.files.get(name)
            one = await self._reconcile(agent, workspace, name, None if seen is None else seen.digest, writes=writes)
            done[one.did] += 1
            if one.error is not None:
                errors[name] = one.error
        del done[""]
        return _Compared(done, errors)

    async def _note_strays(self, agent: str, folder: Folder) -> None:
        for name in folder.strays:
            spelt = name.encode("utf-8", "backslashreplace").decode()
            await self._note_once(agent, spelt, "", "name_does_not_fit", {"path": skill_path(spelt)})

    async def _rows(self, agent: str) -> list[Row]:
        return await self._database.read(lambda tx: tx.rows("skill_files_of_agent", agent=agent, limit=SKILLS_MAX))

    async def _follow_moves(self, agent: str, folder: Folder, changed: list[str]) -> Counter[str]:
        if not any(folder.files[name].id for name in changed if name in folder.files):
            return Counter()
        now_ms = self._clock.now_ms()
        return Counter(await self._database.write(lambda tx: follow_moves(tx, agent, changed, folder, now_ms)))

    async def _reconcile(
        self, agent: str, workspace: Path, name: str, seen: str | None, *, writes: bool = True
    ) -> _Done:
        """Bring one skill in step with its file, unless that is no longer as it was `seen` (None: it was not there)."""
        found = await asyncio.to_thread(read_skill, workspace, name)
        if isinstance(found, SkippedFile):
            await self._note_once(agent, name, found.reason, "unreadable", {"reason": found.reason})
            return _Done("broken")
        if found.digest != seen:
            return _Done()  # somebody saves it just now: it is looked at the next time, with all others
        step = await self._database.write(lambda tx: self._compare(tx, agent, name, found))
        if step.text is None or not writes:
            return _Done(step.did)
        text = step.text
        try:
            written = await asyncio.to_thread(write_skill, workspace, name, text, found.digest)
        except (MemoryPathError, HomeReadOnlyError, StorageError) as error:
            await self._note_once(agent, name, str(error), "not_written", {"reason": str(error)})
            return _Done("unwritten", None if isinstance(error, MemoryPathError) else error)
        if not written:
            return _Done()  # somebody saved it in that moment: what they wrote is looked at the next time
        await self._database.write(lambda tx: _settle(tx, step.skill_id, text))
        return _Done(step.did)

    def _compare(self, tx: Transaction, agent: str, name: str, found: Found) -> _Step:
        """Decide on one file, and write down what follows for its row."""
        now_ms = self._clock.now_ms()
        row = tx.row("find_skill_named", agent=agent, name=name)
        if row is None:
            return self._take_in(tx, agent, name, found, now_ms)
        skill = skill_of(row)
        known, planned, before = row["file_digest"], row["file_planned"], row["file_planned_before"]
        match judge(skill.file_state, skill.status, known, planned, found.digest, before):
            case "written":
                assert found.content is not None
                _settle(tx, skill.id, found.content.text)
                return _Step("written")
            case "write":
                return self._planned(tx, skill, found, "written")
            case "edited" | "restored":
                return self._take_over(tx, row, found, now_ms)
            case "deleted":
                file_deleted(tx, skill, now_ms)
                return _Step("deleted")
            case "same" | "nothing":
                return _Step()

    def _take_over(self, tx: Transaction, row: Row, found: Found, now_ms: int) -> _Step:
        """The row says what a person's file says; one that is broken is left alone.

        Where the text is the one that was there before, it was not edited: what was made meanwhile goes into the file.
        """
        skill, document = skill_of(row), found.document()
        if isinstance(document, BrokenDocument):
            tx.execute("hold_broken_skill_file", id=skill.id, now=now_ms)
            return self._broken(tx, skill.agent, skill.name, skill.id, found, document, now_ms)
        same = document.words == (row["file_words"] or words_digest(skill.description, skill.guide))
        same = same and document.given_title in {"", skill.title}
        values: JsonObject = {
            "id": skill.id, "disabled": document.disabled, "digest": found.digest, "words": document.words,
        }  # fmt: skip
        if skill.file_state == "deleted" and (same or found.digest == row["file_digest"]):
            return self._restore(tx, skill, found, values, now_ms)
        if same:
            tx.execute("take_over_skill_switch", now=now_ms, **values)
        else:
            tx.execute("take_over_skill_text", title=document.given_title or document.title,
                       description=document.description, guide=document.guide, now=now_ms, **values)  # fmt: skip
        detail = {"disabled": document.disabled, "text": not same}
        note_event(tx, skill.id, "edit", now_ms, detail)
        note_file(tx, now_ms, skill, "changed", "edited_by_a_person", detail)
        return self._go_on(tx, skill.id, found, "edited")

    def _restore(self, tx: Transaction, skill: Skill, found: Found, values: JsonObject, now_ms: int) -> _Step:
        """The file that was deleted is back, saying the same: the skill is what it was."""
        tx.execute("restore_skill_file", now=now_ms, **values)
        status = skill_of(found_row(tx, skill.id)).status
        note_event(tx, skill.id, "status", now_ms, {"from": skill.status, "to": status, "why": "file_restored"})
        note_file(tx, now_ms, skill, "changed", "restored_by_a_person", {"status": status})
        return self._go_on(tx, skill.id, found, "restored")

    def _go_on(self, tx: Transaction, skill_id: str, found: Found, did: str) -> _Step:
        """After a file was taken over, it is written where the row has more to say."""
        row = found_row(tx, skill_id)
        return self._planned(tx, skill_of(row), found, did) if row["file_planned"] else _Step(did)

    def _planned(self, tx: Transaction, skill: Skill, found: Found, did: str) -> _Step:
        """What the file is to say; the row knows its digest before it is written."""
        text = render(skill) if found.content is None else revised(found.content.text, skill)
        if len(text.encode()) > FILE_BYTES_MAX or not has_head(text):
            detail = {"path": skill_path(skill.name), "reason": "it would be too long to be read again"}
            _note_once(tx, self._clock.now_ms(), skill.agent, skill.name, found.digest or "", "not_written", detail,
                       skill.id)  # fmt: skip
            return _Step("unwritten")
        tx.execute("plan_skill_file", id=skill.id, planned=text_digest(text))
        if text_digest(text) != found.digest:
            return _Step(did, skill.id, text)
        _settle(tx, skill.id, text)
        return _Step("" if did == "written" else did)

    def _take_in(self, tx: Transaction, agent: str, name: str, found: Found, now_ms: int) -> _Step:
        """A file without a row: a skill that a person wrote."""
        if found.digest is None:
            return _Step()
        document = found.document()
        if isinstance(document, BrokenDocument):
            return self._broken(tx, agent, name, "", found, document, now_ms)
        if unlearned_among(tx, agent, [document.id]).get(document.id) == "forgotten":
            return self._broken(tx, agent, name, document.id, found, BrokenDocument(FORGOTTEN), now_ms)
        if tx.value("count_skills_of_agent", agent=agent) >= SKILLS_MAX:
            detail: JsonObject = {"path": skill_path(name), "skills_max": SKILLS_MAX}
            _note_once(tx, now_ms, agent, name, found.digest, "too_many_skills", detail)
            return _Step()
        skill_id = content_id("sk", agent, "written", name)
        if tx.row("find_skill", id=skill_id) is not None:  # its folder was renamed, and now there is a new one
            skill_id = content_id("sk", agent, "written", name, now_ms)
        tx.execute("insert_skill", **_written_row(agent, name, skill_id, document, found, now_ms))
        note_event(tx, skill_id, "build", now_ms, {"by": "owner"})
        note(tx, now_ms, agent=agent, stage=FILES_STAGE, outcome="learned", reason="written_by_a_person", ref=skill_id)
        return _Step("added")

    def _broken(
        self, tx: Transaction, agent: str, name: str, ref: str, found: Found, document: BrokenDocument, now_ms: int
    ) -> _Step:
        """Say once for each version of a file what is wrong with it."""
        detail = {"path": skill_path(name), "reason": document.reason}
        _note_once(tx, now_ms, agent, name, found.digest or "", "broken_file", detail, ref)
        return _Step("broken")

    async def _note_once(self, agent: str, name: str, version: str, reason: str, detail: JsonObject) -> None:
        now_ms = self._clock.now_ms()
        await self._database.write(lambda tx: _note_once(tx, now_ms, agent, name, version, reason, detail))

    async def _embed_missing(self, agent: str) -> None:
        """Give skills vectors whose text is new; those that cannot be embedded now are found by their words."""
        if self._embedder is None:
            return
        rows = await self._database.read(
            lambda tx: tx.rows("skills_without_vectors", agent=agent, limit=VECTORS_PER_SYNC)
        )
        for row in rows:
            text = f"{row['title']}\n{row['description']}\n{row['guide']}"[:VECTOR_CHARS_MAX]
            try:
                vectors = await self._embedder.embed_passages([text])
            except TextRefusedError:
                continue
            except EmbedderError:
                return
            values = {"id": row["id"], "updated_at": row["updated_at"], "vec": pack(vectors[0])}
            await self._database.write(lambda tx, values=values: tx.execute("set_skill_vector", **values))


def _unsettled(folder: Folder, rows: list[Row]) -> list[str]:
    """The skills whose files are not as their rows know them, by name. Unreadable ones count.

    One whose file stands in a folder of a name that does not fit waits for a person to name it otherwise.
    """
    elsewhere = set(folder.strays.values())
    known = {row["name"]: row for row in rows if row["name"] in folder.files or row["id"] not in elsewhere}
    digests = {name: seen.digest for name, seen in folder.files.items()}
    return [
        name
        for name in sorted({*digests, *known})
        if name not in known or known[name]["file_planned"] or digests.get(name) != known[name]["file_digest"]
    ]


def _settle(tx: Transaction, skill_id: str, text: str) -> None:
    """The row knows what was written into its file."""
    document = parse(text)
    words = "" if isinstance(document, BrokenDocument) else document.words
    tx.execute("settle_skill_file", id=skill_id, digest=text_digest(text), words=words)


def _written_row(
    agent: str, name: str, skill_id: str, document: SkillDocument, found: Found, now_ms: int
) -> JsonObject:
    """A person's own skill as a row: in use at once, and never made anew, because no policy stands behind it."""
    return {
        "id": skill_id, "agent": agent, "name": name, "title": document.title or name, "status": "active",
        "disabled": document.disabled, "description": document.description, "guide": document.guide, "draft": "{}",
        "tools": "[]", "eta": ETA_WRITTEN, "support": 0, "gain": 0.0, "policies": "[]", "worlds": "[]",
        "anchors": "[]", "evidence": "", "built_gain": 0.0, "built_support": 0, "built_at": None,
        "file_digest": found.digest, "file_words": document.words, "file_planned": "", "file_state": "edited",
        "induced_by": "", "vec": None, "provenance": "owner", "now": now_ms, "edited_at": now_ms,
    }  # fmt: skip


def _note_once(
    tx: Transaction,
    now_ms: int,
    agent: str,
    name: str,
    version: str,
    reason: str,
    detail: JsonObject,
    ref: str = "",
) -> None:
    """Note what is wrong with a file, unless that was said of this very version before."""
    mark, said = f"skill_file:{agent}:{name}", json.dumps([reason, version])
    if tx.value("learning_mark", name=mark) == said:
        return
    tx.execute("set_learning_mark", name=mark, value=said, now=now_ms)
    note(tx, now_ms, agent=agent, stage=FILES_STAGE, outcome="failed", reason=reason, ref=ref, detail=detail)
