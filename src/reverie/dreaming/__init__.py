"""Dreaming: what was recalled often becomes lasting memory, explained and reversible.

Purpose: keep what searches surfaced as evidence, weigh it, say why a passage would be promoted or not, and promote it.

Invariant: a decision is a pure function of the evidence; ingestion and repetition never count as recall, whatever an
entry scores.

Start reading at `entry.py` (what is known of a passage), then `candidates.py` (how it is weighed), `evidence.py` (where
it is kept), `promotion.py` (what becomes of MEMORY.md).
"""
