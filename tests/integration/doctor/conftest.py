"""A real home with notes, a conversation and vectors, closed and ready to be damaged."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import apsw
import pytest

from reverie.app import open_memory
from reverie.clock import SystemClock
from reverie.config import Home, load_config
from reverie.doctor import Surroundings, examine, open_patient, repair
from reverie.errors import ConfigError
from reverie.memory.index import SearchQuery
from reverie.sessions.store import PastMessage
from reverie.storage.schema import load_queries
from reverie.testing import FakeEmbedder
from reverie.types import SessionKey

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.doctor import Examination, Finding, Patient
    from reverie.llm.embeddings import Embedder

SETTINGS = "[memory]\nwatch = false\n"


@pytest.fixture(scope="session", autouse=True)
def doctor_queries_read() -> None:
    """Read the doctor's SQL once, before the guard against blocking calls watches."""
    load_queries("doctor")


@dataclass
class Ward:
    """A home under treatment. `dims` and `error` are of the embedder that the settings stand for."""

    home: Home
    dims: int = 64
    error: Any = None
    deep: bool = False
    surroundings: Surroundings = field(default_factory=Surroundings)

    @property
    def workspace(self) -> Path:
        """The notes of the only agent."""
        return self.home.path / "agents" / "main" / "workspace"

    def note(self, path: str, text: str) -> Path:
        """Write a note behind the index's back."""
        file = self.workspace / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
        return file

    def embedder(self) -> Embedder:
        """A new embedder of the settings."""
        return FakeEmbedder(self.dims, error=self.error)

    async def index(self) -> None:
        """Bring the index up to date, as a server does."""
        config = await asyncio.to_thread(load_config, self.home)
        async with open_memory(self.home, config, embedder=self.embedder()) as opened:
            await opened.memory.sync_workspace("main")
            await opened.memory.settle()

    async def say(self, *texts: str, key: str = "main") -> str:
        """A conversation in `state.db` that the index has not seen; returns the session's id."""
        config = await asyncio.to_thread(load_config, self.home)
        async with open_memory(self.home, config, embedder=None) as opened:
            said = [PastMessage("user", text, "Vera", "", 1_700_000_000_000) for text in texts]
            session_id, _ = await opened.sessions.import_session(SessionKey("main", key), "talk", said)
            return session_id

    async def found(self, text: str) -> list[str]:
        """The documents in which a search by words finds something, as the index stands."""
        config = await asyncio.to_thread(load_config, self.home)
        async with open_memory(self.home, config, embedder=None) as opened:
            found = await opened.memory.search(SearchQuery(text, "main"))
            return list(dict.fromkeys(hit.path for hit in found.hits))

    def sql(self, file: str, statement: str, *values: Any) -> list[Any]:
        """Change a database as a program does that knows no rules."""
        with closing(apsw.Connection(str(self.home.path / file), flags=apsw.SQLITE_OPEN_READWRITE)) as connection:
            connection.pragma("foreign_keys", False)
            return list(connection.execute(statement, values))

    def flip_bytes(self, file: str, table: str) -> None:
        """Overwrite the first page of a table."""
        root = self.sql(file, "SELECT rootpage FROM sqlite_schema WHERE name = ?", table)[0][0]
        page = self.sql(file, "PRAGMA page_size")[0][0]
        self.sql(file, "PRAGMA wal_checkpoint(TRUNCATE)")
        path = self.home.path / file
        data = bytearray(path.read_bytes())
        start = (root - 1) * page
        data[start : start + page // 2] = bytes(byte ^ 0xFF for byte in data[start : start + page // 2])
        path.write_bytes(data)

    async def examine(self) -> Examination:
        """Look at the home."""
        return await examine(await self._patient())

    async def treat(self) -> Examination:
        """Look at the home, then repair it."""
        patient = await self._patient()
        return await repair(patient, await examine(patient))

    async def _patient(self) -> Patient:
        return await asyncio.to_thread(self._opened)

    def _opened(self) -> Patient:
        config, problem = None, ""
        try:
            config = load_config(self.home)
        except ConfigError as error:
            problem = str(error)
        return open_patient(
            self.home,
            config,
            clock=SystemClock(),
            config_problem=problem,
            deep=self.deep,
            surroundings=self.surroundings,
            make_embedder=self.embedder,
        )


def wrong(examination: Examination) -> list[tuple[str, str]]:
    """Severity and check of everything that is not well and was not fixed."""
    return [(each.severity, each.check) for each in examination.findings if each.severity != "ok" and not each.fixed]


def fixed(examination: Examination) -> list[str]:
    """The checks that were repaired."""
    return [each.check for each in examination.findings if each.fixed]


def finding(examination: Examination, check: str) -> Finding:
    """The one finding of a check."""
    (found,) = [each for each in examination.findings if each.check == check]
    return found


@pytest.fixture
async def ward(tmp_path: Path) -> Ward:
    """A healthy home: two notes, a conversation of two messages, everything indexed and embedded."""
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o700)
    home.config_file.write_text(SETTINGS, encoding="utf-8")
    ward = Ward(home)
    ward.note("MEMORY.md", "The plumber is Brown.\n")
    ward.note("memory/2026-05-04.md", "# Roaster\n\nThe drum squeaked.\n")
    await ward.say("My bicycle is green.", "The walrus sleeps.")
    await ward.index()
    return ward
