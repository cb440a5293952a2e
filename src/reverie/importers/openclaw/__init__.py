"""Moving from OpenClaw: vectors already paid for, notes, and conversations.

Purpose: take over what stands in an OpenClaw home, or in a part of it.

Invariant: the source is opened read-only and its bytes stay as they are; each batch of vectors is committed together
with nothing else and followed by the mark of how far it went, so a kill repeats at most one batch; what is left out is
counted, with its reason.

Start reading at `moving.py`.
"""
