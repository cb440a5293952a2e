"""Credit: how well a task went, and what each of its steps is worth.

Purpose: one call reflects a window of steps, one scores a task; the rest is arithmetic over all of its episodes.

Invariant: a task is scored once for what is known of it; the same inputs give the same values.

Start reading at `reward.py`; the formulas are in `rewards.py` and `backprop.py`.
"""
