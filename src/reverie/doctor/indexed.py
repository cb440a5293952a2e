"""What is indexed of one agent, beside what is on disk: the figures of `reverie memory status`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from reverie.doctor.on_disk import Compared, Named, compare

if TYPE_CHECKING:
    from pathlib import Path

    from reverie.doctor.patient import Patient
    from reverie.storage import Row


@dataclass(frozen=True, slots=True)
class Indexed:
    """An agent's files and conversations in the index. `compared` is how the files differ from those on disk."""

    files: int
    file_passages: int
    conversations: int
    conversation_passages: int
    vectors: int
    compared: Compared

    @property
    def passages(self) -> int:
        """All passages that can be found."""
        return self.file_passages + self.conversation_passages

    @property
    def on_disk(self) -> int:
        """How many files are there to be indexed."""
        compared = self.compared
        return compared.same + compared.settling + compared.missing.count + compared.changed.count

    @property
    def differences(self) -> dict[str, Named]:
        """What has to be done to bring the index in step, by kind."""
        compared = self.compared
        named = {"missing": compared.missing, "changed": compared.changed, "vanished": compared.vanished}
        return {kind: found for kind, found in named.items() if found.count}


async def indexed_of(patient: Patient, agent: str, workspace: Path) -> Indexed:
    """Look at an agent's index and files; with a deep look, at the content of every file.

    Raises:
        StorageError: the index cannot be read.
    """
    rows = await patient.index.read(lambda tx: tx.rows("indexed_of_agent", agent=agent))
    compared = await patient.index.read(lambda tx: compare(tx, patient, agent, workspace))
    of_source: dict[str, Row] = {row["source"]: row for row in rows}
    none = {"documents": 0, "passages": 0, "vectors": 0}
    files, talks = (of_source.get(source, none) for source in ("memory", "sessions"))
    return Indexed(
        files=files["documents"],
        file_passages=files["passages"],
        conversations=talks["documents"],
        conversation_passages=talks["passages"],
        vectors=files["vectors"] + talks["vectors"],
        compared=compared,
    )
