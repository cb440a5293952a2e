"""Integration tests use real SQLite files."""

from __future__ import annotations

import pytest

from reverie.storage import EMBEDDINGS, INDEX, STATE


@pytest.fixture(scope="session", autouse=True)
def sql_files_read() -> None:
    """Read the SQL of every database once, before the guard against blocking calls watches."""
    for schema in (STATE, INDEX, EMBEDDINGS):
        schema.migrations()
        schema.queries()
