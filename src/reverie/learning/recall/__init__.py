"""Recall: what was learned, found again for a new message.

Purpose: skills, traces, policies and world models beside memory, under one budget of the prompt.

Invariant: no model is called; what is too late or fails is left out with its reason; all of it is data for a prompt.

Start reading at `recall.py`; a turn comes in by `turn_recall.py`.
"""
