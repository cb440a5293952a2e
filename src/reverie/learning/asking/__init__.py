"""Asking a model on behalf of a job.

Purpose: one door for every call of learning: answered from the journal, within a budget, with a permit, after the
turns.

Invariant: what was answered is not asked again; no more calls run at once than there are permits, over all processes.

Start reading at `asks.py`, which is all that a stage sees, then `model_door.py`.
"""
