"""Strict half precision on ONNX Runtime's CPU provider: every FP16 tensor is really rounded to FP16.

ONNX Runtime computes FP16 nodes in FP32 on the CPU and drops the casts between them, so a typed graph run there proves nothing.
An FP32 graph with explicit Cast pairs is honoured; ``emulate`` writes that graph.
"""
