"""Small helpers that many tests share: models as ONNX text, samples, SQNR."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import parser

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model

HEADER = '<ir_version: 10, opset_import: ["" : {opset}]>\n'


def proto(text: str, opset: int = 17, *, check: bool = True) -> onnx.ModelProto:
    """ONNX text without its header → checked proto; one whose weights are still to come is not checked."""
    parsed = parser.parse_model(HEADER.format(opset=opset) + text)
    if check:
        onnx.checker.check_model(parsed, full_check=True)
    return parsed


def model(text: str, opset: int = 17) -> Model:
    return model_from_proto(proto(text, opset), "test")


def normal(*shape: int, scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).standard_normal(shape) * scale).astype(np.float32)


def sqnr_db(reference: np.ndarray, found: np.ndarray) -> float:
    if not np.isfinite(found[np.isfinite(reference)]).all():
        return -np.inf
    noise = float(np.square(reference.astype(np.float64) - found).sum())
    return float("inf") if noise == 0 else 10 * np.log10(float(np.square(reference.astype(np.float64)).sum()) / noise)


def filled(text: str, weights: dict[str, np.ndarray], opset: int = 17, *, widened: bool = True) -> Model:
    """A model whose inputs of these names are initializers; not ``widened``, with the types of the text."""
    parsed = proto(text, opset)
    kept = [value for value in parsed.graph.input if value.name not in weights]
    del parsed.graph.input[:]
    parsed.graph.input.extend(kept)
    parsed.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.checker.check_model(parsed, full_check=True)
    return model_from_proto(parsed, "test", widened=widened)
