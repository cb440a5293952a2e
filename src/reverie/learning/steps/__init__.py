"""Steps: what an agent did becomes traces, bounded in size, with tags and signatures.

Purpose: keep the steps of an episode in a form that can be compared and recalled.

Invariant: a step is kept once, under an id of its content; no model is called here.

Start reading at `capture.py`.
"""
