"""Sessions: durable conversations, their turns, and the queue that runs one turn at a time.

Purpose: accept a message once and for all, run it in its turn, and keep the transcript.

Invariant: a turn's row is on disk before anything else happens to it; within a session turns run one by one in order
of arrival; each ends in exactly one terminal event, which is recorded before anybody hears of it.

Start reading at `queue.py` (what happens to a turn), then `store.py` (what is written), `replay.py` (which part of a
client's history is new).
"""
