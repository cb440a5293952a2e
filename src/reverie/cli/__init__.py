"""The `reverie` command.

Purpose: everything a person does at a terminal: serve, chat, search, index, import, look, configure.

Invariant: `--help` loads nothing but the command line itself; a failure is one line and an exit code, never a trace.

Start reading at `main.py`, which declares the commands, those of several words in `groups/`; `commands/` has one module
for the work of each.
"""
