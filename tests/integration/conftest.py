"""Integration tests use real SQLite files."""

from __future__ import annotations

from importlib import import_module

import pytest

from reverie.storage import EMBEDDINGS, INDEX, STATE


@pytest.fixture(scope="session", autouse=True)
def files_of_ours_read() -> None:
    """Read the SQL of every database, and what modules read when they are imported, before the guard watches."""
    import_module("reverie.app")
    for schema in (STATE, INDEX, EMBEDDINGS):
        schema.migrations()
        schema.queries()
