"""Benchmarks: one module per promise or claim. `python -m benchmarks.<name> [--json]` from a checkout.

Whatever is compared runs in the same call, in turns, with medians. Each prints its figures as a table, or with
`--json` as one object `{"name", "machine", "figures", "peers"}`.
"""
