"""The operator table of exponents, as data: linear equations between the exponents of an operator's operands, results and attributes.

``rescale.equations`` reads it for a node. A tensor with exponent e stores true × 2^−e. An equation such as ``y0 = x0 + x1`` says that a
node whose operands are stored with exponents e(x0), e(x1) computes its result stored with their sum, exactly but for subnormals:
powers of two change no significand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fp16fix.graph.model import FLOATS


@dataclass(frozen=True, slots=True)
class Law:
    """One row: the equations of some operators, and an example from which the property test makes nodes."""

    ops: str
    """Operator names of the default domain."""
    equations: str
    """Separated by ``;``. ``x*``/``y*``: every float input/output, one equation each. ``^x0``: times the constant in x1 (Pow).
    Equations about absent or integer ports fall away; a float output in none of the rest has exponent 0."""
    example: tuple[Any, ...] = ()
    """Operands: "2x3" floats of that shape, "+2x3" positive ones, "" absent; anything else is taken as it is."""
    attributes: Mapping[str, Any] = field(default_factory=dict)
    """Attributes of the example."""
    outputs: int = 1
    """Results of the example."""
    when: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)
    """Attributes that must have one of these values (absent: the first); otherwise the node is a wall."""
    opset: int = 21
    """Opset of the example."""


SHARED, X = "x* = y0", "x0 = y0"
PRODUCT = "y0 = x0 + x1"
AFFINE = f"{PRODUCT}; x2 = y0"
IMAGE = ("1x2x6x6",)

TABLE: tuple[Law, ...] = (
    Law("Add Sub Max Min Sum Mean", SHARED, ("2x3", "3")),
    Law("Mod", SHARED, ("2x3", "+3"), {"fmod": 1}),
    Law("Concat", SHARED, ("2x3", "4x3"), {"axis": 0}),
    Law("Where", SHARED, ([True, False, True], "2x3", "3")),
    Law("Clip", SHARED, ("2x3", -0.5, 0.5)),
    Law("Clip", f"{X}; @min = x0; @max = x0", ("2x3",), {"min": -0.5, "max": 0.5}, opset=6),
    Law("Equal Greater Less GreaterOrEqual LessOrEqual", "x0 = x1", ("2x3", "3")),
    Law("Relu LeakyRelu Abs Neg Identity Flatten", X, ("2x3",)),
    Law("PRelu Dropout", f"{X}; x1 = 0", ("2x3", 0.25)),
    Law("ThresholdedRelu", f"{X}; @alpha = x0", ("2x3",), {"alpha": 0.5}),
    Law("Shrink", f"{X}; @lambd = x0; @bias = x0", ("2x3",), {"lambd": 0.5, "bias": 0.25}),
    Law("ReduceSum ReduceMean ReduceMax ReduceMin ReduceL1 ReduceL2", X, ("2x3", [1])),
    Law("ReduceSumSquare", "y0 = 2x0", ("2x3", [1])),
    Law("GlobalAveragePool GlobalMaxPool", X, IMAGE),
    Law("MaxPool AveragePool LpPool", X, IMAGE, {"kernel_shape": [2, 2]}),
    Law("MaxUnpool", X, ("1x1x2x2", [[[[5, 7], [13, 15]]]]), {"kernel_shape": [2, 2], "strides": [2, 2]}),
    Law("Resize", f"{X}; x1 = 0; x2 = 0; @extrapolation_value = x0", ("1x1x3x3", "", [1.0, 1.0, 2.0, 2.0]), {"mode": "linear"}),
    Law("Upsample", f"{X}; x1 = 0", ("1x1x3x3", [1.0, 1.0, 2.0, 2.0]), opset=9),
    Law("GridSample", f"{X}; x1 = 0", ("1x1x3x3", "1x2x2x2"), opset=20),
    Law("RoiAlign", f"{X}; x1 = 0", ("1x1x6x6", [[0.0, 0.0, 3.0, 4.0]], [0]), {"output_height": 2, "output_width": 2}),
    Law("Reshape Expand", X, ("2x3", [2, 3])),
    Law("Tile", X, ("2x3", [1, 2])),
    Law("Transpose", X, ("2x3",)),
    Law("Squeeze Unsqueeze", X, ("1x3", [0])),
    Law("Split", "x0 = y*", ("4x3", [1, 3]), outputs=2),
    Law("Slice", X, ("4x3", [1], [3], [0])),
    Law("Gather", X, ("4x3", [2, 0])),
    Law("GatherElements", X, ("2x3", [[2, 0, 1]])),
    Law("GatherND", X, ("4x3", [[1], [2]])),
    Law("Compress", X, ("4x3", [True, False, True]), {"axis": 0}),
    Law("ReverseSequence", X, ("3x2", [2, 3])),
    Law("Unique", X, ("7",)),
    Law("TopK", X, ("2x3", [2]), outputs=2),
    Law("Trilu", X, ("3x3",)),
    Law("CumSum", X, ("2x3", 1)),
    Law("DepthToSpace", X, ("1x4x2x2",), {"blocksize": 2}),
    Law("SpaceToDepth", X, ("1x1x4x4",), {"blocksize": 2}),
    Law("CenterCropPad", X, ("4x4", [2, 2])),
    Law("Col2Im", X, ("1x4x9", [4, 4], [2, 2])),
    Law("Pad", f"{X}; x2 = y0", ("2x3", [1, 0, 0, 1], 0.75)),
    Law("Pad", f"{X}; @value = y0", ("2x3",), {"pads": [1, 0, 0, 1], "value": 0.75}, opset=2),
    Law("ScatterElements", SHARED, ("2x3", [[0, 1, 1]], "1x3"), {"reduction": "add"}, when={"reduction": ("none", "add", "max", "min")}),
    Law("ScatterND", SHARED, ("4x3", [[2]], "1x3"), when={"reduction": ("none", "add", "max", "min")}),
    Law("OneHot", "x0 = 0; x1 = 0; x2 = y0", ([0, 2], 3, "2")),
    Law("ConstantOfShape", "@value = y0", ([2, 3],)),
    Law("Cast", X, ("2x3",), {"to": 11}, when={"to": FLOATS}),
    Law("CastLike", X, ("2x3", "1")),
    Law("Mul MatMul", PRODUCT, ("3x3", "3x3")),
    Law("Einsum", "y0 = +x*", ("2x3", "3x4", "4"), {"equation": "ij,jk,k->ik"}),
    Law("Gemm", AFFINE, ("2x3", "3x4", "4"), {"alpha": 0.5, "beta": 2.0}),
    Law("Conv", AFFINE, ("1x2x5x5", "3x2x3x3", "3"), {"pads": [1, 1, 1, 1]}),
    Law("ConvTranspose", AFFINE, ("1x2x3x3", "2x3x3x3", "3")),
    Law("DeformConv", f"{PRODUCT}; x2 = 0; x3 = y0; x4 = 0", ("1x1x3x3", "1x1x2x2", "1x8x2x2", "1")),
    Law("Div", "y0 = x0 - x1", ("2x3", "+3")),
    Law("Reciprocal", "y0 = -x0", ("+2x3",)),
    Law("Sqrt", "2y0 = x0", ("+2x3",)),
    Law("Pow", "y0 = ^x0; x1 = 0", ("+2x3", 3.0)),
    Law("Pow", "y0 = ^x0; x1 = 0", ("+2x3", -0.5)),
    Law("LayerNormalization", "y0 = x1; x2 = y0; y1 = x0; y2 = -x0; @epsilon = 2x0", ("2x8", "8", "8"), {"epsilon": 0.125}, 3),
    Law("InstanceNormalization", "y0 = x1; x2 = y0; @epsilon = 2x0", ("1x2x4", "2", "2"), {"epsilon": 0.125}),
    Law("GroupNormalization", "y0 = x1; x2 = y0; @epsilon = 2x0", ("1x4x3", "4", "4"), {"epsilon": 0.125, "num_groups": 2}),
    Law("RMSNormalization", "y0 = x1; @epsilon = 2x0", ("2x8", "8"), {"epsilon": 0.125}, opset=23),
    Law(
        "BatchNormalization",
        "y0 = x1; x2 = y0; x3 = x0; x4 = 2x0; @epsilon = 2x0",
        ("1x2x4", "2", "2", "2", "+2"),
        {"epsilon": 0.125},
        when={"training_mode": (0,)},
    ),
    Law("QuantizeLinear", "x0 = x1", ("2x3", 0.25, np.int8(0))),
    Law("DequantizeLinear", "y0 = x1", (np.asarray([[-128, 3, 127]], np.int8), 0.25, np.int8(0))),
    Law("LpNormalization", "y0 = 0", ("2x3",)),
    Law("LRN", f"{X}; @alpha = -2x0", ("1x4x2x2",), {"size": 3, "alpha": 0.5}),
    Law("Sign IsNaN IsInf Shape Size NonZero ArgMax ArgMin Hardmax", "y0 = 0", ("2x3",)),
    Law(
        "Exp Log Sigmoid Tanh Erf Gelu Softplus Softsign Mish HardSigmoid HardSwish Elu Selu Celu Sin Cos Tan Floor Ceil Round "
        "Softmax LogSoftmax ReduceLogSum ReduceLogSumExp ReduceProd",
        "x* = 0; y* = 0",
        ("+2x3",),
    ),
)
"""Operators not listed are walls: every float operand and result has exponent 0. Of several rows for one operator, all equations hold."""
