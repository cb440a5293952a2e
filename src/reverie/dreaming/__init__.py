"""Dreaming: what was recalled often becomes lasting memory, explained and reversible.

Purpose: keep what searches surfaced as evidence, weigh it, say why a passage would be promoted or not, and promote it.

Invariant: a decision is a pure function of the evidence; ingestion and repetition never count as recall, whatever an
entry scores.

Start reading at `sweep.py` (one night, step by step) and `entry.py` (what is known of a passage), then `candidates.py`
(how it is weighed), `noticing.py`, `light.py`, `rem.py` (what a night decides), `promotion.py` (what becomes of
MEMORY.md), `evidence.py` (where what is known is kept) and `clockwork.py` (when it happens).
"""
