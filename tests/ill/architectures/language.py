"""In: an exponent. Out: a small BERT, T5 encoder or Llama decoder whose residual stream is times 2^exponent, in ONNX."""

from __future__ import annotations

from typing import Any

import onnx

from .export import EAGER, exported, rescale, rescale_eps, seeded

VOCABULARY, LENGTH, WIDTH, INNER, HEADS, LAYERS = 200, 24, 64, 128, 4, 2
"""Sizes of all three models; LENGTH is the fixed sequence length."""


def example() -> dict[str, Any]:
    """input_ids and attention_mask to trace with; the second half of the mask is padding, so that it is not folded away."""
    import torch

    mask = torch.ones(1, LENGTH, dtype=torch.long)
    mask[:, LENGTH // 2 :] = 0
    return {"input_ids": torch.arange(LENGTH)[None] + 3, "attention_mask": mask}


def bert(shift: int) -> onnx.ModelProto:
    """BERT at opset 14, norms written out. What every norm reads is times 2^shift, its eps times 2^(2·shift).

    A post-norm stream leaves each norm anew, so γ and β of all norms but the last are times 2^shift as well, and the weights of the
    layers that read them (query, key, value, intermediate) times 2^-shift.
    """
    from transformers import BertConfig, BertModel

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": INNER}
    config = BertConfig(vocab_size=VOCABULARY, max_position_embeddings=64, initializer_range=0.12, **EAGER, **sizes)
    with seeded(1):
        model = BertModel(config, add_pooling_layer=False)
    up = 2.0**shift
    rescale(model, up, "embeddings.weight", "output.dense.weight", "output.dense.bias", "LayerNorm.weight", "LayerNorm.bias")
    last = f"encoder.layer.{LAYERS - 1}.output.LayerNorm"
    rescale(model, 1 / up, f"{last}.weight", f"{last}.bias", "query.weight", "key.weight", "value.weight", "intermediate.dense.weight")
    rescale_eps(model, up**2)
    return exported(
        model,
        lambda module, ids, mask: module(input_ids=ids, attention_mask=mask).last_hidden_state,
        example(),
        "last_hidden_state",
        name="bert",
        opset=14,
    )


def t5(shift: int) -> onnx.ModelProto:
    """A T5 encoder: embeddings, attention o and feed-forward wo are times 2^shift, every norm's eps times 2^(2·shift)."""
    from transformers import T5Config, T5EncoderModel

    sizes: dict[str, Any] = {"d_model": WIDTH, "d_kv": WIDTH // HEADS, "d_ff": INNER, "num_layers": LAYERS, "num_heads": HEADS}
    with seeded(2):
        model = T5EncoderModel(T5Config(vocab_size=VOCABULARY, **EAGER, **sizes))
    rescale(model, 2.0**shift, "shared.weight", "SelfAttention.o.weight", "DenseReluDense.wo.weight")
    rescale_eps(model, 4.0**shift)
    return exported(
        model,
        lambda module, ids, mask: module(input_ids=ids, attention_mask=mask).last_hidden_state,
        example(),
        "last_hidden_state",
        name="t5",
    )


def llama(shift: int) -> onnx.ModelProto:
    """A Llama decoder without cache: embeddings, o_proj and down_proj are times 2^shift, every norm's eps times 2^(2·shift).

    Positions are fixed, so the exporter folds RoPE's cosines and sines into tables.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes: dict[str, Any] = {"hidden_size": WIDTH, "intermediate_size": INNER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS}
    config = LlamaConfig(vocab_size=VOCABULARY, num_key_value_heads=2, max_position_embeddings=64, initializer_range=0.12, **EAGER, **sizes)
    with seeded(3):
        model = LlamaForCausalLM(config)
    rescale(model, 2.0**shift, "embed_tokens.weight", "o_proj.weight", "down_proj.weight")
    rescale_eps(model, 4.0**shift)
    positions = torch.arange(LENGTH)[None]
    return exported(
        model,
        lambda module, ids, mask: module(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False).logits,
        example(),
        "logits",
        name="llama",
    )
