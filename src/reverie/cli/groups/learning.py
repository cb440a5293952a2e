"""`reverie learning` and `reverie skills`: what was learned of finished work."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from reverie.cli.border import run
from reverie.cli.options import AgentOption, HomeOption, JsonOption

commands = typer.Typer(rich_markup_mode=None, no_args_is_help=True)

OneAgentOption = Annotated[
    str, typer.Option("--agent", metavar="NAME", help="Of whom. [the first agent; of jobs all]", show_default=False)
]
StatusOption = Annotated[str, typer.Option(metavar="STATUS", help="Only those in this state.", show_default=False)]
WordsOption = Annotated[
    str, typer.Option("--q", metavar="TEXT", help="Only those that say this; less than 3 characters: in their titles.")
]
AfterOption = Annotated[str, typer.Option(metavar="ID", help="Only those after this one in the list.")]
LimitOption = Annotated[int, typer.Option(metavar="N", min=1, max=200, help="How many to show.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="FIELD=VALUE", help="For `edit`; may be given several times; @FILE reads a file."),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Delete without asking.")]
IdArgument = Annotated[str, typer.Argument(metavar="[ID]", help="Which one, for all but `list`.", show_default=False)]


def _learned(home: Path | None, kind: Any, action: str, **given: Any) -> None:
    """Run one of the commands about what was learned."""

    async def work() -> None:
        from reverie.cli.commands.learning import LearnedFlags, learned

        await learned(home, LearnedFlags(kind, action, **given))

    run(work, as_json=given["as_json"])


@commands.command("status", epilog="\b\nExamples:\n  reverie learning status\n  reverie learning status --json")
def show_learning_status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what learning spends and may spend, what waits and why, and whether it storms.

    Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.learning import learning_status

        await learning_status(home, as_json=as_json)

    run(work, as_json=as_json)


@commands.command(
    "episodes",
    epilog="\b\nExamples:\n  reverie learning episodes\n  reverie learning episodes list --status scored\n"
    "  reverie learning episodes explain ep_4k2m…\n  reverie learning episodes archive ep_4k2m…",
)
def learned_episodes(
    action: Annotated[str, typer.Argument(metavar="[list | show | explain | archive | unarchive]")] = "list",
    id_: IdArgument = "",
    home: HomeOption = None,
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Show episodes: what conversations were about, why each began and ended, what its steps were worth.

    An archived one is never scored, and never recalled. Works beside a running server.
    """
    _learned(home, "episodes", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             as_json=as_json)  # fmt: skip


@commands.command(
    "traces",
    epilog="\b\nExamples:\n  reverie learning traces --q roaster\n  reverie learning traces explain tr_4k2m…\n"
    '  reverie learning traces edit tr_4k2m… --set summary="greased the bearing"',
)
def learned_traces(
    action: Annotated[str, typer.Argument(metavar="[list | show | explain | edit | archive | unarchive]")] = "list",
    id_: IdArgument = "",
    home: HomeOption = None,
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    changes: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show traces: the steps of episodes with their worth, and where each stands in its conversation.

    Works beside a running server.
    """
    _learned(home, "traces", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             changes=changes or (), as_json=as_json)  # fmt: skip


@commands.command(
    "policies",
    epilog="\b\nExamples:\n  reverie learning policies --status active\n  reverie learning policies explain po_4k2m…\n"
    "  reverie learning policies edit po_4k2m… --set boundary=@boundary.txt",
)
def learned_policies(
    action: Annotated[
        str, typer.Argument(metavar="[list | show | explain | edit | archive | unarchive | delete]")
    ] = "list",
    id_: IdArgument = "",
    home: HomeOption = None,
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    changes: SetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show policies: what to do when, how to check it, where it ends, and the evidence and gain of each.

    Works beside a running server.
    """
    _learned(home, "policies", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             changes=changes or (), yes=yes, as_json=as_json)  # fmt: skip


@commands.command(
    "world-models",
    epilog="\b\nExamples:\n  reverie learning world-models\n  reverie learning world-models explain wm_4k2m…",
)
def learned_world_models(
    action: Annotated[
        str, typer.Argument(metavar="[list | show | explain | edit | archive | unarchive | delete]")
    ] = "list",
    id_: IdArgument = "",
    home: HomeOption = None,
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    changes: SetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show world models: what holds in a domain, and the policies each rests on. Works beside a running server."""
    _learned(home, "world-models", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             changes=changes or (), yes=yes, as_json=as_json)  # fmt: skip


@commands.command(
    "jobs",
    epilog="\b\nExamples:\n  reverie learning jobs --status dead\n  reverie learning jobs explain reward:ta_4k2m…:1\n"
    "  reverie learning jobs retry reward:ta_4k2m…:1",
)
def learned_jobs(
    action: Annotated[str, typer.Argument(metavar="[list | show | explain | retry | cancel]")] = "list",
    id_: Annotated[str, typer.Argument(metavar="[KEY]", help="Which one, for all but `list`.")] = "",
    home: HomeOption = None,
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Show jobs of learning: what became of each, why one waits or is dead, and what it spent.

    Works beside a running server; what runs is cancelled by the server alone.
    """
    _learned(home, "jobs", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             as_json=as_json)  # fmt: skip


@commands.command(
    "feedback",
    epilog="\b\nExamples:\n  reverie learning feedback\n"
    '  reverie learning feedback give --session main --thumb down --text "The port is 8443."\n'
    "  reverie learning feedback give --skill grease --thumb up",
)
def learned_feedback(
    action: Annotated[str, typer.Argument(metavar="[list | show | explain | give]")] = "list",
    id_: IdArgument = "",
    home: HomeOption = None,
    session: Annotated[str, typer.Option(metavar="SESSION", help="For `give`: the last answer of this one.")] = "",
    turn: Annotated[str, typer.Option(metavar="ID", help="Or this answer.")] = "",
    skill: Annotated[str, typer.Option(metavar="NAME", help="Or this skill.")] = "",
    episode: Annotated[str, typer.Option(metavar="ID", help="Or this episode.")] = "",
    task: Annotated[str, typer.Option(metavar="ID", help="Or this task.")] = "",
    trace: Annotated[str, typer.Option(metavar="ID", help="Or this step.")] = "",
    thumb: Annotated[Literal["up", "down"] | None, typer.Option(metavar="up|down", help="How it was.")] = None,
    score: Annotated[float | None, typer.Option(metavar="X", help="Or as a number, -1 to 1.")] = None,
    text: Annotated[str, typer.Option(metavar="TEXT", help="What was wrong, or right.")] = "",
    agent: OneAgentOption = "",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Show what was said of answers, or say how one was. Works beside a running server."""
    if action != "give":
        _learned(home, "feedback", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
                 as_json=as_json)  # fmt: skip
        return
    about = {"session": session, "turn_id": turn, "skill": skill, "episode_id": episode, "task_id": task,
             "trace_id": trace}  # fmt: skip

    async def work() -> None:
        from reverie.cli.commands.learning_feedback import FeedbackFlags, give

        await give(home, FeedbackFlags(agent, about, thumb, score, text, as_json=as_json))

    run(work, as_json=as_json)


def skills(
    action: Annotated[
        str,
        typer.Argument(metavar="[list | show | explain | edit | enable | disable | archive | unarchive | delete]"),
    ] = "list",
    id_: Annotated[str, typer.Argument(metavar="[NAME]", help="Which one, for all but `list`.")] = "",
    home: HomeOption = None,
    agent: AgentOption = "main",
    status: StatusOption = "",
    q: WordsOption = "",
    after: AfterOption = "",
    limit: LimitOption = 50,
    changes: SetOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show skills: guides made of what went well, how often each was shown, used and right, and why it is trusted.

    What you edit stands: no rebuild undoes it. Works beside a running server.
    """
    _learned(home, "skills", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             changes=changes or (), yes=yes, as_json=as_json)  # fmt: skip
