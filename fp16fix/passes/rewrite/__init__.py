"""Local rewrites of the FP32 graph by rules, one file each."""
