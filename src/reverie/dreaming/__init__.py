"""Dreaming: what was recalled often becomes lasting memory, explained and reversible.

Purpose: keep what searches surfaced as evidence, weigh it, and say why a passage would be promoted or not.

Invariant: a decision is a pure function of the evidence; ingestion and repetition never count as recall, whatever an
entry scores.

Start reading at `sweep.py` (one night, step by step) and `entry.py` (what is known of a passage), then `candidates.py`
(how it is weighed), `noticing.py`, `light.py`, `rem.py` (what a night decides), `evidence.py` (where it is kept) and
`clockwork.py` (when it happens).
"""
