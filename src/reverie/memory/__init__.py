"""Memory: Markdown files and transcripts, cut into small units, indexed by words and by meaning, and found again.

Purpose: keep what a person or an agent wrote or said findable, with the exact place it stands at.

Invariant: files and transcripts are the truth and the index follows them; writing memory calls no model; every answer
names its place, and a signal that is missing is named too.

Start reading at `index.py`, the one object the rest of Reverie holds. Writing: `documents.py` and `transcripts.py`
(what counts as memory), `chunking.py`, `passages.py`, `store.py` (the transactions), `backlog.py` (vectors follow).
Searching: `search.py`, `candidates.py`, `fusion.py` (the ranking, pure), `vectors.py`. For models and other
programs: `tools.py` and `tool_contracts.py`; `append.py` adds notes.
"""
