"""Models that are right in FP32 and wrong in FP16 (or right in both, and must be left alone), by kind of illness."""
