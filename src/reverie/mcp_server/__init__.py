"""The memory tools for programs that speak the Model Context Protocol, over HTTP at `/mcp` and over stdin and stdout.

Purpose: offer what `memory.tools` offers, under the same names, schemas and answers, to programs of other makers.

Invariant: importing this package, or any module of it, imports nothing of the protocol's own package (`mcp`), which
costs 0.7 s of CPU and 24 MiB; that happens with the first use, off the event loop. A failure is a tool's result and
never ends the connection.

Start reading at `protocol.py` (the tools as an MCP server), then `http.py` and `stdio.py` (the two transports), and
`home.py` (how `reverie mcp` gets at a home).
"""
