"""Deciding about compaction: when, where to cut, what to keep, whether a summary is good enough.

Everything here is a pure function of values. Reading transcripts, calling the model, writing memory and adopting a
summary happen in `agent.compaction` and `sessions.compactions`. Start at `budget.py`, then `cut.py`.

Invariant: a compaction never shortens a transcript. It says which stretch of it a summary stands for.
"""
