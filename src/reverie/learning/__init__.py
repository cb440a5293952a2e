"""Learning: what was done becomes traces, scored by its outcome, then policies, world models and skills.

Purpose: let an agent do better next time, with every step of that legible, editable and bounded in cost.

Invariant: no reply waits for any of it; each stage is a durable job under a key of its content; a call of a model is
made within a budget, with a permit, never while a turn runs.

Start reading at `pipeline.py`: the table of job kinds and who does them. The rooms, in the order in which a thing goes
through them: `episodes/`, `steps/`, `credit/`, `policies/`, then `worlds/` and `skills/`; `feedback/` says how it went,
`recall/` gives it back to turns, `surfaces/` shows it to people, `asking/` is the door to the model.
"""
