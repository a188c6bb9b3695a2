"""Seeded mutants of small models, samples and files: whatever comes in, a run ends with a verdict that is true or with a sentence."""
