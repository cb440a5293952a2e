"""`reverie import`: what was said and remembered elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from reverie.cli.border import run
from reverie.cli.options import AgentOption, HomeOption, JsonOption, MineOption

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@commands.command(
    epilog="\b\nEach line of the file is one of:\n"
    '  {"name": "…", "turns": [{"session": "…", "speaker": "…", "text": "…", "when": "…"}, …]}\n'
    '  {"name": "…", "messages": [{"role": "user", "content": "…"}, …]}\n'
    "\n\b\nExample:\n  reverie import conversation chats.jsonl.gz"
)
def conversation(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="JSON Lines, one history a line, plain or gzipped.")],
    home: HomeOption = None,
    agent: AgentOption = "main",
    mine: MineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Add past conversations, so that they can be found.

    Importing a file again adds nothing twice; an import that was interrupted goes on. With --mine, what is there counts
    as yours from then on.
    """

    async def work() -> None:
        from reverie.cli.commands.import_conversation import import_file

        await import_file(home, file, agent=agent, mine=mine, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    epilog="\b\nPATH is an OpenClaw home, or one of its databases, workspaces or session folders.\n"
    "\n\b\nExamples:\n  reverie import openclaw ~/.openclaw --dry-run\n  reverie import openclaw ~/.openclaw\n"
    "  reverie import openclaw ~/.openclaw/memory/main.sqlite"
)
def openclaw(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="What to import; it is only read.")],
    home: HomeOption = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Whose memory it becomes. [each agent's own name]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")] = False,
    skip_foreign: Annotated[
        bool, typer.Option("--skip-foreign", help="Leave out vectors that no embedder of Reverie can use.")
    ] = False,
    mine: MineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over vectors, notes and conversations from OpenClaw.

    Works beside a running server. Importing again adds nothing twice; an import that was interrupted goes on.
    """

    async def work() -> None:
        from reverie.cli.commands.import_openclaw import OpenClawFlags, import_from_openclaw

        flags = OpenClawFlags(agent, dry_run=dry_run, skip_foreign=skip_foreign, mine=mine, as_json=as_json)
        await import_from_openclaw(home, path, flags)

    run(work, as_json=as_json)


@commands.command(
    epilog="\b\nPATH is the plugin's SQLite database; it is only read.\n\n\b\nExamples:\n"
    "  reverie import memos ~/.memos/memos.db --dry-run\n"
    "  reverie import memos ~/.memos/memos.db --config ~/.memos/config.yaml"
)
def memos(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="The database of a MemOS local plugin.")],
    home: HomeOption = None,
    agent: AgentOption = "main",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be imported.")] = False,
    config_file: Annotated[
        Path | None, typer.Option("--config", metavar="YAML", help="Its settings, shown in the words of config.toml.")
    ] = None,
    mine: MineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over what a MemOS local plugin has learned: sessions, episodes, traces, policies, world models, skills.

    Works beside a running server. Importing again adds nothing twice; an import that was interrupted goes on. What was
    imported is never scored again.
    """

    async def work() -> None:
        from reverie.cli.commands.import_memos import MemosFlags, import_from_memos

        flags = MemosFlags(agent, dry_run=dry_run, config=config_file, mine=mine, as_json=as_json)
        await import_from_memos(home, path, flags)

    run(work, as_json=as_json)
