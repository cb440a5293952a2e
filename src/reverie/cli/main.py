"""The whole command line on one screen: every command, its options and what they mean.

A command's work is in `commands/`, and is loaded only when the command runs: `--help` must cost next to nothing.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.main import get_command

from reverie import __version__
from reverie.cli.border import reported, run

if TYPE_CHECKING:
    from collections.abc import Sequence

CONTEXT: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

app = typer.Typer(
    name="reverie",
    help="A memory and session runtime for AI agents: point any OpenAI-compatible client at it, and it remembers.",
    epilog="\b\nStart with:\n  reverie serve --sample      a server with a small memory to ask about\n"
    "  reverie chat                talk to it here\n  reverie COMMAND --help      examples for each command",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings=CONTEXT,
)
importing = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(importing, name="import", help="Bring in what was said elsewhere.")
sessions = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(sessions, name="sessions", help="Look at conversations, end them, take them along.")
memory = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(memory, name="memory", help="What is known of passages that were recalled.")
threads = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(threads, name="threads", help="Native threads: which there are, and why turns ran in them.")

learning = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
app.add_typer(learning, name="learning", help="What was learned of finished work, why, and what it costs.")

HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Where everything is kept. [REVERIE_HOME, or ~/.reverie]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for programs.")]
MineOption = Annotated[
    bool,
    typer.Option("--mine", help="You vouch: you and your agent spoke, so it may become lasting memory."),
]
AgentOption = Annotated[str, typer.Option("--agent", metavar="NAME", help="Whose memory. [main]", show_default=False)]
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


def _show_version(value: bool) -> None:
    if value:
        typer.echo(f"reverie {__version__}")
        raise typer.Exit


@app.callback()
def reverie(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """The options of `reverie` itself."""


@app.command(
    epilog="\b\nExamples:\n  reverie serve --sample\n"
    "  reverie serve --upstream http://127.0.0.1:11434/v1 --model llama3.2\n"
    "  REVERIE_UPSTREAM_API_KEY=… reverie serve --upstream https://api.openai.com/v1 --model gpt-5-mini"
)
def serve(
    home: HomeOption = None,
    host: Annotated[
        str | None, typer.Option(metavar="H", help="Address to listen on; others than this machine's need a token.")
    ] = None,
    port: Annotated[int | None, typer.Option(metavar="N", help="TCP port; 0 picks a free one. [8377]")] = None,
    upstream: Annotated[
        str | None, typer.Option(metavar="URL", help="The model's server, up to and including /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(metavar="NAME", help="The model to ask there. [its first]")] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Put a small sample memory into a new home.")] = False,
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"], typer.Option(metavar="LEVEL", help="How much to log.")
    ] = "info",
    as_json: JsonOption = False,
) -> None:
    """Start the server: OpenAI-compatible, with memory, until Ctrl-C.

    Without --upstream it looks for Ollama, llama.cpp and LM Studio on this machine; without any of them it answers
    from memory alone and says so.
    """
    with reported(as_json=as_json):
        from reverie.cli.commands.serve import ServeFlags, serve_home

        serve_home(ServeFlags(home, host, port, upstream, model, sample, log_level, as_json))


@app.command(
    epilog="\b\nExamples:\n  reverie chat\n  reverie chat --session agent:main:recipes\n"
    '  echo "What did we decide about the beans?" | reverie chat --json'
)
def chat(
    home: HomeOption = None,
    session: Annotated[
        str | None, typer.Option(metavar="KEY", help="Which conversation to go on with. [the agent's main one]")
    ] = None,
    url: Annotated[
        str | None, typer.Option(metavar="URL", help="A running server. [the one on this home, else none is needed]")
    ] = None,
    agent: Annotated[
        str | None, typer.Option("--agent", metavar="NAME", help="Whom to talk to. [main, or the session's]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Talk in the terminal, and see which memories each answer used.

    /new begins a new conversation, /quit or Ctrl-D ends the chat. Ctrl-C stops showing an answer; it is recorded all
    the same.
    """
    with reported(as_json=as_json):
        from reverie.cli.commands.chat import chat_here

        chat_here(home, session=session, url=url, agent=agent, as_json=as_json)


@app.command(
    epilog='\b\nExamples:\n  reverie search "when is the service due"\n'
    "  reverie search launch --source memory --explain"
)
def search(
    query: Annotated[str, typer.Argument(help="What to look for, in your own words.")],
    home: HomeOption = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=100, help="How many places to show.")] = 10,
    agent: AgentOption = "main",
    source: Annotated[
        Literal["memory", "sessions"] | None,
        typer.Option(metavar="SOURCE", help="Only `memory` (notes) or `sessions` (conversations)."),
    ] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show why each place was found.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find places in memory, best first, with file and line. Works beside a running server."""

    async def work() -> None:
        from reverie.cli.commands.search import search_memory

        await search_memory(home, query, limit=limit, agent=agent, source=source, explain=explain, as_json=as_json)

    run(work, as_json=as_json)


@app.command(epilog="\b\nExamples:\n  reverie index\n  reverie index --rebuild")
def index(
    home: HomeOption = None,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Build a new index beside the live one, then switch to it. Nothing paid for is embedded again.",
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Rebuild without asking, also where that costs money.")] = False,
    agent: Annotated[str | None, typer.Option("--agent", metavar="NAME", help="Only this agent's notes. [all]")] = None,
    as_json: JsonOption = False,
) -> None:
    """Bring the index up to date with every note and conversation. A running server does this by itself."""

    async def work() -> None:
        from reverie.cli.commands.index import index_home

        await index_home(home, rebuild=rebuild, yes=yes, agent=agent, as_json=as_json)

    run(work, as_json=as_json)


@app.command(
    short_help="Show what a home holds and what runs.",
    epilog="\b\nExamples:\n  reverie status\n  reverie status --json",
)
def status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what a home holds, which model answers, and whether a server runs."""

    async def work() -> None:
        from reverie.cli.commands.status import show_status

        await show_status(home, as_json=as_json)

    run(work, as_json=as_json)


@app.command(
    short_help="Say what is wrong with a home, and repair it.",
    epilog="\b\nExamples:\n  reverie doctor\n  reverie doctor --fix\n  reverie doctor --deep --json",
)
def doctor(
    home: HomeOption = None,
    fix: Annotated[
        bool, typer.Option("--fix", help="Repair what can be made anew from files and conversations. Needs no server.")
    ] = False,
    deep: Annotated[
        bool,
        typer.Option(
            "--deep", help="Leave nothing out: full checks of large files, contents of notes, a paid embedder."
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Examine a home: databases, index, notes, conversations, cache, leftovers, settings.

    Each finding has a severity, a cause and a remedy. Looking changes nothing and works beside a running server.
    The exit code is 1 when an error remains.
    """

    async def work() -> None:
        from reverie.cli.commands.doctor import examine_home

        await examine_home(home, fix=fix, deep=deep, as_json=as_json)

    run(work, as_json=as_json)


@importing.command(
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


@importing.command(
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


@importing.command(
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


@app.command(epilog='\b\nExample:\n  reverie remember "The roaster\'s service is due in March."')
def remember(
    text: Annotated[str, typer.Argument(help="The note, in Markdown.")],
    home: HomeOption = None,
    agent: AgentOption = "main",
    as_json: JsonOption = False,
) -> None:
    """Write a note into today's file of the memory. It can be found at once."""

    async def work() -> None:
        from reverie.cli.commands.remember import remember_note

        await remember_note(home, text, agent=agent, as_json=as_json)

    run(work, as_json=as_json)


@app.command(
    short_help="Offer the memory to programs that speak MCP.",
    epilog="\b\nExamples:\n  reverie mcp\n  reverie mcp --home ~/.reverie --agent main\n\n"
    "\b\nIn the settings of a program that speaks MCP:\n"
    '  {"mcpServers": {"reverie": {"command": "reverie", "args": ["mcp"]}}}',
)
def mcp(home: HomeOption = None, agent: AgentOption = "main", as_json: JsonOption = False) -> None:
    """Offer memory_search, memory_get and memory_append over the Model Context Protocol, on stdin and stdout.

    Works beside a running server, which then does the work, and without one. Logs go to standard error.
    """

    async def work() -> None:
        from reverie.cli.commands.mcp import serve_mcp

        await serve_mcp(home, agent=agent)

    run(work, as_json=as_json)


@app.command(
    short_help="Show or change the settings.",
    epilog="\b\nExamples:\n  reverie config\n  reverie config gateway.port\n  reverie config set gateway.port 9000\n"
    "  reverie config unset gateway.port",
)
def config(
    words: Annotated[list[str] | None, typer.Argument(metavar="[KEY | set KEY VALUE | unset KEY]")] = None,
    home: HomeOption = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the configuration is valid.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show or change the settings: value, where it comes from, what is allowed, what it is for.

    Values come from the environment (REVERIE_GATEWAY__PORT), then config.toml in the home, then the defaults.
    """
    with reported(as_json=as_json):
        from reverie.cli.commands.config import config_command

        config_command(home, words or [], check=check, as_json=as_json)


SessionArgument = Annotated[
    str,
    typer.Argument(metavar="SESSION", help="A session key; the rest of the main agent's, such as `main`; or an id."),
]


@sessions.command("list", epilog="\b\nExamples:\n  reverie sessions list\n  reverie sessions list --limit 200 --json")
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


@sessions.command(
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


@sessions.command("queue", epilog="\b\nExample:\n  reverie sessions queue main")
def sessions_queue(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what runs and waits in a conversation."""

    async def work() -> None:
        from reverie.cli.commands.sessions import show_queue

        await show_queue(home, session, as_json=as_json)

    run(work, as_json=as_json)


@sessions.command("cancel", epilog="\b\nExample:\n  reverie sessions cancel chatcmpl_4f0c…")
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


@sessions.command("reset", epilog="\b\nExample:\n  reverie sessions reset main")
def sessions_reset(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """End a conversation. The next one under its key begins with a summary of it; what was said stays."""

    async def work() -> None:
        from reverie.cli.commands.sessions import reset_session

        await reset_session(home, session, as_json=as_json)

    run(work, as_json=as_json)


@sessions.command("compact", epilog='\b\nExample:\n  reverie sessions compact main --focus "the trip to Lisbon"')
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


@sessions.command(
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


@sessions.command("import", epilog="\b\nExample:\n  reverie sessions import ~/.reverie/archive/*.jsonl.gz")
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


@threads.command("list", epilog="\b\nExamples:\n  reverie threads list\n  reverie threads list --limit 200 --json")
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


@threads.command(
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


@threads.command("rotate", epilog="\b\nExample:\n  reverie threads rotate main")
def threads_rotate(session: SessionArgument, home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Have the next message of a conversation begin another native thread, which is told everything."""

    async def work() -> None:
        from reverie.cli.commands.threads import rotate_thread

        await rotate_thread(home, session, as_json=as_json)

    run(work, as_json=as_json)


@memory.command(
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


@memory.command("repair", epilog="\b\nExamples:\n  reverie memory repair --dry-run\n  reverie memory repair --json")
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


@memory.command(
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


@memory.command(
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


@memory.command(
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


@memory.command(
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


@memory.command(
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


@memory.command(
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


@memory.command("changes", epilog="\b\nExample:\n  reverie memory changes")
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


@memory.command(
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


@memory.command(
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


@memory.command(
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


@learning.command("status", epilog="\b\nExamples:\n  reverie learning status\n  reverie learning status --json")
def show_learning_status(home: HomeOption = None, as_json: JsonOption = False) -> None:
    """Show what learning spends and may spend, what waits and why, and whether it storms.

    Works beside a running server.
    """

    async def work() -> None:
        from reverie.cli.commands.learning import learning_status

        await learning_status(home, as_json=as_json)

    run(work, as_json=as_json)


@learning.command(
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

    An archived one is never scored. Works beside a running server.
    """
    _learned(home, "episodes", action, name=id_, agent=agent, status=status, q=q, after=after, limit=limit,
             as_json=as_json)  # fmt: skip


@learning.command(
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


@learning.command(
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


@learning.command(
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


@learning.command(
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


@learning.command(
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


@app.command(
    "skills",
    short_help="What the agent has learned to do: look, edit, switch off.",
    epilog="\b\nExamples:\n  reverie skills list\n  reverie skills explain grease\n"
    "  reverie skills edit grease --set guide=@guide.md\n  reverie skills disable grease",
)
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


def main() -> None:
    """Run the command line."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character shows another one
    words = sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    if {"-h", "--help"}.intersection(words):
        show_help(words)
    app(prog_name="reverie")


def show_help(words: Sequence[str]) -> NoReturn:
    """Show the help of the command that these words name, and end.

    The ordinary way gives the same help, but first converts the options of every command on the way, for which typer
    loads pydantic: three times the cost of everything else.
    """
    command: Any = get_command(app)
    name = "reverie"
    for word in words:
        inner = getattr(command, "commands", {}).get(word)
        if inner is None:
            break
        command, name = inner, f"{name} {word}"
    command.main(["--help"], prog_name=name, **CONTEXT)
    raise SystemExit
