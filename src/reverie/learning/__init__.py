"""Learning: what was done becomes traces, scored by its outcome, then policies, world models and skills.

Purpose: let an agent do better next time, with every step of that legible, editable and bounded in cost.

Invariant: no reply waits for any of it; each stage is a durable job under a key of its content; a call of a model is
made within a budget, with a permit, never while a turn runs.

Start reading at `pipeline.py`: the table of job kinds and who does them.
"""
