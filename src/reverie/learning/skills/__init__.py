"""Skills: a policy that proved itself, as a `SKILL.md` that a person can read, edit, disable or delete.

Purpose: write it down, verify it against its evidence, and let its trials raise or lower it.

Invariant: a person's edit wins over a rebuild; an active skill is not made a candidate by one.

Start reading at `crystallisation.py`, then `files.py` and `trials.py`.
"""
