"""The faults, one file an area of the code; each has ``FAULTS``."""
