"""Seeded faults in the lines that matter, each with the tests that must notice it: ``python -m tools.mutate``."""
