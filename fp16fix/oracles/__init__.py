"""Whatever can say if a candidate is good: one file each."""
