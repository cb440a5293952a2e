"""`python -m reverie` is the `reverie` command."""

from __future__ import annotations

from reverie.cli.main import main

main()
