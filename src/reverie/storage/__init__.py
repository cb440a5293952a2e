"""Durable storage: SQLite files reached by name, never from the event loop.

Purpose: open a database, bring its schema up to date, and run named queries on it.

Invariant: one writer thread per file and a small pool of readers; no statement ever runs on the event loop, and a
transaction is either wholly on disk or not at all.

Start reading at `database.py`. SQL lives in `sqlite/` (migrations and named queries), one folder per dialect; a
PostgreSQL twin adds a folder with the same query names.
"""

from reverie.storage.database import Database, DatabaseStatistics, Row, Transaction
from reverie.storage.schema import EMBEDDINGS, INDEX, STATE, Schema

__all__ = ["EMBEDDINGS", "INDEX", "STATE", "Database", "DatabaseStatistics", "Row", "Schema", "Transaction"]
