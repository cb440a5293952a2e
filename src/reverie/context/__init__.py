"""The prompt: what is sent to the model, in what order, from where, and within which budget.

Purpose: turn a session's transcript, its workspace files and what was recalled into one prompt.

Invariant: the same inputs give the same bytes; the stable prefix changes only at an epoch, and each epoch has one
recorded reason. Recalled text stands at the tail, fenced as data.

Start reading at `engine.py`.
"""
