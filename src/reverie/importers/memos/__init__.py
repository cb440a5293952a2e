"""What a MemOS local plugin has learned: its SQLite database becomes sessions and rows of learning.

Purpose: sessions, episodes, traces, policies, world models, skills, feedback, decision repairs and candidates of
another system, taken over with their ids, so that an agent goes on from what it knew.

Invariant: the source is only read; a row is added once, however often the import runs; what was imported is never
scored again; at most one page of rows is held.

Start reading at `moving.py`.
"""
