"""The agent: what one turn is.

Purpose: run a turn from its durable request to its recorded answer.

Invariant: nothing here waits for learning, indexing or any other background work; a failure of recall or of a tool
costs the turn that piece, never the answer.

Start reading at `turn.py`.
"""
