"""Bringing in what was said elsewhere.

Purpose: read other systems' records and add them as past sessions.

Invariant: the source is only read; an import is idempotent and goes on where it was interrupted; imported text is
data like any other memory, with its speakers and dates kept.

Start reading at `conversations.py`; for a move from OpenClaw at `openclaw/moving.py`.
"""
