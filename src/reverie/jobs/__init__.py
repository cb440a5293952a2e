"""Durable jobs: work that nobody waits for, done once, however often the process dies.

Purpose: a thin door to the job engine (DBOS). A domain package writes what it wants done into the transaction of the
change that it follows from (`request.py`), and gives a handler for each kind of job; this package does the rest:
handing over, retries, putting back, dead letters, what a person sees and may do about them.

Invariant: the same work has one key and is one row; a change and its follow-up are committed together or not at all.

Start reading at `request.py`; then `engine.py` (the loop), `decisions.py` (what may begin, what becomes of a run),
`runs.py` (each step a compare-and-set), `durable.py` (alone imports DBOS). `requests.py` is what a person sees.
"""
