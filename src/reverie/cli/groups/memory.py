"""`reverie memory`: what is known of passages, promoting, dreaming, undoing, forgetting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from reverie.cli.border import run
from reverie.cli.options import AgentOption, HomeOption, JsonOption

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

NowOption = Annotated[
    str | None, typer.Option("--now", metavar="ISO", help="Look from this instant, as 2026-04-03T03:00:00Z. [now]")
]
MinScoreOption = Annotated[
    float | None, typer.Option(metavar="X", help="The least score, 0 to 1. [dreaming.score_min]")
]
MinRecallsOption = Annotated[
    int | None, typer.Option(metavar="N", help="How often people and models must have found it. [dreaming.recalls_min]")
]
MinQueriesOption = Annotated[
    int | None, typer.Option(metavar="N", help="By how many different questions of theirs. [dreaming.queries_min]")
]
MinDaysOption = Annotated[int | None, typer.Option(metavar="N", help="On how many different days. [dreaming.days_min]")]
MaxAgeOption = Annotated[
    int | None, typer.Option(metavar="DAYS", help="How long ago the last time may be. [dreaming.age_days_max]")
]
CountingOption = Annotated[
    Literal["strict", "upstream"],
    typer.Option(
        metavar="HOW", help="`strict`, or `upstream`: all evidence counts, as in OpenClaw 2026.4.25. [strict]"
    ),
]
PromotedOption = Annotated[bool, typer.Option("--include-promoted", help="Also what is promoted already.")]


@commands.command(
    "status", epilog="\b\nExamples:\n  reverie memory status\n  reverie memory status --deep --agent main --json"
)
def memory_status(
    home: HomeOption = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this agent. [all]", show_default=False)
    ] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Read every file, and try out vectors and embedder.")] = False,
    index: Annotated[bool, typer.Option("--index", help="Index what is new first. Implies --deep.")] = False,
    fix: Annotated[bool, typer.Option("--fix", help="Put recall entries right first.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Name the files that differ, and where all is.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show how each agent's memory is: notes and conversations in the index, vectors, dreaming, recalled passages.

    Without --index and --fix nothing is changed. Works beside a running server, which then does the indexing.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_status import StatusFlags, show_memory_status

        flags = StatusFlags(agent, deep=deep, index=index, fix=fix, verbose=verbose, as_json=as_json)
        await show_memory_status(home, flags)

    run(work, as_json=as_json)


@commands.command("repair", epilog="\b\nExamples:\n  reverie memory repair --dry-run\n  reverie memory repair --json")
def memory_repair(
    home: HomeOption = None,
    agent: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this agent. [all]", show_default=False)
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be repaired.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put right what is known of recalled passages, and OpenClaw's files of it where the workspace holds them.

    Every night of dreaming begins with it. Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_status import repair_memory

        await repair_memory(home, agent=agent, dry_run=dry_run, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "import-recalls",
    epilog="\b\nExample:\n  reverie memory import-recalls ~/.openclaw/workspace/memory/.dreams/short-term-recall.json",
)
def memory_import_recalls(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="OpenClaw's short-term-recall.json.")],
    home: HomeOption = None,
    phase_signals: Annotated[
        Path | None, typer.Option("--phase-signals", metavar="FILE", help="Its phase-signals.json as well.")
    ] = None,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Take over what OpenClaw knows of recalled passages. Works beside a running server.

    Of an entry that is there already, what was recalled last stands, so importing again adds nothing twice.
    """

    async def work() -> None:
        from reverie.cli.commands.memory import import_recalls

        await import_recalls(home, file, phase_signals=phase_signals, agent=agent, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "export-recalls",
    epilog="\b\nExamples:\n  reverie memory export-recalls > short-term-recall.json\n"
    "  reverie memory export-recalls --out short-term-recall.json --phase-signals phase-signals.json",
)
def memory_export_recalls(
    home: HomeOption = None,
    output: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Where to. [standard output]", show_default=False)
    ] = None,
    phase_signals: Annotated[
        Path | None, typer.Option("--phase-signals", metavar="FILE", help="Write the phase signals as well.")
    ] = None,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Write what is known of recalled passages as OpenClaw's short-term-recall.json. Works beside a running server.

    With --out, --json prints what was written; without it, the file itself is JSON already.
    """

    async def work() -> None:
        from reverie.cli.commands.memory import export_recalls

        await export_recalls(home, output=output, phase_signals=phase_signals, agent=agent, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "promote",
    epilog="\b\nExamples:\n  reverie memory promote\n  reverie memory promote --dry-run\n"
    "  reverie memory promote --apply --limit 3",
)
def memory_promote(
    home: HomeOption = None,
    apply: Annotated[bool, typer.Option("--apply", help="Write them into MEMORY.md.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show how --apply would change MEMORY.md.")] = False,
    now: NowOption = None,
    limit: Annotated[
        int | None,
        typer.Option(metavar="N", help="How many at most, the best first. [all; dreaming.limit where it writes]"),
    ] = None,
    min_score: MinScoreOption = None,
    min_recalls: MinRecallsOption = None,
    min_unique_queries: MinQueriesOption = None,
    min_days: MinDaysOption = None,
    max_age_days: MaxAgeOption = None,
    counting: CountingOption = "strict",
    include_promoted: PromotedOption = False,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """List what would be promoted to MEMORY.md, and how much was refused why; with --apply, promote it.

    Works beside a running server. The defaults are the settings under `dreaming`; a value that makes no sense, such as
    -1, means the default. `reverie memory undo` takes a promotion back.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_promote import PromoteFlags, promote_here
        from reverie.dreaming.candidates import Options

        options = Options(
            min_score, min_recalls, min_unique_queries, min_days, max_age_days,
            limit=limit, include_promoted=include_promoted, counting=counting,
        )  # fmt: skip
        await promote_here(home, PromoteFlags(agent, options, now, as_json, apply=apply, dry_run=dry_run))

    run(work, as_json=as_json)


@commands.command(
    "promote-explain",
    epilog="\b\nExamples:\n  reverie memory promote-explain 2026-04-01\n"
    '  reverie memory promote-explain "the roaster" --json',
)
def memory_promote_explain(
    selector: Annotated[str, typer.Argument(help="A key, or part of a path or of the passage, in any case.")],
    home: HomeOption = None,
    now: NowOption = None,
    min_score: MinScoreOption = None,
    min_recalls: MinRecallsOption = None,
    min_unique_queries: MinQueriesOption = None,
    min_days: MinDaysOption = None,
    max_age_days: MaxAgeOption = None,
    counting: CountingOption = "strict",
    include_promoted: PromotedOption = False,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Say why a passage would be promoted to MEMORY.md or not: its score in parts, and every gate. Nothing is written.

    Ten passages at most are shown. Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_promote import PromoteFlags, explain_here
        from reverie.dreaming.candidates import Options

        options = Options(
            min_score, min_recalls, min_unique_queries, min_days, max_age_days,
            include_promoted=include_promoted, counting=counting,
        )  # fmt: skip
        await explain_here(home, selector, PromoteFlags(agent, options, now, as_json))

    run(work, as_json=as_json)


@commands.command(
    "dream", epilog="\b\nExamples:\n  reverie memory dream\n  reverie memory dream --now 2026-04-03T03:00:00Z --json"
)
def memory_dream(home: HomeOption = None, now: NowOption = None, as_json: JsonOption = False) -> None:
    """Run a sweep of dreaming now, whatever `dreaming.mode` says, and show what it did.

    A server that runs on the home does it; without one, this process.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_dream import dream_now

        await dream_now(home, now=now, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "rem-harness", epilog="\b\nExamples:\n  reverie memory rem-harness\n  reverie memory rem-harness --json"
)
def memory_rem_harness(
    home: HomeOption = None,
    now: NowOption = None,
    include_promoted: PromotedOption = False,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show what REM sleep would find now: themes, possible lasting truths, and all candidates of deep sleep.

    Nothing is written. Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_dreams import rem_harness

        await rem_harness(home, agent=agent, now=now, include_promoted=include_promoted, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("changes", epilog="\b\nExample:\n  reverie memory changes")
def memory_changes(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=1_000, help="How many to show.")] = 20,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """List what dreaming changed in MEMORY.md, the newest first. Works beside a running server."""

    async def work() -> None:
        from reverie.cli.commands.memory_undo import list_changes

        await list_changes(home, agent=agent, limit=limit, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "rem-backfill",
    epilog="\b\nExamples:\n  reverie memory rem-backfill --path memory/2026-04-01.md\n"
    "  reverie memory rem-backfill --path memory --stage-short-term\n"
    "  reverie memory rem-backfill --rollback --rollback-short-term",
)
def memory_rem_backfill(
    home: HomeOption = None,
    path: Annotated[
        Path | None,
        typer.Option(metavar="PATH", help="A daily note of the past, or a folder of them, in the agent's memory."),
    ] = None,
    stage_short_term: Annotated[
        bool, typer.Option("--stage-short-term", help="Count what they say as evidence as well.")
    ] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take the entries out of the diary again.")] = False,
    rollback_short_term: Annotated[
        bool, typer.Option("--rollback-short-term", help="Take the evidence back; what was recalled keeps its recalls.")
    ] = False,
    now: NowOption = None,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Write what notes of the past say will last, and what may, into the dream diary. Shows what it changes.

    Doing it again replaces what was written before. Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_dreams import BackfillFlags, rem_backfill

        flags = BackfillFlags(agent, path, stage_short_term, rollback, rollback_short_term, now, as_json)
        await rem_backfill(home, flags)

    run(work, as_json=as_json)


@commands.command(
    "undo",
    epilog="\b\nExamples:\n  reverie memory undo\n  reverie memory undo --dry-run\n"
    "  reverie memory undo mem_019d62a9fa044288236d",
)
def memory_undo(
    change: Annotated[
        str | None, typer.Argument(metavar="[CHANGE]", help="Its id, as `reverie memory changes` shows it. [the last]")
    ] = None,
    home: HomeOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show how MEMORY.md would change.")] = False,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Take a promotion back. What you wrote into MEMORY.md since stays.

    What it had written stays marked as promoted, so that it does not come back. Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_undo import undo_change

        await undo_change(home, change, agent=agent, dry_run=dry_run, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "forget",
    short_help="Have something forgotten, wherever it left its traces.",
    epilog="\b\nExamples:\n  reverie memory forget --session main\n"
    "  reverie memory forget --participant Jonas --apply\n"
    "  reverie memory forget --source memory/2026-04-01.md --delete-file --apply\n"
    "  reverie memory forget --since 2026-04-01 --until 2026-04-08 --apply",
)
def memory_forget(
    home: HomeOption = None,
    session: Annotated[
        str, typer.Option(metavar="SESSION", help="A conversation: its id, or its key, with all it ever led to.")
    ] = "",
    source: Annotated[
        str, typer.Option(metavar="P", help="A note below memory/, or an imported history or file of such.")
    ] = "",
    participant: Annotated[str, typer.Option(metavar="NAME", help="What this person said.")] = "",
    since: Annotated[str | None, typer.Option(metavar="ISO", help="What was said or written from here on.")] = None,
    until: Annotated[str | None, typer.Option(metavar="ISO", help="What was said or written before this.")] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Do it. Without this nothing is changed.")] = False,
    delete_file: Annotated[bool, typer.Option("--delete-file", help="Delete the files of notes too.")] = False,
    archives: Annotated[
        bool, typer.Option("--archives", help="Delete files of the archive that hold some of it.")
    ] = False,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Show what would be forgotten, as a diff of every Markdown file and a count of everything else.

    With --apply it is: in conversations, notes, the index, the cache of embeddings, MEMORY.md, reports and records.
    What was interrupted goes on when the same is done again. Nothing brings it back, no import, and no undo.
    """

    async def work() -> None:
        from reverie.cli.commands.memory_forget import ForgetFlags, forget

        flags = ForgetFlags(
            agent, session, source, participant, since, until,
            apply=apply, delete_file=delete_file, archives=archives, as_json=as_json,
        )  # fmt: skip
        await forget(home, flags)

    run(work, as_json=as_json)
