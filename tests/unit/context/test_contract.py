"""What a context engine is, and which one counts as active."""

from __future__ import annotations

import pytest

from reverie.context.contract import EngineInfo, HostRequirement, engine_id, is_active


@pytest.mark.parametrize(
    ("engine", "projected_by", "active"),
    [
        (None, None, False),
        (None, "builtin", False),
        ("lossless", None, True),
        ("lossless", "lossless", True),
        ("lossless", "builtin", True),
        ("builtin", None, True),
        ("builtin", "builtin", True),
        ("builtin", "legacy", True),
        ("legacy", "builtin", True),
        ("builtin", "lossless", False),
        ("legacy", "lossless", False),
    ],
)
def test_the_built_in_engine_vouches_for_its_own_projections_only(
    engine: str | None,
    projected_by: str | None,
    active: bool,  # noqa: FBT001 (a parameter of the table)
) -> None:
    """Another engine is active for any, and nobody stands behind what no engine is there for."""
    assert is_active(engine, projected_by) is active


def test_legacy_is_another_word_for_the_built_in_engine() -> None:
    """Every other name is an id by itself."""
    assert [engine_id(name) for name in ("legacy", "builtin", "lossless")] == ["builtin", "builtin", "lossless"]


def test_what_an_engine_needs_and_does_not_get_is_listed() -> None:
    """For the operation that is asked about, in alphabetical order."""
    needs = HostRequirement(frozenset({"maintain", "bootstrap", "compact"}), "no")
    info = EngineInfo("x", "X", host_requirements={"agent-run": needs})

    assert info.missing("agent-run", frozenset({"compact"})) == ("bootstrap", "maintain")
    assert info.missing("agent-run", frozenset({"compact", "maintain", "bootstrap"})) == ()
    assert info.missing("manual-compact", frozenset()) == ()
