"""A node → the equations between the exponents of its float operands, results and attributes, read from the table in ``rescale.laws``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from fractions import Fraction
from functools import lru_cache

from fp16fix.graph.model import Node, Tensor, is_float, scalar
from fp16fix.graph.operators import CONTROL
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.passes.rescale.laws import TABLE, Law

Equation = tuple[tuple[str, int], ...]
"""((port, coefficient), …) with Σ coefficient × e(port) = 0. Ports: ``x0`` an input, ``y0`` an output, ``@name`` an attribute."""

TERM = re.compile(r"([+-]?)\s*(\d*|\^)\s*([xy]\d+|[xy]\*|@\w+|0)")


@lru_cache(maxsize=1)
def laws_by_op() -> dict[str, tuple[Law, ...]]:
    """The rows of each operator."""
    found: dict[str, tuple[Law, ...]] = {}
    for law in TABLE:
        for op in law.ops.split():
            found[op] = (*found.get(op, ()), law)
    return found


def operands(node: Node) -> dict[str, Tensor]:
    """Float tensors of a node by port, inputs first."""
    ports = [(f"x{i}", t) for i, t in enumerate(node.inputs)] + [(f"y{i}", t) for i, t in enumerate(node.outputs)]
    return {port: tensor for port, tensor in ports if tensor.name and is_float(tensor)}


def equations(node: Node) -> tuple[Equation, ...]:
    """What must hold between the exponents of a node's float operands, results and attributes (If/Loop/Scan: see ``ties``).

    Source: the operators' definitions (``notes/exponents.md``); each row is held to it by a property test on random float64 data.
    """
    if node.op in CONTROL:
        return ()
    ports = operands(node)
    rows = laws_by_op().get(node.op, ()) if node.domain in DEFAULT_DOMAINS else ()
    exponent = constant_power(node)
    if not rows or not all(holds(law, node) for law in rows) or (node.op == "Pow" and exponent is None):
        return wall(ports)
    found: dict[Equation, None] = {}
    for law in rows:
        for text in law.equations.split(";"):
            for equation in expand(text, tuple(ports), exponent or Fraction(1)):
                found.setdefault(equation)
    mentioned = {port for equation in found for port, _ in equation}
    for port in ports:
        if port.startswith("y") and port not in mentioned:
            found.setdefault(((port, 1),))
    return tuple(found)


def holds(law: Law, node: Node) -> bool:
    """Whether the node's attributes are those that the law speaks of."""
    return all(node.attrs.get(name, allowed[0]) in allowed for name, allowed in law.when.items())


def wall(ports: Iterable[str]) -> tuple[Equation, ...]:
    """Exponent 0 everywhere."""
    return tuple(((port, 1),) for port in ports)


def is_wall(equation: Equation) -> bool:
    """Whether the equation fixes one port to exponent 0."""
    return len(equation) == 1


def constant_power(node: Node) -> Fraction | None:
    """The exponent of a Pow by a constant with a denominator up to 4, else None."""
    value = scalar(node.inputs[1]) if node.op == "Pow" and len(node.inputs) > 1 else None
    if value is None:
        return None
    fraction = Fraction(value).limit_denominator(4)
    return fraction if float(fraction) == value and value != 0.0 else None


@lru_cache(maxsize=65536)
def expand(text: str, ports: tuple[str, ...], power: Fraction) -> tuple[Equation, ...]:
    """The equations that one piece of a row stands for at a node with these float ports."""
    left, right = text.split("=")
    terms = [(port, factor * sign) for side, sign in ((left, 1), (right, -1)) for port, factor in parse(side, power)]
    starred = [(port, factor) for port, factor in terms if port.endswith("*")]
    if not starred:
        return simplest(terms, ports)
    star, factor = starred[0]
    others = [term for term in terms if not term[0].endswith("*")]
    matching = [port for port in ports if port[0] == star[0]]
    if "+x*" in text:
        return simplest([*others, *((port, factor) for port in matching)], ports)
    return tuple(e for port in matching for e in simplest([*others, (port, factor)], ports))


def parse(side: str, power: Fraction) -> list[tuple[str, Fraction]]:
    """Terms of one side; the literal 0 adds none."""
    found = []
    for sign, count, port in TERM.findall(side):
        if port != "0":
            factor = power if count == "^" else Fraction(int(count or 1))
            found.append((port, -factor if sign == "-" else factor))
    return found


def simplest(terms: list[tuple[str, Fraction]], ports: tuple[str, ...]) -> tuple[Equation, ...]:
    """The equation with integer coefficients, or none where a port is absent, not a float, or cancels out."""
    if any(port not in ports and not port.startswith("@") for port, _ in terms):
        return ()
    scale = max(factor.denominator for _, factor in terms)
    sums: dict[str, int] = {}
    for port, factor in terms:
        sums[port] = sums.get(port, 0) + int(factor * scale)
    kept = tuple((port, count) for port, count in sums.items() if count)
    return (kept,) if kept else ()


def address(tensor: str, node: str, index: int) -> str:
    """Names one use of a tensor: input ``index`` of ``node``."""
    return f"{tensor}→{node}#{index}"


def ties(node: Node) -> list[tuple[Tensor, int | None, Tensor]]:
    """Float tensors that share one exponent across the border of an If, Loop or Scan: carried, scanned and returned ones.

    Returns:
        (tensor, index of the node's input that reads it or None where it is not an input, other tensor).
    """
    pairs: list[tuple[Tensor, int | None, Tensor]] = []
    if node.op == "If":
        for branch in ("then_branch", "else_branch"):
            pairs += [(inner, None, outer) for inner, outer in zip(node.attrs[branch].outputs, node.outputs, strict=False)]
    else:
        body, loop = node.attrs["body"], node.op == "Loop"
        first = 2 if loop else 0
        carried = len(node.inputs) - 2 if loop else len(node.inputs) - int(node.attrs["num_scan_inputs"])
        results = body.outputs[1:] if loop else body.outputs
        states = body.inputs[first:]
        pairs += [(outer, first + i, inner) for i, (outer, inner) in enumerate(zip(node.inputs[first:], states, strict=False))]
        pairs += [(state, None, result) for state, result in zip(states[:carried], results, strict=False)]
        pairs += [(inner, None, outer) for inner, outer in zip(results, node.outputs, strict=False)]
    return [(a, i, b) for a, i, b in pairs if a.name and b.name and is_float(a) and is_float(b)]
