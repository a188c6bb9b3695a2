"""0.5·x·(1 + tanh(√(2/π)·(x + 0.044715·x³))) in any spelling → ``Gelu(approximate=tanh)`` from opset 20 on; before, a refusal: harmless."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import editor_of
from fp16fix.graph.model import Model, scalar
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, eager, is_op, node_named, producer, unmatched
from fp16fix.passes.rewrite.rules._saturating import harmless

Polynomial = dict[tuple[int, int], float]
"""(power of x, power of tanh) → coefficient."""
ARGUMENT: Polynomial = {(1, 0): math.sqrt(2.0 / math.pi), (3, 0): 0.044715 * math.sqrt(2.0 / math.pi)}
"""The argument of tanh (Hendrycks and Gimpel, arXiv 1606.08415)."""
GELU: Polynomial = {(1, 0): 0.5, (1, 1): 0.5}
DEPTH = 8
"""Nodes between x and the product in the longest spelling seen, and some."""
SINCE = 20
"""Opset that brought Gelu."""


@dataclass(slots=True)
class Algebra:
    """Reads the subgraph between ``x`` and a tensor as a polynomial in x and the tanh."""

    x: gs.Tensor
    nodes: set[str] = field(default_factory=set)

    def of(self, tensor: gs.Tensor, depth: int = DEPTH) -> Polynomial | None:
        """The polynomial, or None where something else comes in."""
        if tensor is self.x:
            return {(1, 0): 1.0}
        value = scalar(tensor)
        if value is not None:
            return {(0, 0): value}
        node = producer(tensor, "Add", "Mul", "Pow", "Div", "Tanh")
        if node is None or depth == 0:
            return None
        self.nodes.add(node.name)
        parts = [self.of(each, depth - 1) for each in node.inputs]
        known = [each for each in parts if each is not None]
        return combined(node.op, known) if len(known) == len(parts) else None


def combined(op: str, parts: list[Polynomial]) -> Polynomial | None:
    """One node's polynomial from its inputs'."""
    if op == "Tanh":
        return {(0, 1): 1.0} if close(parts[0], ARGUMENT) else None
    left, right = parts
    if op == "Add":
        return {key: left.get(key, 0.0) + right.get(key, 0.0) for key in sorted(left.keys() | right.keys())}
    if op == "Mul":
        return product(left, right)
    number = right.get((0, 0), 0.0) if set(right) == {(0, 0)} else 0.0
    if op == "Div" and number:
        return {key: value / number for key, value in left.items()}
    if op == "Pow" and number in (2.0, 3.0):
        square = product(left, left)
        return square if number == 2.0 else product(square, left)
    return None


def product(left: Polynomial, right: Polynomial) -> Polynomial:
    """Left · right."""
    found: Polynomial = {}
    for (x, t), value in left.items():
        for (more_x, more_t), factor in right.items():
            key = (x + more_x, t + more_t)
            found[key] = found.get(key, 0.0) + value * factor
    return found


def close(found: Polynomial, wanted: Polynomial) -> bool:
    """Equal coefficients to 1e-4: exporters print 0.7978845608 or 0.79788 and 0.044715 or 0.0447."""
    return all(math.isclose(found.get(key, 0.0), wanted.get(key, 0.0), rel_tol=1e-3, abs_tol=1e-6) for key in found.keys() | wanted.keys())


class TanhGelu:
    """x³ overflows past 40, but tanh(inf) = 1: harmless, so before opset 20 nothing is done, and the refusal says why.

    From opset 20 on the written-out form becomes one activation layer, which is what an engine runs better, and in which 1 + tanh does
    not cancel far to the left. The same proof of harmlessness is given for every other overflow that only saturating operators read.
    """

    name: ClassVar[str] = "tanh-gelu"
    order: ClassVar[int] = 140
    of_rounding: ClassVar[bool] = True
    """One layer is rounded once."""
    promise: ClassVar[Promise] = Promise.REORDERED
    fires: ClassVar[tuple[str, ...]] = (
        """<ir_version: 9, opset_import: ["" : 20]> g (float[4,16] x) => (float[4,16] y)
        <float k = {4}, float three = {3}, float c = {0.044715}, float r = {0.7978845608}, float one = {1}, float h = {0.5}>
        { s = Sub (x, k) p = Pow (s, three) q = Mul (p, c) a = Add (s, q) b = Mul (a, r) t = Tanh (b) u = Add (t, one) v = Mul (s, u)
            y = Mul (v, h) }""",
        """<ir_version: 9, opset_import: ["" : 20]> g (float[4,16] x) => (float[4,16] y)
        <float k = {4}, float c = {0.035677408}, float r = {0.7978845608}, float one = {1}, float h = {0.5}>
        { s = Sub (x, k) i = Mul (s, s) q = Mul (c, i) a = Add (q, r) b = Mul (s, a) t = Tanh (b) u = Add (one, t) v = Mul (h, s)
            y = Mul (v, u) }""",
    )
    declines: ClassVar[tuple[str, ...]] = (
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {60}, float three = {3}>
        { s = Mul (x, k) p = Pow (s, three) y = Tanh (p) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y) <float k = {20}, float one = {1}>
        { s = Mul (x, k) n = Neg (s) e = Exp (n) d = Add (e, one) y = Div (s, d) }""",
        """<ir_version: 8, opset_import: ["" : 17]> g (float[4,16] x) => (float[4,16] y)
        <float k = {40}, float three = {3}, float c = {0.044715}, float r = {0.7978845608}, float one = {1}, float h = {0.5}>
        { s = Mul (x, k) p = Pow (s, three) q = Mul (p, c) a = Add (s, q) b = Mul (a, r) t = Tanh (b) u = Add (t, one) v = Mul (s, u)
            y = Mul (v, h) }""",
        """<ir_version: 9, opset_import: ["" : 20]> g (float[4,16] x) => (float[4,16] y)
        <float three = {3}, float c = {0.05}, float r = {0.7978845608}, float one = {1}, float h = {0.5}>
        { p = Pow (x, three) q = Mul (p, c) a = Add (x, q) b = Mul (a, r) t = Tanh (b) u = Add (t, one) v = Mul (x, u) y = Mul (v, h) }""",
    )

    @eager
    def propose(self, evidence: Findings) -> Iterator[Edit | Refusal]:
        """Refusals for overflows without effect; from opset 20 on a repair a GELU (raising the opset for it would buy nothing)."""
        yield from harmless(evidence, self.name)
        if evidence.model.opset < SINCE:
            return
        view = Wiring(evidence.model)
        for tanh in evidence.model.nodes():
            if is_op(tanh, "Tanh"):
                for last, _, nodes in gelus(view, tanh):
                    why = (
                        "no cure needed (x³ may overflow, but tanh(inf) = 1); an engine runs Gelu as one activation layer instead of eight"
                    )
                    yield Edit(self.name, last.name, self.promise, covers=nodes, because=why)

    def apply(self, model: Model, repair: Edit) -> None:
        """Put ``Gelu`` where the last product was."""
        node_named(model, repair.node, "Mul")
        view = Wiring(model)
        found = [(last, x) for tanh in model.nodes() if is_op(tanh, "Tanh") for last, x, _ in gelus(view, tanh) if last.name == repair.node]
        if not found:
            raise unmatched(model, self.name, repair.node)
        last, x = found[0]
        Writer(editor_of(model), last, x).replace("Gelu", [x], "gelu", approximate="tanh")


def gelus(view: Wiring, tanh: gs.Node) -> Iterator[tuple[gs.Node, gs.Tensor, tuple[str, ...]]]:
    """(last node, x, all nodes) of the GELU around ``tanh``, at most one."""
    node = tanh
    for _ in range(4):
        following = view.only_user(node.outputs[0])
        if following is None or not is_op(following, "Add", "Mul"):
            return
        node = following
        for x in candidates(node, tanh):
            algebra = Algebra(x)
            found = algebra.of(node.outputs[0])
            if found is not None and close(found, GELU):
                yield node, x, tuple(sorted(algebra.nodes))
                return


def candidates(node: gs.Node, tanh: gs.Node) -> list[gs.Tensor]:
    """What x can be: an input of the product, of a factor of it, or of tanh's own argument."""
    found = list(node.inputs)
    for tensor in node.inputs:
        factor = producer(tensor, "Mul")
        found += list(factor.inputs) if factor is not None else []
    argument = producer(tanh.inputs[0])
    found += list(argument.inputs) if argument is not None else []
    return [tensor for tensor in found if not isinstance(tensor, gs.Constant)]
