"""Dreaming: what was recalled often becomes lasting memory, explained and reversible.

Purpose: keep what searches surfaced as evidence, weigh it, and say why a passage would be promoted or not.

Invariant: a decision is a pure function of the evidence; ingestion and repetition never count as recall, whatever an
entry scores.

Start reading at `entry.py` (what is known of a passage), then `candidates.py` (how it is weighed), `evidence.py` (where
it is kept), `clockwork.py` (when something is done about it).
"""
