"""In: an exponent. Out: a small ConvNeXt whose stages' residual streams are times 2^exponent, in ONNX."""

from __future__ import annotations

from typing import Any

import onnx

from .export import exported, rescale, rescale_eps, seeded

FIRST_NORM = "embeddings.layernorm"
WRITERS = (
    f"{FIRST_NORM}.weight",
    f"{FIRST_NORM}.bias",
    "downsampling_layer.1.weight",
    "downsampling_layer.1.bias",
    "layer_scale_parameter",
    "dwconv.bias",
)
"""Endings of the parameters that set the size of a stage's stream, or of what a depthwise convolution makes of it."""


def convnext(shift: int) -> onnx.ModelProto:
    """Two-stage ConvNeXt: WRITERS are times 2^shift; the eps of every norm but the first, which reads the patches, times 2^(2·shift)."""
    import torch
    from transformers import ConvNextConfig, ConvNextModel

    sizes: dict[str, Any] = {"hidden_sizes": [24, 48], "depths": [1, 2], "num_stages": 2}
    config = ConvNextConfig(layer_scale_init_value=1.0, initializer_range=0.15, **sizes)
    with seeded(5):
        model = ConvNextModel(config)
    rescale(model, 2.0**shift, *WRITERS)
    rescale_eps(model, 4.0**shift, but=FIRST_NORM)
    return exported(
        model,
        lambda module, pixels: module(pixels).pooler_output,
        {"pixel_values": torch.zeros(1, 3, 64, 64)},
        "pooler_output",
        name="convnext",
    )
