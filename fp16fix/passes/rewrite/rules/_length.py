"""What rules of L2-normalisation share: how exporters write a guarded length, and the same over x / max|x|."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from fp16fix.graph.model import scalar
from fp16fix.half import LARGEST
from fp16fix.passes.recipe import Edit, Refusal
from fp16fix.passes.rewrite.found import Found, Misses
from fp16fix.passes.rewrite.pattern import Any, As, Number, Op, Pattern, Reduce, Square, Tensor
from fp16fix.passes.rewrite.rule import Findings, Rule
from fp16fix.passes.rewrite.rules._match import Wiring, Writer, is_op, producer
from fp16fix.passes.rewrite.rules._norm import Divided, Guard, divide_by_largest, guard, one_exponent, root, writable


class Floor:
    """``Max(p, number)`` or ``Clip`` from below alone, as an attribute or an input."""

    def __init__(self, operand: Pattern, name: str) -> None:
        self.operand = operand
        self.name = name
        self.max = Op("Max", operand, Number(name))

    def match(self, tensor: gs.Tensor, found: Found, misses: Misses) -> Iterator[Found]:
        node = producer(tensor, "Clip")
        if node is None:
            yield from self.max.match(tensor, found, misses)
            return
        low, high = bounds(node)
        bound = None if low is None or high < LARGEST else found.through(node).bind(self.name, low)
        if bound is None:
            misses.note(found, f"{node.name!r} clips from above, or by a value computed at run time")
            return
        yield from self.operand.match(node.inputs[0], bound, misses)


def bounds(node: gs.Node) -> tuple[float | None, float]:
    """Constant lower and upper bound of a Clip; None where it has no constant lower one, −inf for an upper one that is computed."""
    if "min" in node.attrs or "max" in node.attrs:
        return node.attrs.get("min"), float(node.attrs.get("max", float("inf")))
    given = [tensor if tensor.name else None for tensor in node.inputs[1:]] + [None, None]
    low = None if given[0] is None else scalar(given[0])
    high = float("inf") if given[1] is None else scalar(given[1])
    return low, float("-inf") if high is None else high


def answers(
    rule: Rule, evidence: Findings, match: Callable[[Wiring, gs.Node], Found | None], reason: Callable[[Found], str], how: str
) -> Iterator[Edit | Refusal]:
    """For every match that is ill: its repair, or a refusal where there is a reason.

    Args:
        rule: whose they are.
        evidence: of the model.
        match: what ends at a node.
        reason: why a match is left as it is; empty if it is not.
        how: what the repair does, after the hazard's own words.
    """
    wiring = Wiring(evidence.model)
    for node in evidence.model.nodes():
        found = match(wiring, node)
        ill = evidence.hazards_at(found.names) if found is not None else []
        if found is None or not ill:
            continue
        why = reason(found)
        if why:
            yield Refusal(node.name, rule.name, why)
        else:
            yield Edit(rule.name, node.name, rule.promise, covers=found.names, because=f"{ill[0].why}; {how}")


def squares(x: str, *, kept: str = "") -> Pattern:
    """Σ x², the result named ``squares_<x>``."""
    inner = Tensor(x)
    total = Any(Reduce("ReduceSum", Square(inner), kept=kept), Reduce("ReduceSumSquare", inner, kept=kept))
    return As(f"squares_{x}", total)


def length(x: str, *, kept: str = "") -> Pattern:
    """|x|, perhaps with an eps under the root, which is named ``inside_<x>``."""
    return Any(As(f"squares_{x}", Reduce("ReduceL2", Tensor(x), kept=kept)), root(under_root(x, kept=kept)))


def under_root(x: str, *, kept: str = "") -> Pattern:
    """Σ x², perhaps plus an eps (``inside_<x>``) or not under one (``least_<x>``)."""
    total = squares(x, kept=kept)
    return Any(Op("Add", total, Number(f"inside_{x}")), Floor(total, f"least_{x}"), total)


def guarded(pattern: Pattern, suffix: str = "") -> Pattern:
    """The pattern, not under ``floor<suffix>`` or plus ``added<suffix>``, perhaps expanded to the shape of what it divides."""
    safe = Any(Floor(pattern, f"floor{suffix}"), Op("Add", pattern, Number(f"added{suffix}")), pattern)
    return Any(Op("Expand", safe), safe)


@dataclass(frozen=True, slots=True)
class Eps:
    """The guard of a length: how it is written, its value, and its degree in x."""

    kind: str
    """``inside`` or ``least`` (under the root), ``floor`` or ``added`` (outside); empty without one."""
    value: float
    degree: int

    @property
    def guard(self) -> Guard:
        """Its numbers for FP16."""
        return guard(self.value, self.degree)


def eps_of(found: Found, x: str, suffix: str = "") -> Eps | None:
    """The one guard of a match; None if there are two."""
    kinds = (("inside", f"inside_{x}", 2), ("least", f"least_{x}", 2), ("floor", f"floor{suffix}", 1), ("added", f"added{suffix}", 1))
    given = [Eps(kind, found.number(key), degree) for kind, key, degree in kinds if found.number(key) > 0.0]
    if len(given) > 1:
        return None
    return given[0] if given else Eps("", 0.0, 1)


def refusal(evidence: Findings, found: Found, eps: Eps | None, x: str) -> str:
    """Why a matched, ill length is left as it is: exponents do it for nothing, or FP16 has no numbers for its eps."""
    if eps is None:
        return "it has one eps under the root and another outside"
    if not writable(eps.value, eps.degree):
        return f"its eps, {eps.value:.3g}, cannot be written in FP16 in any domain"
    total = found.tensor(f"squares_{x}")
    degree = 1 if is_op(producer(total), "ReduceL2") else 2
    return one_exponent(evidence, total, eps.value ** (degree / eps.degree), degree)


def short_length(
    write: Writer, x: gs.Tensor, axes: Sequence[int], eps: Eps, label: str = "", unit: Guard | None = None
) -> tuple[Divided, gs.Tensor]:
    """X / a and its guarded length, a = max|x| along the axes: guard(|x|, eps) / a.

    Args:
        write: where the nodes go.
        x: what is normalised.
        axes: along which.
        eps: the guard of this length.
        label: start of the new nodes' names.
        unit: least value of a, where not the eps' own.
    """
    bound = eps.guard
    parts = divide_by_largest(write, x, axes, unit or bound, label)
    total = write.reduce("ReduceSum", write.op("Mul", [parts.unit, parts.unit], f"{label}square"), axes, f"{label}sum")
    if eps.degree == 2 and bound.given:
        part = write.op("Mul", [parts.part, parts.part], f"{label}part_square")
        total = put_guard(write, total, part, eps, label)
    short = write.op("Sqrt", [total], f"{label}length")
    if eps.degree == 1 and bound.given:
        short = put_guard(write, short, parts.part, eps, label)
    return parts, short


def put_guard(write: Writer, tensor: gs.Tensor, part: gs.Tensor, eps: Eps, label: str = "") -> gs.Tensor:
    """The tensor plus, or not under, the eps in its domain: ``part`` times the guard's factor."""
    here = write.op("Mul", [part, write.number(eps.guard.factor, f"{label}eps")], f"{label}eps_part")
    return write.op("Add" if eps.kind in {"inside", "added"} else "Max", [tensor, here], f"{label}guarded")
