"""All contact with onnx, onnx-graphsurgeon, onnxsim and ONNX Runtime: load, canonicalise, edit, type, run, save."""
