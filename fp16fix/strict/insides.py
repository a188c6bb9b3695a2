"""What TensorRT's parser makes of each ONNX operator → ``INSIDES``, the table by which ``strict.emulate`` knows what rounds inside.

Read from networks that TensorRT-RTX 1.7.1 parsed; ``tests/strict/test_insides.py`` parses every row again and compares.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from fp16fix.half import BF16


class How(str, Enum):
    """What happens between an operator's FP16 inputs and its FP16 output."""

    MOVES = "moves values"
    """Nothing is computed; the emulator rounds nothing."""
    ONE = "one FP16 layer"
    """One layer: rounded once, where it is stored. What it accumulates in is the kernel's business: FP32, as NVIDIA documents it."""
    WIDE = "FP32 inside"
    """FP32 layers between casts: rounded once, where it is stored."""
    STEPS = "several FP16 layers"
    """Every step is stored in FP16: ``strict.steps`` writes them out."""
    UNLIKE = "several FP16 layers, emulated as one"
    """A difference that stands; ``why`` says why."""
    REFUSED = "refused"
    """No engine comes of it in any type; emulated as one layer, for graphs that other runtimes take."""


@dataclass(frozen=True, slots=True)
class Inside:
    """One row."""

    how: How
    layers: frozenset[str] = frozenset()
    """Kinds of TensorRT layers that compute (``LayerType``), those the parser gives the node's name."""
    why: str = ""
    """For the reader of ``notes/insides.md``."""
    in_bf16: How | None = None
    """The same of BF16, where that differs."""

    def of(self, element: int) -> How:
        """What happens in FP16 or BF16."""
        return self.in_bf16 if element == BF16.onnx and self.in_bf16 is not None else self.how


def rows(how: How, layers: str, ops: str, why: str = "", in_bf16: How | None = None) -> dict[str, Inside]:
    """The same row for several operators."""
    return {op: Inside(how, frozenset(layers.split()), why, in_bf16) for op in ops.split()}


IMPLICIT = "the formula in one kernel"
SCRATCH = "sums over an axis in one layer: FP32 accumulators assumed, which the pessimistic profile does not grant"
DOT = "products summed in one layer: FP32 accumulators assumed, which the pessimistic profile does not grant"
CAST_AROUND = "the parser itself casts up and down again"
NOT_BF16 = "but not in BF16, where every step is stored"
SCHEMA = "ONNX has no FP16 form: the repaired graph casts around it"
STATES = "a loop of FP16 layers: states are rounded at every time step, gates on the way; written out it would be a Scan of fifteen nodes"

INSIDES: dict[str, Inside] = {
    **rows(How.MOVES, "", "Reshape Flatten Transpose DepthToSpace SpaceToDepth Dropout Identity"),
    **rows(How.MOVES, "SQUEEZE", "Squeeze"),
    **rows(How.MOVES, "UNSQUEEZE", "Unsqueeze"),
    **rows(How.MOVES, "SLICE", "Slice Split Expand Tile Pad"),
    **rows(How.MOVES, "CONCATENATION", "Concat"),
    **rows(How.MOVES, "GATHER", "Gather GatherElements GatherND"),
    **rows(How.MOVES, "SCATTER", "ScatterElements ScatterND", "with a reduction the parser refuses it"),
    **rows(How.MOVES, "REVERSE_SEQUENCE", "ReverseSequence"),
    **rows(How.MOVES, "SELECT", "Where"),
    **rows(How.MOVES, "TOPK", "TopK"),
    **rows(How.MOVES, "ONE_HOT", "OneHot"),
    **rows(How.MOVES, "ELEMENTWISE SELECT", "Trilu", "compares indices"),
    **rows(How.MOVES, "ELEMENTWISE", "Max Min"),
    **rows(How.MOVES, "POOLING", "MaxPool"),
    **rows(How.MOVES, "REDUCE", "ReduceMax ReduceMin GlobalMaxPool"),
    **rows(How.MOVES, "ACTIVATION", "Relu Clip"),
    **rows(How.MOVES, "UNARY", "Abs Neg"),
    **rows(How.ONE, "ELEMENTWISE", "Add Sub Mul Div Pow"),
    **rows(How.ONE, "UNARY", "Sqrt Reciprocal Exp Log Erf Sign Floor Ceil Round", IMPLICIT),
    **rows(How.ONE, "UNARY", "Sin Cos Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh", IMPLICIT),
    **rows(How.ONE, "ACTIVATION", "Sigmoid Tanh Softplus Softsign Gelu Elu Selu LeakyRelu ThresholdedRelu HardSigmoid", IMPLICIT),
    **rows(How.ONE, "PARAMETRIC_RELU", "PRelu", IMPLICIT),
    **rows(How.ONE, "SOFTMAX", "Softmax", "one kernel, FP32 inside as NVIDIA documents it"),
    **rows(How.ONE, "NORMALIZATION", "LayerNormalization InstanceNormalization GroupNormalization", "INormalizationLayer computes in FP32"),
    **rows(How.ONE, "SCALE", "BatchNormalization", "scale and shift are folded while parsing"),
    **rows(How.ONE, "LRN", "LRN", IMPLICIT),
    **rows(How.ONE, "MATRIX_MULTIPLY", "MatMul", DOT),
    **rows(How.ONE, "EINSUM", "Einsum", DOT),
    **rows(How.ONE, "CONVOLUTION", "Conv", f"{DOT}; the bias is added there"),
    **rows(How.ONE, "DECONVOLUTION", "ConvTranspose", f"{DOT}; the bias is added there"),
    **rows(How.ONE, "REDUCE", "ReduceSum ReduceMean ReduceProd GlobalAveragePool", SCRATCH),
    **rows(How.ONE, "REDUCE UNARY", "ReduceL1", f"|x| is exact; {SCRATCH}"),
    **rows(How.ONE, "POOLING", "AveragePool", SCRATCH),
    **rows(How.ONE, "CUMULATIVE", "CumSum", "running sums in one layer; what it carries them in is not documented: FP32 assumed"),
    **rows(How.ONE, "RESIZE", "Resize Upsample", IMPLICIT),
    **rows(How.ONE, "GRID_SAMPLE", "GridSample", IMPLICIT),
    **rows(How.ONE, "ROTARY_EMBEDDING", "RotaryEmbedding", IMPLICIT),
    **rows(How.WIDE, "ELEMENTWISE REDUCE UNARY", "ReduceL2", f"{CAST_AROUND}; {NOT_BF16}", How.STEPS),
    **rows(How.WIDE, "REDUCE UNARY", "ReduceLogSum", f"{CAST_AROUND}; {NOT_BF16}", How.STEPS),
    **rows(How.WIDE, "ELEMENTWISE REDUCE UNARY", "LpNormalization", f"{CAST_AROUND}; p = 1 and p = 2"),
    **rows(How.WIDE, "ELEMENTWISE POOLING UNARY", "LpPool", CAST_AROUND),
    **rows(How.WIDE, "REDUCE", "GlobalLpPool", CAST_AROUND),
    **rows(How.WIDE, "ELEMENTWISE SELECT", "Shrink", CAST_AROUND),
    **rows(How.WIDE, "ELEMENTWISE UNARY", "Celu", SCHEMA),
    **rows(How.WIDE, "FILL", "Range", SCHEMA),
    **rows(How.STEPS, "SOFTMAX UNARY", "LogSoftmax", "softmax, then log: a probability below 2⁻²⁵ is zero, its logarithm −inf"),
    **rows(How.STEPS, "ELEMENTWISE REDUCE", "ReduceSumSquare", "x·x is stored: it overflows past 255.9 and vanishes below 1.8e-4"),
    **rows(How.STEPS, "ELEMENTWISE REDUCE SELECT UNARY", "ReduceLogSumExp", "shifted by the maximum; every step stored"),
    **rows(How.STEPS, "ACTIVATION ELEMENTWISE", "Mish", "softplus, tanh, product"),
    **rows(How.STEPS, "ACTIVATION ELEMENTWISE", "HardSwish", "hard sigmoid, product"),
    **rows(How.STEPS, "ACTIVATION ELEMENTWISE", "Swish", "sigmoid, product"),
    **rows(How.STEPS, "ELEMENTWISE MATRIX_MULTIPLY", "Gemm", "the product is stored before alpha, beta and C are applied"),
    **rows(How.STEPS, "ELEMENTWISE", "Sum", "added one after another, each sum stored"),
    **rows(How.STEPS, "ELEMENTWISE", "Mean", "added one after another, then times 1/n"),
    **rows(How.STEPS, "ELEMENTWISE SELECT", "Mod", "x − trunc(x / y)·y, the quotient stored: wrong past 2048 quotients"),
    **rows(How.STEPS, "ELEMENTWISE REDUCE UNARY", "RMSNormalization", "x / rms(x) in FP32, stored in FP16, then times the scale"),
    **rows(How.UNLIKE, "ATTENTION_OUTPUT", "Attention", "the rule decompose-attention writes it out before it is emulated"),
    **rows(How.UNLIKE, "ACTIVATION CONCATENATION RECURRENCE SLICE", "LSTM", STATES),
    **rows(How.UNLIKE, "RECURRENCE", "GRU", STATES),
    **rows(How.UNLIKE, "ACTIVATION CONCATENATION MATRIX_MULTIPLY RECURRENCE", "RNN", STATES),
    **rows(How.REFUSED, "", "MeanVarianceNormalization Det Col2Im Bernoulli SoftmaxCrossEntropyLoss NegativeLogLikelihoodLoss"),
    **rows(How.REFUSED, "", "RoiAlign", "its plugin is not in TensorRT-RTX; TensorRT has it"),
}
"""By operator of the default ONNX domain. Operators not listed are emulated as one layer."""


def table() -> str:
    """The table of ``notes/insides.md``, by kind of inside, then in the order above."""
    lines = ["| operators | TensorRT layers | inside | why |", "|---|---|---|---|"]
    grouped: dict[tuple[How, str, str], list[str]] = {}
    for op, inside in INSIDES.items():
        grouped.setdefault((inside.how, ", ".join(sorted(inside.layers)), inside.why), []).append(op)
    for how in How:
        for (kind, layers, why), ops in grouped.items():
            if kind is how:
                lines.append(f"| {', '.join(ops)} | {layers or '–'} | {how.value} | {why} |")
    return "\n".join(lines) + "\n"
