"""Episodes: messages become tasks, bounded in entries, steps and tokens.

Purpose: decide of each message whether it goes on with a task, follows it up or begins another one; put it there at
once, provisionally; settle it before anything is learned from it.

Invariant: an episode never grows past its limits, and each boundary states the reason it really had.

Start reading at `follower.py`, then `placing.py`; the limits are in `routing.py`.
"""
