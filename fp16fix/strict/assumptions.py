"""What is assumed of compiled arithmetic, and on what evidence → ``ASSUMPTIONS``, the table of notes/arithmetic.md.

``tests/strict/test_assumptions.py`` builds the small graph that shows each row that was *seen*, and reads its plan: a compiler that behaves
otherwise fails there.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Evidence(str, Enum):
    """Why something is assumed."""

    SEEN = "seen in plans"
    """Of TensorRT-RTX 1.7.1, in the table of layers that its builder prints."""
    DOCUMENTED = "documented"
    UNKNOWN = "unknown"
    """Nothing says so, and nothing says otherwise; ``tools/gpu/settle.py`` asks a GPU."""


@dataclass(frozen=True, slots=True)
class Assumption:
    """One row."""

    name: str
    what: str
    evidence: Evidence
    profiles: str
    """What each profile makes of it."""
    source: str


SEEN, DOCUMENTED, UNKNOWN = Evidence
TRT = "TensorRT documentation"

ASSUMPTIONS = (
    Assumption(
        "lone-product",
        "an FP32 product alone between casts from and to FP16 is an FP16 kernel that adds in FP32, with FP16 weights; a Gemm with a bias "
        "stays FP32",
        SEEN,
        "`compiled`: weights of every lone product are FP16. `lower` puts a Clip to ±2¹⁷ before the cast, which changes no value",
        "`FcSigm` with Half weights where the graph has a Float MatMul",
    ),
    Assumption(
        "guarded-product",
        "behind a Clip, a lone FP32 product stays FP32: MatMul, Gemm, Einsum, Conv, ConvTranspose",
        SEEN,
        "`compiled`: weights stay FP32",
        "`FcMaxMinCastSigm` with Float weights",
    ),
    Assumption(
        "long-softmax",
        "a Softmax of 16,384 keys and more, in few rows, is several kernels: shares before division and their sum are stored in FP16, "
        "partial sums in FP32",
        SEEN,
        "`compiled`: rounds both from 16,384 keys on, whatever the rows",
        "`SubExpSum` writes a Half sum beside Float partial sums",
    ),
    Assumption(
        "wide-long-softmax",
        "pinned to FP32, a long Softmax keeps shares and sum in FP32",
        SEEN,
        "`compiled`: as FP32 computes it",
        "`SubExpSum` with Float tensors only",
    ),
    Assumption(
        "short-softmax",
        "a shorter Softmax is one kernel, in FP32 inside",
        DOCUMENTED,
        "`compiled`: rounded once, where it is stored",
        f"{TRT}; what the one kernel holds inside is not shown",
    ),
    Assumption(
        "norm",
        "LayerNormalization, InstanceNormalization and GroupNormalization compute statistics in FP32, round the normalised values to FP16, "
        "then scale and shift",
        SEEN,
        "`compiled`: one rounding more before scale and bias",
        "`CastMeanSubMulMeanAddSqrtDivMulCastMulAdd`; InstanceNormalization is one library kernel, taken to do the same",
    ),
    Assumption(
        "gemm-whole",
        "Gemm is one kernel: the product is not stored before C is added",
        SEEN,
        "`compiled`: one step. `pessimistic`: product, alpha, beta and sum are stored, as the parser has it",
        "`FcAdd`",
    ),
    Assumption(
        "reductions",
        "ReduceSum, ReduceMean and GlobalAveragePool over long rows add in FP32",
        SEEN,
        "`compiled`: FP32 inside",
        "Float partial sums beside a Half result",
    ),
    Assumption(
        "tf32",
        "FP32 products round their operands to TF32 (11 bits) unless the builder is told not to",
        DOCUMENTED,
        "`compiled-tf32` rounds; `compiled` has it off, and so have our plans where the verdict needs it",
        f"{TRT}, BuilderFlag.TF32: on by default",
    ),
    Assumption(
        "alpha",
        "a scalar factor before a MatMul becomes the kernel's alpha, applied behind the sum; before a Conv it stays",
        SEEN,
        "`compiled`: the factor's result is rounded, which is one rounding too many. `accumulate`: it shrinks no partial sum",
        "the factor has no kernel, and the product's alpha is a constant of its own",
    ),
    Assumption(
        "fused-attention",
        "MatMul, scale, mask, Softmax, MatMul become one kernel; pins among them are not kept, scores are not stored",
        SEEN,
        "`compiled`: scores are stored and rounded, as by separate kernels, which is the stricter of both",
        "`_gemm_mha_v2`",
    ),
    Assumption(
        "upcast-attention",
        "with Q, K and V cast up, attention is separate FP32 products",
        SEEN,
        "`compiled`: as typed",
        "three kernels with Float operands",
    ),
    Assumption(
        "free-interior",
        "FP32 pointwise nodes between casts stay FP32 inside one kernel that reads and writes FP16",
        SEEN,
        "`compiled`: as typed",
        "`ReluCastExpCastSigm` between Half tensors",
    ),
    Assumption(
        "accumulators",
        "FP16 products add in FP32",
        UNKNOWN,
        "`compiled`: FP32. `accumulate`: FP16 after every 16 exact terms",
        "NVIDIA documents FP32 accumulation as something one asks for; consumer GPUs add in FP16 twice as fast",
    ),
    Assumption(
        "attention-accumulators",
        "fused attention adds in FP32 and divides before it multiplies by V",
        UNKNOWN,
        "`compiled`: so. `accumulate`: unnormalised shares times V, added in FP16",
        "TensorRT 11.3 release notes name FP16 accumulation as the default that upcasting avoids",
    ),
    Assumption("subnormals", "FP16 subnormals are kept", UNKNOWN, "all: kept", "nothing says otherwise"),
    Assumption("exponentials", "Exp, Tanh and others are right to the last bit but one", UNKNOWN, "jitter covers one rounding more", "–"),
)


def table() -> str:
    """The rows as Markdown."""
    lines = ["| assumption | evidence | what the profiles do | shown by |", "|---|---|---|---|"]
    lines += [f"| **{each.name}**: {each.what} | {each.evidence.value} | {each.profiles} | {each.source} |" for each in ASSUMPTIONS]
    return "\n".join(lines) + "\n"
