"""In: an exponent. Out: a small ViT whose residual stream is times 2^exponent, in ONNX."""

from __future__ import annotations

from typing import Any

import onnx

from .export import EAGER, exported, rescale, rescale_eps, seeded

WRITERS = (
    "cls_token",
    "position_embeddings",
    "projection.weight",
    "projection.bias",
    "attention.o_proj.weight",
    "attention.o_proj.bias",
    "mlp.fc2.weight",
    "mlp.fc2.bias",
)
"""Endings of the parameters whose layers write the residual stream."""


def vit(shift: int) -> onnx.ModelProto:
    """A ViT with fused LayerNormalization: what writes the stream is times 2^shift, every norm's eps times 2^(2·shift)."""
    import torch
    from transformers import ViTConfig, ViTModel

    sizes: dict[str, Any] = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    config = ViTConfig(image_size=32, patch_size=8, initializer_range=0.12, **EAGER, **sizes)
    with seeded(4):
        model = ViTModel(config, add_pooling_layer=False)
    rescale(model, 2.0**shift, *WRITERS)
    rescale_eps(model, 4.0**shift)
    return exported(
        model,
        lambda module, pixels: module(pixels).last_hidden_state,
        {"pixel_values": torch.zeros(1, 3, 32, 32)},
        "last_hidden_state",
        name="vit",
    )
