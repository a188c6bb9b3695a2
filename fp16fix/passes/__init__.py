"""Hazards → Repairs | Refusals → Recipe → repaired Model."""
