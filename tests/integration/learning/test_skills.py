"""What a person may do with a skill, by commands and requests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.errors import RequestError
from reverie.learning.skills.files import SkillSync
from tests.integration.learning.skill_world import DRAFT, OP, SkillWorld, open_world

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator
    from pathlib import Path

    from reverie.learning.records import Skill

pytestmark = pytest.mark.anyio


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[SkillWorld]:
    """A policy whose skill was made, and is a candidate."""
    opened = await open_world(tmp_path)
    opened.seed_policy()
    opened.seed_steps("ta_1")
    opened.asks.add(OP, DRAFT)
    await opened.build()
    yield opened
    await opened.database.aclose()


async def made(world: SkillWorld) -> Skill:
    """The skill."""
    return await world.skill()


def changed_policy(world: SkillWorld) -> None:
    """Let the policy change by so much that its skill would be made anew."""
    world.clock.advance(days=1)
    world.seed_steps("ta_2")
    world.change("UPDATE policies SET support = 2, gain = 0.6")


async def test_an_edit_is_written_and_kept(world: SkillWorld) -> None:
    """New words stand in the row and in the file; no rebuild changes them."""
    skill = await world.skills.edit(
        (await made(world)).id, description="Use on Fridays: weekly.", guide="# Mine\n\nDo it."
    )
    changed_policy(world)

    assert await world.build(key="skill:po_1:b") == {"skipped": "edited_by_a_person"}
    assert (skill.description, skill.guide, skill.title) == (
        "Use on Fridays: weekly.",
        "# Mine\n\nDo it.",
        "Release notes",
    )
    assert world.path().read_text() == (
        '---\nname: release-notes\ndescription: "Use on Fridays: weekly."\n'
        f"reverie: {skill.id}\nversion: 1\nstatus: candidate\ndisabled: false\n---\n\n# Mine\n\nDo it.\n"
    )
    assert await world.files.sync("main") == SkillSync()


@pytest.mark.parametrize(
    ("words", "param"),
    [
        ({}, None),
        ({"title": " "}, "title"),
        ({"description": "x" * 2000}, "description"),
        ({"guide": "x" * 70_000}, "guide"),
    ],
)
async def test_an_edit_that_makes_no_sense_is_refused(
    world: SkillWorld, words: dict[str, str], param: str | None
) -> None:
    """Nothing to change, an empty text and one that is too long are the caller's to correct."""
    with pytest.raises(RequestError) as refused:
        await world.skills.edit((await made(world)).id, **words)
    assert refused.value.param == param


async def test_archiving_holds_against_rebuilds_until_it_is_taken_up_again(world: SkillWorld) -> None:
    """An archived skill stays archived; taken up again, it is rebuilt as before."""
    skill = await world.skills.archive((await made(world)).id)
    assert skill.status == "archived"
    assert "status: archived" in world.path().read_text()
    changed_policy(world)
    assert await world.build(key="skill:po_1:b") == {"skipped": "archived_by_a_person"}

    skill = await world.skills.unarchive(skill.id)
    assert (skill.status, skill.edited_at_ms) == ("active", None)
    world.asks.add(OP, DRAFT)
    assert await world.build(key="skill:po_1:c") == {"rebuild": "release-notes"}


@pytest.mark.parametrize("how", ["command", "file"])
async def test_a_persons_words_outlast_archiving_and_deleting(world: SkillWorld, how: str) -> None:
    """Taken up again, a skill that a person wrote anew is still theirs: no rebuild asks for other words."""
    skill = await made(world)
    if how == "command":
        await world.skills.edit(skill.id, guide="# Mine\n\nMy own words.")
        await world.skills.archive(skill.id)
    else:
        world.path().write_text("---\nname: release-notes\ndescription: Mine.\n---\n# Mine\n\nMy own words.\n")
        await world.files.sync("main")
        world.path().unlink()
        await world.files.sync("main")
    skill = await world.skills.unarchive(skill.id)
    changed_policy(world)

    assert await world.build(key="skill:po_1:b") == {"skipped": "edited_by_a_person"}
    assert "My own words." in world.path().read_text()
    assert (skill.status, skill.guide, skill.file_state) == ("active", "# Mine\n\nMy own words.", "edited")


@pytest.mark.parametrize("how", ["command", "file"])
async def test_words_that_a_person_wrote_are_the_owners(world: SkillWorld, how: str) -> None:
    """A skill made of a stranger's words counts as the owner's once its owner wrote it anew; switching it does not."""
    world.change("UPDATE skills SET provenance = 'untrusted'")
    skill = await world.skills.disable((await made(world)).id)
    assert skill.provenance == "untrusted"

    if how == "command":
        await world.skills.edit(skill.id, guide="# Mine")
    else:
        world.path().write_text(world.path().read_text().replace("Collect", "Gather"))
        await world.files.sync("main")
    assert await world.files.whose("main", "release-notes", world.path().read_text()) == "owner"


async def test_an_edit_by_command_changes_a_file_that_a_person_wrote(world: SkillWorld) -> None:
    """The new words stand in it, and the lines of its head that are not ours stay."""
    text = "---\nname: mine\nlicense: MIT\ndescription: Use it.\n---\n# Mine\n\nFirst.\n"
    world.path("mine").parent.mkdir()
    world.path("mine").write_text(text)
    await world.files.sync("main")
    skill = await world.skills.edit(
        (await world.skill("mine")).id, description="Use it twice.", guide="# Mine\n\nThen."
    )

    assert world.path("mine").read_text() == (
        f"---\nname: mine\nlicense: MIT\ndescription: Use it twice.\nreverie: {skill.id}\nversion: 1\n"
        "status: active\ndisabled: false\n---\n\n# Mine\n\nThen.\n"
    )
    assert await world.files.sync("main") == SkillSync()


async def test_a_deleted_file_comes_back_when_the_skill_is_taken_up_again(world: SkillWorld) -> None:
    """Taking up a skill whose file was deleted writes the file again."""
    whole = world.path().read_text()
    world.path().unlink()
    await world.files.sync("main")
    await world.skills.unarchive((await made(world)).id)

    assert world.path().read_text() == whole.replace("status: candidate", "status: active")
    assert await world.files.sync("main") == SkillSync()


async def test_disabling_and_enabling_is_written_into_the_file(world: SkillWorld) -> None:
    """Row and file say the same; the text is not an edited one."""
    off = await world.skills.disable((await made(world)).id)
    assert off.disabled
    assert "disabled: true" in world.path().read_text()
    on = await world.skills.enable(off.id)

    assert (on.disabled, on.file_state) == (False, "ours")
    assert "disabled: false" in world.path().read_text()


async def test_a_person_s_file_keeps_its_lines(world: SkillWorld) -> None:
    """Switching off a skill that a person wrote changes our lines of its head, and no other."""
    text = "---\nname: mine\n# a remark\ndescription: Use it.\nlicense: MIT\n---\n\n\n# Mine  \n"
    world.path("mine").parent.mkdir()
    world.path("mine").write_text(text)
    await world.files.sync("main")
    skill = await world.skills.disable((await world.skill("mine")).id)

    head = f"license: MIT\nreverie: {skill.id}\nversion: 1\nstatus: active\ndisabled: true\n---"
    assert world.path("mine").read_text() == text.replace("license: MIT\n---", head)
    assert skill.disabled
    assert await world.files.sync("main") == SkillSync()


async def test_an_edit_of_the_file_comes_before_a_command(world: SkillWorld) -> None:
    """What a person wrote into the file just before is not lost by a command."""
    world.path().write_text(world.path().read_text().replace("Collect", "Gather"))
    skill = await world.skills.disable((await made(world)).id)

    assert "**Gather**" in skill.guide
    assert "**Gather**" in world.path().read_text()
    assert "disabled: true" in world.path().read_text()


async def test_a_deleted_skill_is_gone_for_good(world: SkillWorld) -> None:
    """Row, history, words and file are gone, and its policy makes no other; other files of the folder stay."""
    (world.path().parent / "data.csv").write_text("1")
    skill = await world.skills.delete((await made(world)).id)
    changed_policy(world)

    assert await world.build(key="skill:po_1:b") == {"skipped": "deleted_by_a_person"}
    assert await world.files.sync("main") == SkillSync()
    assert not world.path().exists()
    assert (world.path().parent / "data.csv").exists()
    assert world.rows("SELECT count(*) FROM skills") == [(0,)]
    assert world.rows("SELECT count(*) FROM learned_words WHERE ref = ?", skill.id) == [(0,)]
    with pytest.raises(RequestError, match="there is no skill"):
        await world.skills.delete(skill.id)


async def test_thumbs_move_the_rate_and_may_give_a_skill_up(world: SkillWorld) -> None:
    """0.58 goes up to 0.68; thumbs down take it below the floor of 0.1, and the skill is archived."""
    skill_id = (await made(world)).id
    assert (await world.skills.thumb(skill_id, up=True)).eta == 0.68
    rates = [(await world.skills.thumb(skill_id, up=False)) for _ in range(6)]

    assert [each.eta for each in rates] == [0.58, 0.48, 0.38, 0.28, 0.18, 0.08]
    assert [each.status for each in rates] == ["candidate"] * 5 + ["archived"]
    assert "status: archived" in world.path().read_text()
    assert len(world.rows("SELECT 1 FROM skill_events WHERE kind = 'thumb'")) == 7


async def test_an_unknown_skill_is_not_found(world: SkillWorld) -> None:
    """Every action says so with 404."""
    for action in (world.skills.archive, world.skills.disable, world.skills.delete):
        with pytest.raises(RequestError) as refused:
            await action("sk_none")
        assert (refused.value.status, refused.value.code) == (404, "skill_not_found")
