"""Surfaces: what was learned, looked at and changed by people and programs.

Purpose: the same pages, explanations and edits for HTTP, the command line and the library.

Invariant: reading is one bounded snapshot, a change one transaction.

Start reading at `surfaces.py`.
"""
