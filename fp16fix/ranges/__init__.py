"""Model + samples → Ranges: what every float tensor held while the FP32 model ran on real inputs."""
