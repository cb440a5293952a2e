"""Feedback: what people say of answers, and what is done about repeated failure.

Purpose: write down a thumb, a word or a correction at once, and let it reach scores, traces and advice later.

Invariant: nobody waits for more than one write; only the owner's words are feedback.

Start reading at `feedback.py`, then `job.py`; `repair.py` for bursts of failures.
"""
