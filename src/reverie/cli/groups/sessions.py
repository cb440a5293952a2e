"""`reverie sessions`: conversations."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from reverie.cli.border import run
from reverie.cli.options import HomeOption, JsonOption, MineOption, SessionArgument

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@commands.command("list", epilog="\b\nExamples:\n  reverie sessions list\n  reverie sessions list --limit 200 --json")
def sessions_list(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many to show.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only those after this one in the list.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List conversations, those used last first."""

    async def work() -> None:
        from reverie.cli.commands.sessions import list_sessions

        await list_sessions(home, limit=limit, after=after, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "show", epilog="\b\nExamples:\n  reverie sessions show main\n  reverie sessions show main --before 120"
)
def sessions_show(
    session: SessionArgument,
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many entries to show.")] = 20,
    before: Annotated[int | None, typer.Option(metavar="N", min=1, help="Only entries before this number.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a conversation and what was said in it last."""

    async def work() -> None:
        from reverie.cli.commands.sessions import show_session

        await show_session(home, session, limit=limit, before=before, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("queue", epilog="\b\nExample:\n  reverie sessions queue main")
def sessions_queue(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what runs and waits in a conversation."""

    async def work() -> None:
        from reverie.cli.commands.sessions import show_queue

        await show_queue(home, session, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("cancel", epilog="\b\nExample:\n  reverie sessions cancel chatcmpl_4f0c…")
def sessions_cancel(
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="Its id, as `reverie sessions queue` shows it.")],
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Stop a message that runs or waits. Without a server, only one that waits."""

    async def work() -> None:
        from reverie.cli.commands.sessions import cancel_message

        await cancel_message(home, message, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("reset", epilog="\b\nExample:\n  reverie sessions reset main")
def sessions_reset(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a conversation. The next one under its key begins with a summary of it; what was said stays."""

    async def work() -> None:
        from reverie.cli.commands.sessions import reset_session

        await reset_session(home, session, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("compact", epilog='\b\nExample:\n  reverie sessions compact main --focus "the trip to Lisbon"')
def sessions_compact(
    session: SessionArgument,
    home: HomeOption = None,
    focus: Annotated[str, typer.Option(metavar="TEXT", help="What the summary should keep in mind.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Have the running server sum up the older part of a conversation for its model."""

    async def work() -> None:
        from reverie.cli.commands.sessions import compact_session

        await compact_session(home, session, focus=focus, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "export",
    epilog="\b\nExamples:\n  reverie sessions export main --output main.jsonl\n"
    "  reverie sessions export main --format markdown",
)
def sessions_export(
    session: SessionArgument,
    home: HomeOption = None,
    form: Annotated[
        Literal["jsonl", "markdown"],
        typer.Option("--format", metavar="FORMAT", help="`jsonl`, which can be imported, or `markdown`, to read."),
    ] = "jsonl",
    output: Annotated[Path | None, typer.Option(metavar="FILE", help="Where to write it. [standard output]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a whole conversation to a file or to standard output."""

    async def work() -> None:
        from reverie.cli.commands.sessions import check_export_output, export_session

        check_export_output(output, as_json=as_json)
        await export_session(home, session, form=form, output=output, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("import", epilog="\b\nExample:\n  reverie sessions import ~/.reverie/archive/*.jsonl.gz")
def sessions_import(
    files: Annotated[list[Path], typer.Argument(metavar="FILE", help="Exported as jsonl, plain or gzipped.")],
    home: HomeOption = None,
    mine: MineOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring back exported conversations, each whole or not at all. Importing again adds nothing twice.

    With --mine, what the files say of whose words are whose counts; else all of them are a stranger's.
    """

    async def work() -> None:
        from reverie.cli.commands.sessions import import_sessions

        await import_sessions(home, files, mine=mine, as_json=as_json)

    run(work, as_json=as_json)
