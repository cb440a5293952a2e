"""World models (L3): what the policies of a domain say of the place where an agent works.

Purpose: one description of each cluster of policies.

Invariant: the same policies are not put into words twice; a person's words win.

Start reading at `abstraction.py`.
"""
