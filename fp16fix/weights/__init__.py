"""A file of weights (.pth, .safetensors, .onnx) → what storing each tensor in FP16 does to it: the first check of every FP16 hunt."""

from fp16fix.weights.cast import TensorCast, WeightReport
from fp16fix.weights.scan import scan

__all__ = ["TensorCast", "WeightReport", "scan"]
