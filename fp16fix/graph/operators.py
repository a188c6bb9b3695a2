"""The operator table: what every stage needs to know of ONNX's operators, a row an operator, and the sets that follow from it.

Two tables stand beside it, for they are laws and not traits: of exponents (``passes.rescale.laws``) and of the insides that TensorRT's
parser gives each operator (``strict.insides``). What an operator's schema says is asked of ONNX (``graph.ops``).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Trait(Enum):
    """A fact that holds of an operator whatever its attributes."""

    REORDERS = "reorders"
    """Its output holds every value of input 0 once, in another order or shape."""
    REPEATS = "repeats"
    """Its output holds every value of input 0, as often as a shape asks for."""
    TAKES = "takes"
    """Its one output holds some of the values of input 0, or zeros."""
    MIXES = "mixes"
    """Its outputs hold values of its inputs, and there are several of one or the other."""
    CHOOSES = "chooses"
    """Its float outputs hold inputs, their negation, or literals: rounding after it changes nothing already rounded."""
    PLACES = "places"
    """Its output holds input 0 with values of another input in some places; behind a reduction, their sum."""
    CONVERTS = "converts"
    """Its output is input 0 in another type."""
    TYPED = "typed"
    """Its output's type is not that of its float input: an attribute states it, or another input."""
    BODIES = "bodies"
    """It holds graphs of its own."""
    ADDS = "adds"
    """Its result is the sum of its operands, signs aside, so that operands may cancel or be lost beside each other."""
    ALONG = "along"
    """The axes of its results, counted from the last, are those of its operands."""
    SHARES = "shares"
    """Its results lie in [0, 1], and their unit is one."""
    COMMUTES = "commutes"
    """Its operands may change places."""
    BOUNDS = "bounds"
    """Its result is an operand, or the bound that the operand passes."""
    GUARDS = "guards"
    """A tiny positive literal among its operands keeps its result off zero."""
    KEEPS_SMALL = "keeps small"
    """Its small results come from small values of its only operand."""
    PRODUCT = "product"
    """Its results are sums of products of its first two operands (Einsum: of all)."""
    SUMS = "sums"
    """It adds up values of input 0 over axes or windows, as they are."""
    AVERAGES = "averages"
    """It divides the sum by the number of terms, so that the sum is larger than what it shows."""
    SATURATES = "saturates"
    """Past ±65504 it has long settled: of an infinite operand it makes what it makes of any large one."""
    RISES = "rises"
    """It makes +inf of +inf, as it makes ever larger values of larger ones."""
    COMPARES = "compares"
    """It says which of two operands is the larger, so that how much larger does not show."""
    POSITIONS = "positions"
    """Computed from positions alone, its result is a position."""
    ANGLES = "angles"
    """It takes an angle in rad."""
    EXPONENTIATES = "exponentiates"
    """What is added to its argument becomes a factor of its result (LogSoftmax: of what the result is the logarithm of)."""
    STEPS = "steps"
    """Its result is a whole number and jumps where its argument passes one, or a half."""
    PICKS = "picks"
    """It says where the largest or smallest of many values stands."""
    RECURS = "recurs"
    """It runs over time steps and keeps a state between them."""
    DRAWS = "draws"
    """It draws random numbers each time it runs."""
    BYSTANDS = "bystands"
    """Its constant operands are not rounded to FP16, or enter no arithmetic."""
    FLATTENS = "flattens"
    """Before opset 13 it took everything from its axis on for one row (ONNX operator changelog)."""
    UNPARSED = "unparsed"
    """It quantises while running, or multiplies integers by itself; TensorRT's parser does not have it (its list of operators)."""
    NO_BF16 = "no bf16"
    """ONNX gives it a BF16 form, and TensorRT-RTX 1.7.1 parses it in FP32 and FP16 alone."""
    BF16_BETWEEN_CASTS = "bf16 between casts"
    """TensorRT-RTX 1.7.1 parses it in BF16, and builds that only where it stands in FP32 between casts, with weights that BF16 holds."""
    WRITTEN_OUT = "written out"
    """Its ONNX function body is a plausible way to compute it in FP16."""


@dataclass(frozen=True, slots=True)
class Operator:
    """One row; operators of the default ONNX domain."""

    name: str
    traits: frozenset[Trait] = frozenset()
    small: int | None = None
    """The input whose small values matter, for it is divided by, or its root or logarithm taken (Pow: by exponents below 1)."""
    pole: bool = False
    """Whether zero at that input becomes infinity."""
    power: int = 0
    """The power to which values are raised before they are added up inside; 0 where nothing is."""
    bias: int | None = None
    """The input that is added last, which a large result hides."""
    extreme: int = 0
    """1 where it picks the largest value over axes or windows, −1 the smallest, 0 where neither."""
    channels: int = 0
    """The axis of its result along which its weights tell entries apart: 1 from the first, −1 from the last; 0 where there is none."""
    shape: int | None = None
    """The input that decides a shape: a made-up value there makes a nonsense graph."""
    index: int | None = None
    """The input that holds indices into input 0."""


def rows(names: str, *traits: Trait, **facts: int) -> tuple[Operator, ...]:
    """The same row for several operators."""
    return tuple(Operator(name, frozenset(traits), **facts) for name in names.split())  # type: ignore[arg-type]  # ints and a bool


T = Trait

TABLE: tuple[Operator, ...] = (
    # What moves values.
    *rows("Transpose Squeeze Unsqueeze Flatten DepthToSpace SpaceToDepth ReverseSequence", T.REORDERS),
    *rows("Identity", T.REORDERS, T.ALONG),
    *rows("Reshape", T.REORDERS, shape=1),
    *rows("Expand Tile", T.REPEATS, shape=1),
    *rows("Slice", T.TAKES, T.ALONG, shape=2),
    *rows("Gather GatherND", T.TAKES, index=1),
    *rows("GatherElements", T.TAKES, T.ALONG, index=1),
    *rows("Compress Trilu CenterCropPad", T.TAKES),
    *rows("ConcatFromSequence Unique", T.MIXES),
    *rows("Concat Split Dropout", T.MIXES, T.ALONG),
    # What picks among values.
    *rows("Where", T.CHOOSES, T.ALONG),
    *rows("OneHot", T.CHOOSES),
    *rows("TopK", T.CHOOSES, T.PICKS, shape=1),
    *rows("Relu", T.CHOOSES, T.ALONG),
    *rows("Neg Abs", T.CHOOSES, T.ALONG, T.KEEPS_SMALL, T.POSITIONS),
    *rows("Max", T.CHOOSES, T.ALONG, T.BOUNDS, T.GUARDS, T.COMMUTES, T.POSITIONS),
    *rows("Min", T.CHOOSES, T.ALONG, T.BOUNDS, T.COMMUTES, T.POSITIONS),
    *rows("Clip", T.CHOOSES, T.ALONG, T.BOUNDS, T.GUARDS, T.POSITIONS),
    *rows("MaxPool GlobalMaxPool ReduceMax", T.CHOOSES, extreme=1),
    *rows("ReduceMin", T.CHOOSES, extreme=-1),
    *rows("Pad", T.CHOOSES, T.PLACES, T.ALONG),
    *rows("Scatter", T.CHOOSES, T.PLACES),
    *rows("ScatterND ScatterElements", T.CHOOSES, T.PLACES, index=1),
    # What says the type of its result, or changes it.
    *rows("Cast", T.TYPED, T.CONVERTS, T.ALONG, T.POSITIONS),
    *rows("CastLike", T.TYPED, T.CONVERTS),
    *rows("DequantizeLinear", T.CONVERTS),
    *rows("ConstantOfShape", T.TYPED, shape=0),
    *rows("EyeLike", T.TYPED),
    *rows("RandomNormal RandomNormalLike RandomUniform RandomUniformLike Bernoulli Multinomial", T.TYPED, T.DRAWS),
    # Arithmetic.
    *rows("Add Sum", T.ADDS, T.ALONG, T.GUARDS, T.COMMUTES, T.POSITIONS),
    *rows("Sub", T.ADDS, T.ALONG, T.POSITIONS),
    *rows("Mean Mul", T.COMMUTES, T.ALONG, T.POSITIONS),
    *rows("Div", T.POSITIONS, T.ALONG, small=1, pole=True),
    *rows("Pow", T.POSITIONS, T.ALONG, small=0),
    *rows("Reciprocal", T.ALONG, small=0, pole=True),
    *rows("Exp", T.ALONG, T.EXPONENTIATES),
    *rows("LeakyRelu Swish", T.ALONG),
    *rows("Sqrt", T.KEEPS_SMALL, T.ALONG, T.RISES, T.POSITIONS, small=0),
    *rows("Log", T.RISES, T.ALONG, small=0, pole=True),
    *rows("Mod", T.POSITIONS, T.ALONG),
    *rows("Floor Ceil Round", T.POSITIONS, T.ALONG, T.STEPS),
    *rows("Sin Cos", T.ANGLES, T.ALONG),
    *rows("Tanh Erf", T.SATURATES, T.ALONG),
    *rows("Sigmoid HardSigmoid", T.SATURATES, T.ALONG, T.SHARES),
    *rows("Softplus", T.RISES, T.WRITTEN_OUT, T.ALONG),
    *rows("Greater Less GreaterOrEqual LessOrEqual", T.COMPARES),
    *rows("ArgMax ArgMin", T.PICKS),
    *rows("Softmax", T.WRITTEN_OUT, T.SHARES, T.EXPONENTIATES, T.FLATTENS),
    *rows("Gelu Softsign Celu Selu Elu ThresholdedRelu", T.WRITTEN_OUT, T.ALONG),
    *rows("Mish HardSwish", T.WRITTEN_OUT, T.ALONG, T.NO_BF16),
    *rows("LogSoftmax", T.WRITTEN_OUT, T.EXPONENTIATES, T.FLATTENS),
    *rows("Hardmax", T.FLATTENS),
    *rows("MeanVarianceNormalization", T.WRITTEN_OUT),
    # Sums over axes and windows.
    *rows("ReduceSum", T.SUMS, power=1),
    *rows("ReduceMean GlobalAveragePool AveragePool", T.SUMS, T.AVERAGES, power=1),
    *rows("CumSum", T.POSITIONS, power=1),
    *rows("ReduceL1", T.WRITTEN_OUT, power=1),
    *rows("ReduceL2 ReduceSumSquare", T.WRITTEN_OUT, power=2),
    *rows("LpNormalization", T.NO_BF16, power=2),
    *rows("LpPool GlobalLpPool", T.NO_BF16),
    *rows("ReduceLogSum ReduceLogSumExp", T.WRITTEN_OUT),
    # Products.
    *rows("MatMul", T.PRODUCT, T.POSITIONS, channels=-1),
    *rows("Einsum", T.PRODUCT, T.POSITIONS),
    *rows("Gemm", T.PRODUCT, T.POSITIONS, bias=2, channels=-1),
    *rows("Conv", T.PRODUCT, bias=2, channels=1),
    *rows("ConvTranspose", T.PRODUCT, T.BF16_BETWEEN_CASTS, bias=2, channels=1),
    # Norms.
    *rows("LayerNormalization", bias=2, channels=-1),
    *rows("InstanceNormalization", bias=2, channels=1),
    *rows("GroupNormalization", bias=2),
    *rows("BatchNormalization", bias=2, small=4, channels=1),
    # Recurrences.
    *rows("LSTM RNN", T.RECURS),
    *rows("GRU", T.RECURS, T.NO_BF16),
    # What computes nothing in FP16 itself.
    *rows("If Loop Scan", T.BODIES, T.BYSTANDS),
    *rows("Resize", T.BYSTANDS, shape=3),
    *rows("Range", T.BYSTANDS, shape=1),
    *rows("Upsample NonMaxSuppression", T.BYSTANDS),
    *rows("DynamicQuantizeLinear MatMulInteger ConvInteger QLinearMatMul QLinearConv", T.UNPARSED),
)
"""Operators not listed have none of the traits."""

OPERATORS = {each.name: each for each in TABLE}
UNKNOWN = Operator("")
"""The row of whatever has none."""


def operator(op: str) -> Operator:
    """The row of an operator."""
    return OPERATORS.get(op, UNKNOWN)


def having(*traits: Trait) -> frozenset[str]:
    """Operators with any of the traits."""
    return frozenset(each.name for each in TABLE if each.traits.intersection(traits))


REORDERING = having(T.REORDERS)
CARRIERS = having(T.REORDERS, T.REPEATS, T.TAKES)
"""Movement of one tensor into one: a factor, a floor or a logarithm may be applied before it or behind."""
MOVEMENT = having(T.REORDERS, T.REPEATS, T.TAKES, T.MIXES)
"""Operators whose float outputs hold only values of their inputs, whatever those are."""
SELECTION = having(T.CHOOSES)
PLACING = having(T.PLACES)
CONVERTING = having(T.CONVERTS)
TYPED_BY_ATTRIBUTE = having(T.TYPED)
CONTROL = having(T.BODIES)
ADDITIONS = having(T.ADDS)
COMMUTATIVE = having(T.COMMUTES)
GUARDS = having(T.GUARDS)
HIDES_SMALL = having(T.ADDS, T.BOUNDS)
"""Operators beside whose other operands a tiny one is lost in any format."""
CARRIES_SMALL = MOVEMENT | having(T.GUARDS, T.KEEPS_SMALL)
"""Operators whose small results come from one small operand (sums over axes come from their largest terms)."""
SUMS, AVERAGES, PRODUCTS = having(T.SUMS), having(T.AVERAGES), having(T.PRODUCT)
ADDING = having(T.ADDS, T.SUMS, T.PRODUCT) | {"Mean", "CumSum"}
"""Operators that lose by the difference of large terms."""
SATURATING, RISING, COMPARISONS = having(T.SATURATES), having(T.RISES), having(T.COMPARES)
POSITIONAL = MOVEMENT | having(T.POSITIONS)
"""Operators through which a position stays a position."""
TRIGONOMETRIC = having(T.ANGLES)
EXPONENTIATING, STEPPING = having(T.EXPONENTIATES), having(T.STEPS)
DECIDING = having(T.COMPARES, T.PICKS)
"""Operators that only ask which of their operands is the larger."""
KEEPING_AXES, PROBABILITIES = having(T.ALONG), having(T.SHARES)
RECURRENCES = having(T.RECURS)
DRAWING = having(T.DRAWS)
"""Dropout draws too, in training (``graph.random``)."""
BYSTANDERS = having(T.BYSTANDS)
WRITTEN_OUT = having(T.WRITTEN_OUT)
NO_BF16, BF16_BETWEEN_CASTS = having(T.NO_BF16), having(T.BF16_BETWEEN_CASTS)
UNPARSED, FLATTENING = having(T.UNPARSED), having(T.FLATTENS)
