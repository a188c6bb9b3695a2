"""Whole architectures with small random weights, made ill by function-preserving rescaling.

Powers of two are moved between neighbouring weights (and the eps of the norms that read them), so the FP32 function is the one
before the rescaling; each case's witness is that healthy model. Building needs torch, and transformers for all but the VAE.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..case import Case, Feeds, images, normal, tokens
from . import convnext, language, vae, vit

VOCABULARY, LENGTH = language.VOCABULARY, language.LENGTH


def sentences(seed: int) -> list[Feeds]:
    """Token ids with an attention mask: full, and right-padded to three shorter lengths."""
    samples = tokens("input_ids", (1, LENGTH), VOCABULARY, seed=seed)
    for feeds, kept in zip(samples, (LENGTH, LENGTH - 5, LENGTH // 2, LENGTH - 1), strict=True):
        mask = (np.arange(LENGTH) < kept).astype(np.int64)[None]
        feeds["input_ids"] = feeds["input_ids"] * mask
        feeds["attention_mask"] = mask
    return samples


def pictures(size: int, seed: int) -> list[Feeds]:
    """Pictures normalised to [-1, 1], as image processors give them."""
    return [{"pixel_values": feeds["pixel_values"] * 2 - 1} for feeds in images("pixel_values", (1, 3, size, size), seed=seed)]


CASES = (
    Case(
        name="architecture-bert",
        classes=(1, 6),
        build=partial(language.bert, 9),
        samples=partial(sentences, 300),
        free=True,
        needs=("torch", "transformers"),
        witness=partial(language.bert, 0),
        note="Post-norm stream times 2^9 under norms written out (opset 14): their squares overflow; and the mask's finfo.min.",
    ),
    Case(
        name="architecture-convnext",
        classes=(4, 2),
        build=partial(convnext.convnext, 16),
        samples=partial(pictures, 64, 301),
        free=True,
        needs=("torch", "transformers"),
        witness=partial(convnext.convnext, 2),
        note="Every stage's stream times 2^16: inf at the first addition, though LayerNormalization reads it.",
    ),
    Case(
        name="architecture-llama",
        classes=(3, 4, 6),
        build=partial(language.llama, 19),
        samples=partial(sentences, 302),
        free=True,
        needs=("torch", "transformers"),
        witness=partial(language.llama, 3),
        note="Decoder stream times 2^19, RMSNorm written out, RoPE as tables (fixed length), causal and padding mask in one.",
    ),
    Case(
        name="architecture-sdxl-vae",
        classes=(5, 4),
        build=partial(vae.decoder, 17),
        samples=lambda: normal("latent_sample", (1, 4, 8, 8), seed=303),
        held_out=lambda: normal("latent_sample", (1, 4, 8, 8), seed=304, count=2, scale=4.0),
        free=True,
        needs=("torch",),
        witness=partial(vae.decoder, 1),
        note="Convolution stream to 1e6 between GroupNorms, with attention in the middle (SDXL VAE).",
    ),
    Case(
        name="architecture-t5-encoder",
        classes=(4, 3),
        build=partial(language.t5, 16),
        samples=partial(sentences, 305),
        free=True,
        needs=("torch", "transformers"),
        witness=partial(language.t5, 0),
        note="Encoder stream times 2^16 under T5's RMSNorm; no scale before the softmax, as T5 has it.",
    ),
    Case(
        name="architecture-vit",
        classes=(4,),
        build=partial(vit.vit, 16),
        samples=partial(pictures, 32, 306),
        free=True,
        needs=("torch", "transformers"),
        witness=partial(vit.vit, 2),
        note="Pre-norm stream times 2^16 under fused LayerNormalization.",
    ),
)
