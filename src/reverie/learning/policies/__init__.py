"""Policies (L2): what worked in several tasks, in words, with its gain.

Purpose: bring alike steps of different tasks together, put into words what they have in common, measure whether it
helps, and group what belongs together for world models.

Invariant: a policy rests on two tasks at least; a person's words win over a rebuild.

Start reading at `association.py`, then `induction.py`; the gain is in `gain.py`.
"""
