"""The command line: every command, its options and what they mean; those of several words are in `groups/`.

A command's work is in `commands/`, and is loaded only when the command runs: `--help` must cost next to nothing.
"""

from __future__ import annotations

import sys
from io import TextIOWrapper
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
from typer.main import get_command

from reverie import __version__
from reverie.cli.border import reported, run
from reverie.cli.groups import importing, learning, memory, sessions, threads
from reverie.cli.options import AgentOption, HomeOption, JsonOption

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
app.add_typer(importing.commands, name="import", help="Bring in what was said elsewhere.")
app.add_typer(sessions.commands, name="sessions", help="Look at conversations, end them, take them along.")
app.add_typer(memory.commands, name="memory", help="What is known of passages that were recalled.")
app.add_typer(threads.commands, name="threads", help="Native threads: which there are, and why turns ran in them.")
app.add_typer(learning.commands, name="learning", help="What was learned of finished work, why, and what it costs.")


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


app.command(
    "skills",
    short_help="What the agent has learned to do: look, edit, switch off.",
    epilog="\b\nExamples:\n  reverie skills list\n  reverie skills explain grease\n"
    "  reverie skills edit grease --set guide=@guide.md\n  reverie skills disable grease",
)(learning.skills)


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
