"""Overflow hazards whose every reader has settled long before FP16's limit (tanh, sigmoid, a bounded Clip, 1/(1 + exp)) → refusals."""

from __future__ import annotations

from collections.abc import Iterator

import onnx_graphsurgeon as gs

from fp16fix.graph.model import scalar
from fp16fix.graph.operators import COMPARISONS, MOVEMENT, RISING, SATURATING
from fp16fix.half import LARGEST
from fp16fix.hazards.hazard import Kind
from fp16fix.passes.recipe import Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, absmax, is_op, producer

DEPTH = 8
LOST = 2.0**-11
"""A quotient this small beside the largest one is within FP16's rounding of it."""


def harmless(evidence: Findings, rule: str) -> Iterator[Refusal]:
    """A refusal for every overflow hazard that all readers swallow: f(±inf) = f(±65504) for each of them, so nothing is changed."""
    view = Wiring(evidence.model)
    nodes = evidence.model.node_map()
    done: set[str] = set()
    for hazard in evidence.hazards:
        node = nodes.get(hazard.node)
        if node is None or hazard.kind is not Kind.OVERFLOW or hazard.internal or hazard.node in done or not node.outputs:
            continue
        swallowed = Swallowed(evidence, view, node)
        ends = swallowed.ends(node.outputs[0], DEPTH)
        if ends and swallowed.signed(node):
            done.add(hazard.node)
            readers = " and ".join(sorted(ends))
            why = f"it overflows to inf with the right sign and is read by {readers} only, where inf gives FP32's answer"
            yield Refusal(hazard.node, rule, why, harmless=True)


class Swallowed:
    """Follows an infinite value forward to the operators that end it."""

    def __init__(self, evidence: Findings, view: Wiring, source: gs.Node) -> None:
        self.evidence = evidence
        self.view = view
        self.powers = [base(node) for node in (source, *(producer(tensor) for tensor in source.inputs)) if node is not None]

    def signed(self, source: gs.Node) -> bool:
        """Whether the source makes inf of the right sign, not NaN: its inputs fit, or one infinity only passes through."""
        infinite = [tensor for tensor in source.inputs if tensor.name and not self.fit([tensor])]
        return not infinite or (len(infinite) == 1 and self.carries(infinite[0], source))

    def ends(self, tensor: gs.Tensor, depth: int) -> set[str] | None:
        """Operators that swallow ``tensor`` on every path; None (or empty) if it escapes."""
        if depth == 0 or self.view.is_output(tensor) or not tensor.outputs:
            return None
        found: set[str] = set()
        for reader in tensor.outputs:
            here = self.step(tensor, reader, depth)
            if not here:
                return None
            found |= here
        return found

    def step(self, tensor: gs.Tensor, reader: gs.Node, depth: int) -> set[str] | None:
        """What one reader makes of it."""
        others = [each for each in reader.inputs if each is not tensor and each.name]
        if is_op(reader, *SATURATING) or (is_op(reader, "Clip") and bounded(reader)) or (is_op(reader, *COMPARISONS) and self.fit(others)):
            return {reader.op}
        if self.vanishes(tensor, reader):
            return {f"{reader.op} as the divisor"}
        return self.ends(reader.outputs[0], depth - 1) if self.carries(tensor, reader) else None

    def carries(self, tensor: gs.Tensor, reader: gs.Node) -> bool:
        """Whether an infinite ``tensor`` makes the reader's output infinite, with the sign FP32 has."""
        others = [each for each in reader.inputs if each is not tensor and each.name]
        return (
            is_op(reader, *MOVEMENT, "Neg")
            or (is_op(reader, *RISING) and self.positive(tensor))
            or (is_op(reader, "Add", "Sub") and len(others) == 1 and self.fit(others))
            or (is_op(reader, "Mul") and len(others) == 1 and self.nonzero(others[0]))
        )

    def positive(self, tensor: gs.Tensor) -> bool:
        """Whether the infinity can only be +inf."""
        seen = self.evidence.ranges.get(tensor.name)
        return seen is not None and seen.low >= 0.0

    def fit(self, tensors: list[gs.Tensor]) -> bool:
        """Whether all are finite in FP16, by calibration."""
        sizes = [absmax(self.evidence, tensor) for tensor in tensors]
        return all(size is not None and size < LARGEST for size in sizes)

    def nonzero(self, factor: gs.Tensor) -> bool:
        """Whether inf times ``factor`` is inf again."""
        return bool(scalar(factor)) or any(factor is power for power in self.powers)

    def vanishes(self, tensor: gs.Tensor, reader: gs.Node) -> bool:
        """Whether the value is divided by, and what 1/inf = 0 loses is within rounding of the quotient."""
        if is_op(reader, "Div") and reader.inputs[1] is tensor and reader.inputs[0] is not tensor:
            size = absmax(self.evidence, reader.inputs[0])
        elif is_op(reader, "Reciprocal"):
            size = 1.0
        else:
            return False
        whole = absmax(self.evidence, reader.outputs[0])
        return size is not None and whole is not None and size < LARGEST and size / LARGEST <= LOST * whole


def base(node: gs.Node) -> gs.Tensor | None:
    """The x of ``node``, if that is x·x or Pow(x, n): then x is not zero where the node is infinite."""
    return node.inputs[0] if is_op(node, "Pow") or (is_op(node, "Mul") and node.inputs[0] is node.inputs[1]) else None


def bounded(clip: gs.Node) -> bool:
    """Whether a Clip has two finite constant bounds inside FP16."""
    if "min" in clip.attrs or "max" in clip.attrs:
        bounds = [clip.attrs.get("min"), clip.attrs.get("max")]
    else:
        bounds = [scalar(tensor) if tensor.name else None for tensor in clip.inputs[1:]]
    return len(bounds) == 2 and all(bound is not None and abs(bound) <= LARGEST for bound in bounds)
