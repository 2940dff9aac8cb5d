"""The soak: everything under mixed load while it is killed at random, then a reconciliation to the last unit.

    python -m tests.soak 20        (scripts/soak 20; docs/soak.md)

Load and disturbance are in `load` and `disturb`; what must have come of it follows from the journal alone (`journal`);
what did come of it is gathered from every store and client (`gathering`); each module of `checks` compares two of those
and is a pure function, which tests feed with wrong facts.
"""
