"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None, typer.Option("--home", metavar="DIR", help="Where everything is kept. [REVERIE_HOME, or ~/.reverie]")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, for programs.")]
MineOption = Annotated[
    bool,
    typer.Option("--mine", help="You vouch: you and your agent spoke, so it may become lasting memory."),
]
AgentOption = Annotated[str, typer.Option("--agent", metavar="NAME", help="Whose memory. [main]", show_default=False)]
SessionArgument = Annotated[
    str,
    typer.Argument(metavar="SESSION", help="A session key; the rest of the main agent's, such as `main`; or an id."),
]
