"""fp16fix: an ONNX model that is right in FP32 and wrong in FP16 becomes a verified TensorRT engine."""

__version__ = "0.1.0"
