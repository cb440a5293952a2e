"""`reverie threads`: native threads."""

from __future__ import annotations

from typing import Annotated

import typer

from reverie.cli.border import run
from reverie.cli.options import HomeOption, JsonOption, SessionArgument

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)


@commands.command("list", epilog="\b\nExamples:\n  reverie threads list\n  reverie threads list --limit 200 --json")
def threads_list(
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many to show.")] = 50,
    after: Annotated[str | None, typer.Option(metavar="ID", help="Only those after this session in the list.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the native threads that conversations go on in, those used last first."""

    async def work() -> None:
        from reverie.cli.commands.threads import list_threads

        await list_threads(home, limit=limit, after=after, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "explain", epilog="\b\nExamples:\n  reverie threads explain main\n  reverie threads explain main --json"
)
def threads_explain(
    session: SessionArgument,
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many decisions to show.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Show why the last turns of a conversation went on in their thread or began another one."""

    async def work() -> None:
        from reverie.cli.commands.threads import explain_thread

        await explain_thread(home, session, limit=limit, as_json=as_json)

    run(work, as_json=as_json)


@commands.command("rotate", epilog="\b\nExample:\n  reverie threads rotate main")
def threads_rotate(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Have the next message of a conversation begin another native thread, which is told everything."""

    async def work() -> None:
        from reverie.cli.commands.threads import rotate_thread

        await rotate_thread(home, session, as_json=as_json)

    run(work, as_json=as_json)
