"""Processes of ours: how children are started, and what a signal does to this one."""
