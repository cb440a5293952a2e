"""Policies and world models in a person's hands: what is edited stays, what is archived stays so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from reverie.learning.policies.policies import edit_policy, find_policy, set_policy_status
from reverie.learning.worlds.world_models import edit_world_model, find_world_model, move_confidence, set_world_status
from tests.integration.learning.policies_world import NOW, learned_world
from tests.learning_rows import seed

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.anyio


async def test_edited_policy_has_the_new_words_and_the_time(tmp_path: Path) -> None:
    """What is not named stays; that it was edited is kept with it, and noted."""
    async with learned_world(tmp_path) as here:
        seed(here.path, "policies", id="po_1", title="old", procedure="as before")

        edited = await here.database.write(
            lambda tx: edit_policy(tx, "po_1", {"title": " new ", "boundary": "here"}, NOW)
        )

        found = await here.database.read(lambda tx: find_policy(tx, "po_1"))
        assert edited == found
        assert found is not None
        assert (found.title, found.procedure, found.boundary, found.edited_at_ms) == ("new", "as before", "here", NOW)
        assert here.reasons("edit") == ["edited"]


async def test_edits_that_cannot_be_made_are_refused(tmp_path: Path) -> None:
    """Unknown names and empty titles raise, unknown ids give None, and nothing is written."""
    async with learned_world(tmp_path) as here:
        seed(here.path, "policies", id="po_1")
        seed(here.path, "world_models", id="wm_1")
        before = here.everything()

        with pytest.raises(ValueError, match="a policy has no gain"):
            await here.database.write(lambda tx: edit_policy(tx, "po_1", {"gain": "9"}, NOW))
        with pytest.raises(ValueError, match="a policy needs a title"):
            await here.database.write(lambda tx: edit_policy(tx, "po_1", {"title": " "}, NOW))
        with pytest.raises(ValueError, match="a world model has no domain"):
            await here.database.write(lambda tx: edit_world_model(tx, "wm_1", {"domain": "x"}, NOW))
        with pytest.raises(ValueError, match="a world model needs a title"):
            await here.database.write(lambda tx: edit_world_model(tx, "wm_1", {"title": ""}, NOW))
        assert await here.database.write(lambda tx: edit_policy(tx, "po_2", {"title": "x"}, NOW)) is None
        assert await here.database.write(lambda tx: edit_world_model(tx, "wm_2", {"title": "x"}, NOW)) is None
        assert await here.database.write(lambda tx: set_policy_status(tx, "po_2", "archived", NOW)) is None
        assert await here.database.write(lambda tx: set_world_status(tx, "wm_2", "archived", NOW)) is None
        assert await here.database.read(lambda tx: find_world_model(tx, "wm_2")) is None
        assert here.everything() == before


async def test_policy_that_is_taken_back_is_measured_anew(tmp_path: Path) -> None:
    """Archived with the time of it; taken back, its next gain is taken as it is."""
    async with learned_world(tmp_path) as here:
        seed(here.path, "policies", id="po_1", gain=-0.4, gain_known=1, gain_of="digest")

        archived = await here.database.write(lambda tx: set_policy_status(tx, "po_1", "archived", NOW))
        archived_at = here.rows("policies")[0]["archived_at"]
        again = await here.database.write(lambda tx: set_policy_status(tx, "po_1", "archived", NOW + 5))
        back = await here.database.write(lambda tx: set_policy_status(tx, "po_1", "active", NOW + 9))

        row = here.rows("policies")[0]
        assert archived is not None
        assert again is not None
        assert back is not None
        assert (archived.status, archived_at, again.updated_at_ms) == ("archived", NOW, NOW)
        assert (back.status, back.gain_known, row["gain_of"], row["archived_at"]) == ("active", False, "", None)
        assert here.reasons("edit") == ["status_set", "status_set"]


async def test_edited_world_model_is_a_new_version(tmp_path: Path) -> None:
    """Title and body are a person's; archiving and taking back change nothing of them."""
    async with learned_world(tmp_path) as here:
        seed(here.path, "world_models", id="wm_1", title="old", body="old body")

        await here.database.write(lambda tx: edit_world_model(tx, "wm_1", {"body": "new body"}, NOW))
        await here.database.write(lambda tx: set_world_status(tx, "wm_1", "archived", NOW))
        back = await here.database.write(lambda tx: set_world_status(tx, "wm_1", "active", NOW))

        assert back is not None
        assert (back.title, back.body, back.version, back.edited_at_ms, back.status) == (
            "old", "new body", 2, NOW, "active")  # fmt: skip


async def test_feedback_moves_confidence_within_bounds(tmp_path: Path) -> None:
    """By 0.05 up or down, never beyond 0 and 1, each time noted; an unknown one is None."""
    async with learned_world(tmp_path) as here:
        seed(here.path, "world_models", id="wm_1", confidence=0.97)
        seed(here.path, "world_models", id="wm_2", confidence=0.03)

        up = await here.database.write(lambda tx: move_confidence(tx, "wm_1", up=True, delta=0.05, now_ms=NOW))
        down = await here.database.write(lambda tx: move_confidence(tx, "wm_2", up=False, delta=0.05, now_ms=NOW))
        none = await here.database.write(lambda tx: move_confidence(tx, "wm_3", up=True, delta=0.05, now_ms=NOW))

        assert up is not None
        assert down is not None
        assert (up.confidence, down.confidence, none) == (1.0, 0.0, None)
        assert here.reasons("feedback") == ["confirmed", "objected"]
