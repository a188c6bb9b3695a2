"""A model and one sample → the shapes of its tensors, by ONNX's own inference: enough to count work, without a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from fp16fix.graph.model import Model
from fp16fix.graph.session import light
from fp16fix.ranges.range import Range


def sizes(model: Model, sample: Mapping[str, np.ndarray]) -> dict[str, Range]:
    """Ranges that know nothing but shapes; what the inference leaves open counts as 1.

    Args:
        model: typed or not.
        sample: arrays for its inputs, which settle free dimensions.
    """
    proto, _ = light(model)
    for value in proto.graph.input:
        if value.name in sample:
            del value.type.tensor_type.shape.dim[:]
            for size in sample[value.name].shape:
                value.type.tensor_type.shape.dim.add(dim_value=size)
    inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True).graph
    found = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        shape = tuple(max(1, dim.dim_value) for dim in value.type.tensor_type.shape.dim)
        found[value.name] = Range(value.name, shape, 0.0, 0.0, 0.0, 0.0, 0.0, 0)
    return found
