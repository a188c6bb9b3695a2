"""Weights in another type, converted once: graphs of one model that are typed in several ways hold them together."""

from __future__ import annotations

import weakref
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort

from fp16fix.graph.model import numpy_type
from fp16fix.half import FP16, FP32

LARGE = 1 << 16
"""Bytes from which it is worth remembering."""
FEW = 1 << 12
"""Elements up to which NumPy is as fast."""
_known: dict[tuple[int, int], tuple[weakref.ref[np.ndarray], weakref.ref[np.ndarray]]] = {}
"""By ``id`` of the values and element type: the values, and what they were converted to, as long as somebody holds both."""


def converted(values: np.ndarray, element: int) -> np.ndarray:
    """Values rounded to nearest even, sign kept; past the largest of the type they become inf. Nobody's to edit.

    Args:
        values: of an initializer, which are not edited either.
        element: ``onnx.TensorProto`` element type.
    """
    key = id(values), element
    if key in _known:
        source, result = (each() for each in _known[key])
        if source is values and result is not None:
            return result
    found = cast(np.asarray(values), element)
    if values.nbytes >= LARGE:
        forget = lambda _: _known.pop(key, None)
        _known[key] = weakref.ref(values), weakref.ref(found, forget)
    return found


def cast(values: np.ndarray, element: int) -> np.ndarray:
    """``values.astype``, to nearest even, silent about what overflows; between FP32 and FP16 by ONNX Runtime, four times as fast."""
    wanted = numpy_type(element)
    if values.size > FEW and {values.dtype, wanted} == {np.dtype(np.float32), np.dtype(np.float16)}:
        flat = np.ascontiguousarray(values).reshape(-1)
        found: np.ndarray = caster(element).run(None, {"x": flat})[0]
        return found.reshape(values.shape)
    with np.errstate(over="ignore"):
        return values.astype(wanted)


@cache
def caster(element: int) -> ort.InferenceSession:
    """From FP16 to FP32, or the other way."""
    kinds = {"x": FP16.onnx if element == FP32.onnx else FP32.onnx, "y": element}
    ends = [onnx.helper.make_tensor_value_info(name, kind, ["n"]) for name, kind in kinds.items()]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Cast", ["x"], ["y"], to=element)], "cast", ends[:1], ends[1:])
    proto = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 13)])
    options = ort.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # It stays open; an arena would hold as much as the largest weight, and more.
    options.enable_cpu_mem_arena = False
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
