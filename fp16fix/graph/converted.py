"""Weights in another type, converted once: graphs of one model that are typed in several ways hold them together."""

from __future__ import annotations

import weakref

import numpy as np

from fp16fix.graph.model import numpy_type

LARGE = 1 << 16
"""Bytes from which it is worth remembering."""
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
    with np.errstate(over="ignore"):
        found = np.asarray(values).astype(numpy_type(element))
    if values.nbytes >= LARGE:
        forget = lambda _: _known.pop(key, None)
        _known[key] = weakref.ref(values), weakref.ref(found, forget)
    return found
