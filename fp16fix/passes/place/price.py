"""What a placement costs in a compiled plan: the bytes that its kernels move more than those of all-FP16.

TensorRT-RTX fuses what is pointwise, so FP32 inside of a kernel is free, whatever Casts stand there. What leaves a kernel in FP32 and is
read so by another is stored as Float; a product in FP32 reads its operands and weights as Float, whatever made them; and an attention that
holds one is no longer one kernel, so that its scores are stored. ``tools/bench/price.py`` holds this against plans.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping

import numpy as np

from fp16fix.graph.model import Constant, Model, Node, Tensor
from fp16fix.graph.operators import BYSTANDERS, FLATTENING, PRODUCTS, operator
from fp16fix.graph.ops import float_inputs, is_float_node
from fp16fix.passes.place.attention import attention
from fp16fix.ranges.range import Range

WIDE_BYTES = 2
"""What an element takes more in FP32."""


class Price:
    """Of placements of one model."""

    def __init__(self, model: Model, ranges: Mapping[str, Range]) -> None:
        """Guess which nodes become one kernel.

        Args:
            model: FP32, as it will be typed.
            ranges: of ``model``, for sizes.
        """
        self.model, self.ranges = model, ranges
        self.kernels = kernels(model)
        self.attention = dict(attention(model))

    def elements(self, tensor: Tensor) -> int:
        """How many values it has; 1 where that is not known."""
        if isinstance(tensor, Constant):
            return int(np.prod(tensor.shape))
        seen = self.ranges.get(tensor.name)
        return math.prod(seen.shape) if seen is not None else 1

    def crosses(self, maker: Node | None, reader: Node) -> bool:
        """Whether what one node makes and another reads is stored between them."""
        return maker is None or self.kernels.get(maker.name) != self.kernels.get(reader.name)

    def product(self, node: Node) -> int:
        """What one product in FP32 moves more: weights, operands that are stored as Float for it, scores that are stored at all."""
        weights = sum(self.elements(tensor) for tensor in float_inputs(node) if isinstance(tensor, Constant))
        operands = sum(2 * self.elements(tensor) for tensor in float_inputs(node) if not isinstance(tensor, Constant))
        scores = 2 * self.elements(self.attention[node.name]) if node.name in self.attention else 0
        return WIDE_BYTES * (weights + operands + scores)

    def of(self, wide: Collection[str]) -> int:
        """Bytes that a plan moves more with these nodes in FP32."""
        placed = set(wide)
        total, scores = 0, set[str]()
        read: dict[int, tuple[Tensor, set[int]]] = {}
        for node in self.model.nodes():
            if node.name not in placed or node.name not in self.kernels:
                continue
            is_product = node.op in PRODUCTS
            for tensor in float_inputs(node):
                if isinstance(tensor, Constant):
                    total += WIDE_BYTES * self.elements(tensor) if is_product else 0
                    continue
                maker = tensor.inputs[0] if tensor.inputs else None
                stays = maker is not None and maker.name in placed
                if self.crosses(maker, node) and (is_product or stays):
                    read.setdefault(id(tensor), (tensor, set()))[1].add(self.kernels[node.name])
            if node.name in self.attention and self.attention[node.name].name not in scores:
                scores.add(self.attention[node.name].name)
                total += 2 * WIDE_BYTES * self.elements(self.attention[node.name])
        return total + sum(WIDE_BYTES * self.elements(tensor) * (1 + len(by)) for tensor, by in read.values())


def kernels(model: Model) -> dict[str, int]:
    """Float node → a number that it shares with all that is in the same kernel, as far as that can be guessed.

    A product is one with what is pointwise behind it; a reduction, a norm or a softmax begins another; of several operands, the one that is
    made last goes along.
    """
    found: dict[str, int] = {}
    begun: set[int] = set()
    for number, node in enumerate(node for node in model.nodes() if is_float_node(node)):
        fed = [found[tensor.inputs[0].name] for tensor in float_inputs(node) if tensor.inputs and tensor.inputs[0].name in found]
        last = max(fed, default=number)
        if node.op in PRODUCTS:
            begun.add(number)
        found[node.name] = number if node.op in PRODUCTS or (reduces(node.op) and last in begun) else last
    return found


def reduces(op: str) -> bool:
    """Whether an operator looks at many values for one, without being a product."""
    row = operator(op)
    return bool(row.power or row.extreme or row.bias is not None) or op in FLATTENING | BYSTANDERS
