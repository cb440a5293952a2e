"""Skills and their files: whatever a person does to a file counts, and a crash leaves nothing half done."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from reverie.errors import StorageError
from reverie.learning.records import skill_of
from reverie.learning.skills.document import text_digest, words_digest
from reverie.learning.skills.files import SkillFiles, SkillSync
from reverie.learning.skills.folder import FILE_BYTES_MAX, SKILLS_MAX
from tests.integration.learning.skill_world import DRAFT, OP, SkillWorld, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.learning.records import Skill

pytestmark = pytest.mark.anyio

WRITTEN = """\
---
name: sharpen
description: "Use when the burrs of the grinder are dull: every 200 kg."
license: MIT   # ours
disabled: false
---
# Sharpen the burrs

1. Unplug it.
"""


COLUMNS = "SELECT status, eta, trials, disabled, archived_at, edited_at, file_state, guide FROM skills"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[SkillWorld]:
    """A policy whose skill was made and written, and is in use."""
    opened = await open_world(tmp_path)
    opened.seed_policy()
    opened.seed_steps("ta_1")
    opened.asks.add(OP, DRAFT)
    await opened.build()
    opened.change("UPDATE skills SET status = 'active', file_planned = 'due'")
    assert await opened.files.sync("main") == SkillSync(written=1)
    yield opened
    await opened.database.aclose()


async def test_a_look_tells_whether_a_person_touched_a_file(world: SkillWorld) -> None:
    """Reading nothing: the same as long as nobody did, another one after an edit, a deletion or a new skill."""
    seen = [await world.files.look("main")]
    assert await world.files.look("main") == seen[0]

    world.path().write_text(WRITTEN, "utf-8")
    seen.append(await world.files.look("main"))
    (world.path().parent.parent / "mine").mkdir()
    (world.path().parent.parent / "mine" / "SKILL.md").write_text(WRITTEN, "utf-8")
    seen.append(await world.files.look("main"))
    world.path().unlink()
    seen.append(await world.files.look("main"))

    assert len(set(seen)) == 4
    assert {each.name for each in seen[3]} == {"mine"}
    assert await world.files.look("nobody") == frozenset()


def changed_policy(world: SkillWorld) -> None:
    """Let the policy change by so much that its skill would be made anew."""
    world.clock.advance(days=1)
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2, gain = 0.6")


async def test_a_comparison_twice_changes_nothing(world: SkillWorld) -> None:
    """Files that are as their rows know them are left alone."""
    before = world.path().stat()

    assert await world.files.sync("main") == SkillSync()
    assert world.path().stat().st_ino == before.st_ino
    assert world.rows("SELECT file_planned FROM skills") == [("",)]


async def test_an_edit_wins_over_a_rebuild(world: SkillWorld) -> None:
    """The row takes over what a person wrote; a rebuild asks nobody, leaves the text alone and says so."""
    text = world.path().read_text().replace("Collect", "Collect *everything*").replace("Use when", "Use as soon as")
    world.path().write_text(text)
    changed_policy(world)

    assert await world.build(key="skill:po_1:b") == {"skipped": "edited_by_a_person"}
    skill = await world.skill()
    assert world.path().read_text() == text
    assert "Collect *everything*" in skill.guide
    assert skill.description == "Use as soon as a release of the roaster firmware is to be announced."
    assert (skill.file_state, skill.edited_at_ms, skill.status) == ("edited", world.clock.now_ms(), "active")
    assert len(world.asks.asked) == 1
    assert world.trail()[-2:] == [("changed", "edited_by_a_person"), ("skipped", "edited_by_a_person")]


async def test_an_edit_during_the_call_of_the_model_wins(world: SkillWorld) -> None:
    """What a person saves while a rebuild is being drafted stands in the file and in the row afterwards."""
    changed_policy(world)
    text = world.path().read_text().replace("Collect", "Mine")

    class EditsMeanwhile:
        """A model during whose answer a person saves the file."""

        available = True

        async def ask(self, question: Any, job: Any) -> Any:
            await asyncio.to_thread(world.path().write_text, text)
            return question.answer.model_validate(DRAFT)

    world.asks = EditsMeanwhile()  # pyright: ignore[reportAttributeAccessIssue] (an `Asks` all the same)
    await world.build(key="skill:po_1:b")

    assert world.path().read_text() == text
    skill = await world.skill()
    assert "**Mine**" in skill.guide
    assert skill.file_state == "edited"


async def test_switching_off_in_the_file_is_no_edit_of_the_text(world: SkillWorld) -> None:
    """`disabled: true` switches the skill off, and `false` on again; the text stays ours."""
    text = world.path().read_text()
    world.path().write_text(text.replace("disabled: false", "disabled: true"))
    assert await world.files.sync("main") == SkillSync(edited=1)
    off = await world.skill()
    changed_policy(world)
    assert await world.build(key="skill:po_1:b") == {"skipped": "disabled"}

    world.path().write_text(text)
    await world.files.sync("main")
    on = await world.skill()
    assert [(each.disabled, each.file_state, each.edited_at_ms) for each in (off, on)] == [
        (True, "ours", None),
        (False, "ours", None),
    ]


async def test_lines_that_a_person_adds_to_a_head_stay(world: SkillWorld) -> None:
    """A licence, tools, a remark: neither a new status nor a rebuild takes them away, and the text stays ours."""
    lines = "allowed-tools: Bash(git:*)\n# looked over by Ana\nlicense: MIT\n"
    world.path().write_text(world.path().read_text().replace("status: active\n", "status: active\n" + lines))
    assert await world.files.sync("main") == SkillSync(edited=1)

    for _ in range(6):
        await world.skills.thumb((await world.skill()).id, up=False)
    assert f"status: archived\n{lines}" in world.path().read_text()

    changed_policy(world)
    world.asks.add(OP, {**DRAFT, "display_title": "Announce it"})
    assert await world.build(key="skill:po_1:b") == {"build": "release-notes"}
    text = world.path().read_text()
    assert f"version: 2\nstatus: candidate\n{lines}disabled: false\n---\n\n# Announce it" in text
    assert (await world.skill()).file_state == "ours"


async def test_switching_off_during_a_rebuild_keeps_the_rebuild(world: SkillWorld) -> None:
    """The file says the old text and `disabled: true`: the new text is written into it, and it stays ours."""
    old = world.path().read_text()
    changed_policy(world)
    world.asks.add(OP, {**DRAFT, "display_title": "Announce it"})
    await world.build(key="skill:po_1:b")
    new = world.path().read_text()
    row = text_digest(old), words_digest((await world.skill()).description, old.split("---\n")[-1])
    world.change("UPDATE skills SET file_digest = ?, file_words = ?, file_planned = 'due'", *row)
    world.path().write_text(old.replace("disabled: false", "disabled: true"))

    assert await world.files.sync("main") == SkillSync(edited=1)
    assert world.path().read_text() == new.replace("disabled: false", "disabled: true")
    skill = await world.skill()
    assert (skill.disabled, skill.file_state, skill.title) == (True, "ours", "Announce it")
    assert await world.files.sync("main") == SkillSync()


async def test_a_name_in_the_head_that_is_a_title_is_taken_over(world: SkillWorld) -> None:
    """A person may call it otherwise; the name of a folder is no title."""
    text = world.path().read_text()
    world.path().write_text(text.replace("name: release-notes", "name: notes"))
    await world.files.sync("main")
    plain = await world.skill()
    world.path().write_text(text.replace("name: release-notes", "name: What is new"))
    await world.files.sync("main")
    titled = await world.skill()

    assert [(each.title, each.file_state) for each in (plain, titled)] == [
        ("Release notes", "ours"),
        ("What is new", "edited"),
    ]


async def test_a_deleted_file_is_never_written_again(world: SkillWorld) -> None:
    """The skill is given up, and no rebuild of its policy brings it back."""
    world.path().unlink()
    assert await world.files.sync("main") == SkillSync(deleted=1)
    changed_policy(world)

    assert await world.build(key="skill:po_1:b") == {"skipped": "deleted_by_a_person"}
    assert await world.files.sync("main") == SkillSync()
    skill = await world.skill()
    assert (skill.status, skill.file_state) == ("archived", "deleted")
    assert not world.path().exists()
    assert len(world.asks.asked) == 1


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"status": "candidate"}, "candidate"),
        ({"status": "archived", "eta": 0.05, "trials": 6, "archived_at": 7}, "archived"),
        ({"disabled": 1}, "active"),
    ],
)
@pytest.mark.parametrize("older", [False, True])
async def test_a_file_that_comes_back_restores_its_skill(
    world: SkillWorld, columns: dict[str, Any], status: str, *, older: bool
) -> None:
    """It is what it was, whether the very same file comes back or an older head over the same text."""
    text = world.path().read_text()
    for column, value in columns.items():
        world.change(f"UPDATE skills SET {column} = ?, file_planned = 'due'", value)  # noqa: S608 (a column of ours)
    await world.files.sync("main")
    newer = world.path().read_text()
    before = world.rows(COLUMNS)
    world.path().unlink()
    await world.files.sync("main")
    assert (await world.skill()).status == "archived"
    world.path().write_text(text.replace("status: active", "status: draft") if older else newer)
    if older and "disabled: true" in newer:
        world.path().write_text(world.path().read_text().replace("disabled: false", "disabled: true"))

    assert await world.files.sync("main") == SkillSync(restored=1)
    assert world.rows(COLUMNS) == before
    assert (await world.skill()).status == status
    assert world.path().read_text() == newer
    assert world.trail()[-1] == ("changed", "restored_by_a_person")
    assert await world.files.sync("main") == SkillSync()


async def test_other_words_in_place_of_a_deleted_file_are_taken_up(world: SkillWorld) -> None:
    """Who writes a file of that name anew wants the skill, as they write it."""
    text = world.path().read_text()
    world.path().unlink()
    await world.files.sync("main")
    world.path().write_text(text.replace("Collect", "Gather"))

    assert await world.files.sync("main") == SkillSync(edited=1)
    skill = await world.skill()
    assert (skill.status, skill.file_state, "Gather" in skill.guide) == ("active", "edited", True)


async def test_a_skill_that_a_person_wrote_is_in_use_at_once(world: SkillWorld) -> None:
    """It is the owner's, with η 0.5, is found by its words and its meaning, and its file is not touched."""
    world.path("sharpen").parent.mkdir()
    world.path("sharpen").write_text(WRITTEN)

    assert await world.files.sync("main") == SkillSync(added=1)
    skill = await world.skill("sharpen")
    assert (skill.title, skill.description) == (
        "Sharpen the burrs",
        "Use when the burrs of the grinder are dull: every 200 kg.",
    )
    assert (skill.status, skill.provenance, skill.eta, skill.policies) == ("active", "owner", 0.5, ())
    assert skill.guide == "# Sharpen the burrs\n\n1. Unplug it."
    assert skill.vec is not None
    assert world.path("sharpen").read_text() == WRITTEN
    assert await world.files.sync("main") == SkillSync()


async def test_a_new_skill_keeps_clear_of_folders_that_are_there(world: SkillWorld) -> None:
    """A learned skill does not move into a folder of somebody else's, even if no skill can be read from it."""
    world.path("roast").parent.mkdir()
    world.path("roast").write_text("no head")
    world.seed_policy(id="po_2")
    world.seed_steps("ta_2", policy="po_2")
    world.asks.add(OP, {**DRAFT, "name": "roast"})

    assert await world.build("po_2", "skill:po_2:a") == {"build": "roast-2"}
    assert world.path("roast").read_text() == "no head"


async def test_whose_words_a_skill_is(world: SkillWorld) -> None:
    """As its row says, for the very text that the row knows; for any other text, a stranger's."""
    text = world.path().read_text()
    asked = [("main", "release-notes", text), ("main", "release-notes", text + "x"), ("main", "none", text)]

    assert [await world.files.whose(*each) for each in asked] == ["agent", "untrusted", "untrusted"]


async def test_a_broken_head_is_said_once_and_left_alone(world: SkillWorld) -> None:
    """A file that cannot be understood keeps its text, its row what it said before; the trail names the line."""
    text = world.path().read_text().replace("version: 1", "version 1")
    world.path().write_text(text)
    for _ in range(3):
        assert await world.files.sync("main") == SkillSync(broken=1)
    changed_policy(world)
    assert await world.build(key="skill:po_1:b") == {"skipped": "edited_by_a_person"}

    assert world.path().read_text() == text
    assert (await world.skill()).title == "Release notes"
    notes = world.rows("SELECT detail FROM learning_trail WHERE reason = 'broken_file'")
    assert [json.loads(detail) for (detail,) in notes] == [
        {
            "path": "skills/release-notes/SKILL.md",
            "reason": "line 5 of its head is not of the form `key: value`",
        }
    ]


async def test_a_renamed_folder_keeps_its_skill(world: SkillWorld) -> None:
    """The skill goes by the folder's new name; nothing counts as deleted."""
    before = await world.skill()
    world.path().parent.rename(world.workspace / "skills" / "zz-notes")

    assert await world.files.sync("main") == SkillSync(renamed=1)
    after = await world.skill("zz-notes")
    assert (after.id, after.status, after.file_state) == (before.id, "active", "ours")
    assert world.rows("SELECT count(*) FROM skills") == [(1,)]


async def two_skills(world: SkillWorld) -> tuple[Skill, Skill]:
    """Beside the skill of the policy a second one, of another policy, that has earned much."""
    world.seed_policy(id="po_2")
    world.seed_steps("ta_2", policy="po_2")
    world.asks.add(OP, {**DRAFT, "display_title": "Second"})
    assert await world.build("po_2", "skill:po_2:a") == {"build": "release-notes-2"}
    world.change("UPDATE skills SET eta = 0.95, trials = 5, passes = 5, status = 'active', file_planned = 'due' "
                 "WHERE name = 'release-notes-2'")  # fmt: skip
    await world.files.sync("main")
    return await world.skill("release-notes"), await world.skill("release-notes-2")


async def by_id(world: SkillWorld, skill_id: str) -> Skill:
    """A skill by its id."""
    row = await world.database.read(lambda tx: tx.row("find_skill", id=skill_id))
    assert row is not None
    return skill_of(row)


@pytest.mark.parametrize("between", [False, True])
async def test_a_folder_that_takes_the_name_of_a_deleted_one_keeps_its_skill(
    world: SkillWorld, *, between: bool
) -> None:
    """Its text, its rate, its trials and its policy go along; the other skill was deleted, and frees the name."""
    first, second = await two_skills(world)
    shutil.rmtree(world.path().parent)
    done = [await world.files.sync("main")] if between else []
    world.path("release-notes-2").parent.rename(world.path().parent)
    done.append(await world.files.sync("main"))

    after = await by_id(world, second.id), await by_id(world, first.id)
    assert [(each.name, each.title, each.eta, each.trials, each.status, each.file_state) for each in after] == [
        ("release-notes", "Second", 0.95, 5, "active", "ours"),
        ("release-notes-2", "Release notes", first.eta, 0, "archived", "deleted"),
    ]
    assert (sum(each.renamed for each in done), sum(each.deleted for each in done)) == (1, 1)
    assert ("changed", "renamed_by_a_person") in world.trail()
    world.clock.advance(days=1)
    world.seed_steps("ta_3", policy="po_2")
    world.change("UPDATE policies SET support = 2, gain = 0.6 WHERE id = 'po_2'")
    world.asks.add(OP, DRAFT)
    assert await world.build("po_2", "skill:po_2:b") == {"rebuild": "release-notes"}


async def test_two_folders_that_trade_their_names_trade_their_skills(world: SkillWorld) -> None:
    """What each has earned stays with its text."""
    first, second = await two_skills(world)
    folders = world.workspace / "skills"
    (folders / "release-notes").rename(folders / "x")
    (folders / "release-notes-2").rename(folders / "release-notes")
    (folders / "x").rename(folders / "release-notes-2")

    assert await world.files.sync("main") == SkillSync(renamed=2)
    after = await world.skill("release-notes"), await world.skill("release-notes-2")
    assert [(each.id, each.title, each.eta) for each in after] == [
        (second.id, "Second", 0.95),
        (first.id, "Release notes", first.eta),
    ]
    assert await world.files.sync("main") == SkillSync()


async def test_a_command_finds_the_file_that_was_moved_just_before(world: SkillWorld) -> None:
    """A folder that was renamed a moment ago is not taken for one that was deleted."""
    skill = await world.skill()
    world.path().parent.rename(world.path("zz-notes").parent)
    skill = await world.skills.disable(skill.id)

    assert (skill.name, skill.status, skill.file_state) == ("zz-notes", "active", "ours")
    assert "disabled: true" in world.path("zz-notes").read_text()


async def test_deleting_by_command_deletes_the_file_where_it_is(world: SkillWorld) -> None:
    """Two folders traded their names a moment ago: the other skill's file stays."""
    first, second = await two_skills(world)
    folders = world.workspace / "skills"
    (folders / "release-notes").rename(folders / "x")
    (folders / "release-notes-2").rename(folders / "release-notes")
    (folders / "x").rename(folders / "release-notes-2")
    await world.skills.delete(first.id)

    assert sorted(each.name for each in folders.iterdir()) == ["release-notes"]
    assert (await world.skill("release-notes")).id == second.id


async def test_a_copy_of_a_skill_is_a_skill_of_its_own(world: SkillWorld) -> None:
    """Although it holds the other's id: as long as that one's file is there, and when it is edited later."""
    first = await world.skill()
    shutil.copytree(world.path().parent, world.path("mine").parent)
    assert await world.files.sync("main") == SkillSync(added=1)
    world.path().unlink()
    assert await world.files.sync("main") == SkillSync(deleted=1)
    world.path("mine").write_text(world.path("mine").read_text().replace("Collect", "Gather"))
    assert await world.files.sync("main") == SkillSync(edited=1)

    copy = await world.skill("mine")
    assert (copy.id != first.id, copy.status, "Gather" in copy.guide) == (True, "active", True)
    assert (await by_id(world, first.id)).file_state == "deleted"


async def test_a_file_that_is_copied_over_another_is_an_edit_of_that(world: SkillWorld) -> None:
    """Both skills have a file: each row says what its file says."""
    first, second = await two_skills(world)
    shutil.copy(world.path("release-notes-2"), world.path())

    assert await world.files.sync("main") == SkillSync(edited=1)
    after = await world.skill("release-notes"), await world.skill("release-notes-2")
    assert [(each.id, each.title) for each in after] == [(first.id, "Second"), (second.id, "Second")]


async def test_links_are_not_followed(world: SkillWorld, tmp_path: Path) -> None:
    """A file that is a link is neither read nor written through; the skill is not taken for deleted."""
    outside = tmp_path / "outside.md"
    outside.write_text(WRITTEN)
    world.path().unlink()
    world.path().symlink_to(outside)
    world.change("UPDATE skills SET file_planned = 'due'")

    assert await world.files.sync("main") == SkillSync(broken=1)
    assert outside.read_text() == WRITTEN
    assert (await world.skill()).status == "active"


async def test_a_folder_of_skills_that_is_a_link_is_not_looked_into(world: SkillWorld, tmp_path: Path) -> None:
    """Nothing counts as deleted, and nothing is written outside of the workspace."""
    (world.workspace / "skills").rename(tmp_path / "elsewhere")
    (world.workspace / "skills").symlink_to(tmp_path / "elsewhere")

    assert await world.files.sync("main") == SkillSync()
    assert (await world.skill()).status == "active"


async def test_a_workspace_that_is_away_deletes_nothing(world: SkillWorld, tmp_path: Path) -> None:
    """A disk that is not mounted is no deletion."""
    world.workspace.rename(tmp_path / "away")

    assert await world.files.sync("main") == SkillSync()
    assert (await world.skill()).status == "active"


async def test_a_folder_of_skills_that_is_away_deletes_nothing(world: SkillWorld, tmp_path: Path) -> None:
    """Missing as a whole it was put aside: nothing is deleted, nothing written in its place, and the trail says so."""
    skills = world.workspace / "skills"
    skills.rename(tmp_path / "away")
    edited = await world.skills.edit((await world.skill()).id, description="Use it on Mondays.")
    for _ in range(2):
        assert await world.files.sync("main") == SkillSync()
    assert (edited.status, skills.exists()) == ("active", False)
    assert world.trail()[-2:] == [("failed", "folder_away"), ("changed", "edited_by_a_person")]

    (tmp_path / "away").rename(skills)
    assert await world.files.sync("main") == SkillSync(written=1)
    assert "Use it on Mondays." in world.path().read_text()


async def test_a_folder_of_skills_that_was_emptied_deletes_them(world: SkillWorld) -> None:
    """The folder is there, and no file in it: that is a person's word."""
    shutil.rmtree(world.path().parent)
    assert await world.files.sync("main") == SkillSync(deleted=1)


async def test_a_name_of_a_folder_that_does_not_fit_is_said(world: SkillWorld) -> None:
    """A skill whose folder was named so waits, and goes on when the name fits; a person's own is not silently left."""
    before = await world.skill()
    odd = world.workspace / "skills" / "Release Notes"
    world.path().parent.rename(odd)
    world.change("UPDATE skills SET file_planned = 'due'")
    world.path("Déploiement").parent.mkdir()
    world.path("Déploiement").write_text(WRITTEN)
    (world.workspace / "skills" / "no skill").mkdir()
    world.path(".git").parent.mkdir()
    world.path(".git").write_text(WRITTEN)
    for _ in range(2):
        assert await world.files.sync("main") == SkillSync()
    assert (await world.skill()).status == "active"
    notes = world.rows("SELECT detail FROM learning_trail WHERE reason = 'name_does_not_fit' ORDER BY id")
    assert [json.loads(detail)["path"] for (detail,) in notes] == [
        "skills/Déploiement/SKILL.md",
        "skills/Release Notes/SKILL.md",
    ]

    odd.rename(world.path("zz-notes").parent)
    assert await world.files.sync("main") == SkillSync(renamed=1)
    assert (await world.skill("zz-notes")).id == before.id


async def test_deleted_skills_take_no_place_of_others(world: SkillWorld) -> None:
    """As many as there may be were deleted: a person's new one is taken in."""
    _fill(world, file_state="deleted", status="archived")
    world.path("sharpen").parent.mkdir()
    world.path("sharpen").write_text(WRITTEN)

    assert await world.files.sync("main") == SkillSync(added=1)


async def test_more_skills_than_there_may_be_are_said(world: SkillWorld) -> None:
    """Neither is a person's file taken in nor a model asked; the trail says why. The files of others are theirs."""
    _fill(world, file_state="edited", status="active")
    world.path("sharpen").parent.mkdir()
    world.path("sharpen").write_text(WRITTEN)
    world.seed_policy(id="po_2")
    world.seed_steps("ta_2", policy="po_2")
    asked = len(world.asks.asked)

    await world.files.settle("main", "sharpen")
    assert await world.build("po_2", "skill:po_2:a") == {"skipped": "too_many_skills"}
    assert world.rows("SELECT count(*) FROM skills WHERE name = 'sharpen'") == [(0,)]
    notes = world.rows("SELECT detail FROM learning_trail WHERE reason = 'too_many_skills' AND stage = 'skill_files'")
    assert {"path": "skills/sharpen/SKILL.md", "skills_max": SKILLS_MAX} in [json.loads(each) for (each,) in notes]
    assert len(world.asks.asked) == asked


def _fill(world: SkillWorld, *, status: str, file_state: str) -> None:
    """As many skills as there may be, beside the one that is there."""
    world.change(
        "INSERT INTO skills (id, agent, name, status, file_state, provenance, created_at, updated_at) "
        "WITH RECURSIVE number (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < ?) "
        "SELECT 'sk_' || n, 'main', 's' || n, ?, ?, 'agent', 0, 0 FROM number",
        SKILLS_MAX,
        status,
        file_state,
    )


async def test_a_file_that_would_become_too_large_is_left_alone(world: SkillWorld) -> None:
    """A person's file near the limit is switched off in its row; lines that made it unreadable are not added."""
    text = WRITTEN + "x" * (FILE_BYTES_MAX - len(WRITTEN) - 40)
    world.path("sharpen").parent.mkdir()
    world.path("sharpen").write_text(text)
    await world.files.sync("main")
    skill = await world.skills.disable((await world.skill("sharpen")).id)

    assert (skill.disabled, world.path("sharpen").read_text() == text) == (True, True)
    assert await world.files.sync("main") == SkillSync(unwritten=1)
    assert world.trail()[-1] == ("failed", "not_written")


async def test_a_file_that_is_too_large_is_left_alone(world: SkillWorld) -> None:
    """No more than a bounded part of a file is read; it is said, and nothing is overwritten."""
    world.path().write_text(WRITTEN + "x" * FILE_BYTES_MAX)

    assert await world.files.sync("main") == SkillSync(broken=1)
    assert world.path().stat().st_size > FILE_BYTES_MAX
    assert world.trail()[-1] == ("failed", "unreadable")


@pytest.mark.parametrize(("planned", "there"), [("due", False), ("digest", False), ("digest", True)])
async def test_a_crash_before_the_file_is_made_good(tmp_path: Path, planned: str, *, there: bool) -> None:
    """Killed between the row and its file, before or after the file took its name, it is all there in the end."""
    world = await open_world(tmp_path)
    world.seed_policy()
    world.seed_steps("ta_1")
    world.asks.add(OP, DRAFT)
    await world.build()
    whole = world.path().read_bytes()
    digest = (await world.skill()).file_digest
    world.change("UPDATE skills SET file_digest = '', file_state = 'none', file_planned = ?",
                 "due" if planned == "due" else digest)  # fmt: skip
    if not there:
        world.path().unlink()
        world.path().parent.rmdir()

    assert await world.files.sync("main") == SkillSync(written=1)
    assert world.path().read_bytes() == whole
    skill = await world.skill()
    assert (skill.file_state, skill.file_digest) == ("ours", digest)
    assert await world.files.sync("main") == SkillSync()
    await world.database.aclose()


async def test_a_crash_within_a_rebuild_leaves_the_old_file_or_the_new(world: SkillWorld) -> None:
    """The old file is known, so that it is no person's edit: the new text is written over it."""
    old = world.path().read_text()
    changed_policy(world)
    world.asks.add(OP, {**DRAFT, "display_title": "Announce it"})
    await world.build(key="skill:po_1:b")
    new = world.path().read_text()
    old_digest, new_digest = text_digest(old), text_digest(new)
    world.path().write_text(old)
    world.change("UPDATE skills SET file_digest = ?, file_planned = ?", old_digest, new_digest)

    assert await world.files.sync("main") == SkillSync(written=1)
    assert world.path().read_text() == new
    assert (await world.skill()).file_state == "ours"


async def test_an_edit_by_command_while_the_file_is_written_outlasts_a_crash(world: SkillWorld) -> None:
    """The file was written with what the row said before: that is known as ours, and the edit is written over it."""
    skill = await world.skill()
    before = world.path().read_text().replace("status: active", "status: candidate")
    world.change("UPDATE skills SET status = 'candidate', file_planned = 'due'")
    plan = {"id": skill.id, "planned": text_digest(before)}
    await world.database.write(lambda tx: tx.execute("plan_skill_file", **plan))
    words = {"id": skill.id, "title": "Mine", "description": "My own words.", "guide": "# Mine", "now": 5}
    await world.database.write(lambda tx: tx.execute("edit_skill", **words))
    await world.database.write(lambda tx: tx.execute("mark_skill_file_due", id=skill.id, asked=True))
    world.path().write_text(before)

    assert await world.files.sync("main") == SkillSync(written=1)
    assert ((await world.skill()).guide, "# Mine" in world.path().read_text()) == ("# Mine", True)
    assert await world.files.sync("main") == SkillSync()


async def test_a_deletion_within_a_rebuild_stays_a_deletion(world: SkillWorld) -> None:
    """A file that is gone when its new version is due was deleted: it is not written again."""
    world.path().unlink()
    world.change("UPDATE skills SET file_planned = 'due'")

    assert await world.files.sync("main") == SkillSync(deleted=1)
    assert not world.path().exists()


async def test_a_file_that_cannot_be_written_is_made_good_later(tmp_path: Path) -> None:
    """The row is in place and the job fails; the next run writes the file without another call of the model."""
    world = await open_world(tmp_path)
    world.seed_policy()
    world.seed_steps("ta_1")
    world.asks.add(OP, DRAFT)
    in_the_way = world.workspace / "skills"
    in_the_way.write_text("")
    with pytest.raises(StorageError):
        await world.build()
    in_the_way.unlink()

    assert await world.build() == {"skipped": "same_evidence"}
    assert world.path().exists()
    assert len(world.asks.asked) == 1
    await world.database.aclose()


async def test_a_file_that_cannot_be_written_holds_up_no_other(world: SkillWorld) -> None:
    """What a person did to the others is heeded, other skills are made, and the trail says once which file it is."""
    world.seed("skills", id="sk_blocked", name="aaa", file_planned="due")
    (world.workspace / "skills" / "aaa").write_text("in the way")
    world.path().write_text(world.path().read_text().replace("disabled: false", "disabled: true"))

    assert await world.files.sync("main") == SkillSync(edited=1, unwritten=1)
    assert (await world.skill()).disabled
    world.seed_policy(id="po_2")
    world.seed_steps("ta_2", policy="po_2")
    world.asks.add(OP, {**DRAFT, "name": "roast"})
    assert await world.build("po_2", "skill:po_2:a") == {"build": "roast"}
    notes = world.rows("SELECT detail FROM learning_trail WHERE reason = 'not_written'")
    assert ["skills/aaa" in detail for (detail,) in notes] == [True]


async def test_an_unknown_agent_has_no_skills(world: SkillWorld) -> None:
    """Nothing is done for an agent without a workspace."""
    assert await SkillFiles(world.database, world.clock, {}).sync("nobody") == SkillSync()


async def test_at_rest_a_persons_edit_is_known_and_no_file_is_written(world: SkillWorld) -> None:
    """Whoever would write one waits; what was renamed and rewritten at once is known as both."""
    world.change("UPDATE skills SET file_planned = 'due'")
    text = world.path().read_text("utf-8")
    world.path().parent.rename(world.path("renamed").parent)
    world.path("renamed").write_text(f"{text}\nMine.\n", "utf-8")

    async with world.files.at_rest("main") as delete:
        assert world.rows("SELECT name, file_state, guide LIKE '%Mine.' FROM skills") == [("renamed", "edited", 1)]
        writing = asyncio.create_task(world.files.settle("main", "renamed"))
        await asyncio.sleep(0.05)
        assert not writing.done()
        await delete("renamed")
        assert not world.path("renamed").parent.exists()
    await writing
