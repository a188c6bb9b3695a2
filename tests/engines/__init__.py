"""Building engines: real ones with TensorRT-RTX, and everything else against the real APIs of other versions."""
