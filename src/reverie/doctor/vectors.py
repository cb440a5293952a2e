"""Search by meaning: does the embedder work, is it the one the index was built with, and does something wait for it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from reverie.doctor.finding import Finding, counted
from reverie.errors import ConfigError, EmbedderError
from reverie.memory.generation import differences

if TYPE_CHECKING:
    from reverie.doctor.patient import Patient
    from reverie.llm.embeddings import Embedder, EmbedderIdentity
    from reverie.storage import Transaction

PROBE = "ping"
PROBE_S_MAX = 10.0
REBUILD = "`reverie index --rebuild` embeds everything again, beside this index; what the cache holds is not paid twice"


async def probe(patient: Patient) -> tuple[EmbedderIdentity | None, list[Finding]]:
    """The embedder of the settings and whether it answers; None when there is none, or it cannot be made."""
    if patient.config is None:
        return None, []
    try:
        embedder = await asyncio.to_thread(patient.make_embedder)
    except ConfigError as error:
        cannot = Finding("error", "vectors.embedder", "the embedder cannot be used", str(error), "correct the setting")
        return None, [cannot]
    if embedder is None:
        return None, [Finding("ok", "vectors.off", "memory.embedder is none: memory is searched by words alone")]
    try:
        return await _asked(patient, embedder)
    finally:
        await embedder.aclose()


async def _asked(patient: Patient, embedder: Embedder) -> tuple[EmbedderIdentity | None, list[Finding]]:
    if not patient.embedding_is_free:
        left_out = Finding(
            "ok", "vectors.embedder", f"{embedder.identity.key} is not asked, as that may cost (--deep asks)"
        )
        return embedder.identity, [left_out]
    cause = ""
    try:
        async with asyncio.timeout(PROBE_S_MAX):
            await embedder.embed_query(PROBE)
    except TimeoutError:
        cause = f"no answer within {PROBE_S_MAX:g} s"
    except EmbedderError as error:
        cause = str(error)
    if not cause:
        return embedder.identity, [Finding("ok", "vectors.embedder", f"{embedder.identity.key} answers")]
    failing = Finding(
        "warning",
        "vectors.embedder",
        f"the embedder {embedder.identity.key} fails",
        cause,
        "search goes on by words; vectors follow by themselves once it works",
    )
    return embedder.identity, [failing]


async def check_vectors(patient: Patient, identity: EmbedderIdentity | None) -> list[Finding]:
    """What the index says of its vectors.

    Raises:
        StorageError: the index cannot be read.
    """
    built_with, vectors, waiting = await patient.index.read(_facts)
    findings: list[Finding] = []
    if identity is not None:
        findings += vector_findings(
            identity, built_with, vectors, waiting, served=patient.held_by is not None, free=patient.embedding_is_free
        )
    for note in await _notes(patient):
        what, _, remedy = note.partition("; ")
        findings.append(Finding("note", "vectors.generation", what, "a setting or Reverie itself changed", remedy))
    return findings


def vector_findings(
    identity: EmbedderIdentity, built_with: str, vectors: int, waiting: int, *, served: bool, free: bool
) -> list[Finding]:
    """What the index's vectors come to under an embedder."""
    if vectors and not _same_space(identity, built_with):
        return [
            Finding(
                "warning",
                "vectors.paused",
                "search by meaning is paused",
                f"the index holds {counted(vectors, 'vector')} of {built_with}, the settings now say {identity.key}",
                f"go back to that embedder, or: {REBUILD}",
            )
        ]
    if not waiting:
        return [Finding("ok", "vectors.complete", f"{counted(vectors, 'vector')}, no passage waits for one")]
    what = f"{counted(waiting, 'passage')} of {waiting + vectors:,} wait for a vector"
    if served:
        return [
            Finding(
                "note",
                "vectors.waiting",
                what,
                "the server works them off while no turn runs",
                "look again later; if the number does not fall, its log says why",
            )
        ]
    cause = "nothing embedded them so far"
    if not free:
        remedy = "`reverie index` or the next start embeds them, which may cost money; --fix --deep does too"
        return [Finding("note", "vectors.waiting", what, cause, remedy)]
    remedy = "--fix embeds them, and so does `reverie index` or the next start"
    return [Finding("note", "vectors.waiting", what, cause, remedy, fixable=True)]


def _same_space(identity: EmbedderIdentity, built_with: str) -> bool:
    """Whether vectors are the embedder's; one that has not told its size yet is known by the rest of its name."""
    if identity.dims:
        return built_with == identity.key
    return built_with.startswith(f"{identity.provider}/{identity.model}/{identity.version}/")


def _facts(tx: Transaction) -> tuple[str, int, int]:
    tally = tx.row("kept_tally")
    return (
        str(tx.value("meta", key="embedder") or "an embedder that is not on record"),
        0 if tally is None else int(tally["vectors"]),
        int(tx.value("count_waiting")),
    )


async def _notes(patient: Patient) -> list[str]:
    """In what the index differs from one that would be built now."""
    assert patient.config is not None
    memory = patient.config.memory

    def work(tx: Transaction) -> list[str]:
        tally = tx.row("read_tally")
        return differences(tx, memory) if tally is not None and tally["chunks"] else []

    return await patient.index.read(work, queries="index")
