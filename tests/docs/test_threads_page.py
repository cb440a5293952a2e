"""The page about native threads explains every reason that a decision can have."""

from __future__ import annotations

from typing import get_args

from reverie.context.threads import Mismatch, ProjectionReason
from tests.docs.pages import read


def test_every_reason_is_explained() -> None:
    """Whoever reads one in a list finds it there."""
    page = read("docs/howto/threads.md")

    assert [each for each in (*get_args(Mismatch), *get_args(ProjectionReason)) if f"`{each}`" not in page] == []
