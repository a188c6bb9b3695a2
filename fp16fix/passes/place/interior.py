"""A graph and what is wide in it → groups of nodes that cost a compiled plan nothing in FP32: insides of its kernels, by ``place.price``.

A group is as much of one kernel as can be wide, for a kernel that changes types halfway is compiled as two: with all of it behind an
InstanceNormalization in FP32, TensorRT-RTX 1.7.1 moves the bytes of all-FP16, with half of it 7 % more (``notes/price.md``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence

from fp16fix.graph.model import Constant, Node
from fp16fix.graph.operators import CONTROL, CONVERTING, MOVEMENT, OPERATORS, PRODUCTS, RECURRENCES, REORDERING
from fp16fix.graph.ops import float_inputs
from fp16fix.graph.walk import makers, readers, walk
from fp16fix.passes.place.attention import around
from fp16fix.passes.place.price import Price

Group = tuple[str, ...]


def interiors(price: Price, wide: Collection[str], elements: Iterable[str]) -> tuple[Group, ...]:
    """Groups of ``elements`` that ``price.of`` charges nothing for, beside ``wide`` and all together; in graph order.

    Of two that would hand FP32 from one kernel to another, the larger: a value that is stored is rounded anyway, one that stays inside is
    what FP32 keeps. Attention is left out: one kernel makes of it what it likes.
    """
    asked = set(elements) - set(wide) - around(price.model, price.attention)
    found = {node.name: node for node in price.model.graph.nodes if node.name in asked and node.op in FUSED and node.name in price.kernels}
    taken, chosen = set(wide), list[Group]()
    groups = list(grouped(price, found))
    for group in sorted(groups, key=len, reverse=True):
        if not any(touches(price, found[name], taken) for name in group):
            taken |= set(group)
            chosen.append(group)
    return tuple(sorted(chosen, key=groups.index))


FUSED = OPERATORS.keys() - PRODUCTS - RECURRENCES - CONTROL - CONVERTING - (MOVEMENT - REORDERING)
"""Operators that a kernel may compute beside others; of those that the table does not know, and of loops' bodies, nothing is known."""


def grouped(price: Price, found: dict[str, Node]) -> Iterator[Group]:
    """Neighbours in one kernel that compute something between them; what moves values at the border of a group is none of it."""

    def within(node: Node) -> list[Node]:
        beside = [each for each in makers(node) if not price.crosses(each, node)]
        beside += [each for each in readers(node) if not price.crosses(node, each)]
        return [each for each in beside if each.name in found]

    seen = set[str]()
    for name, first in found.items():
        if name not in seen:
            group = {node.name for node in walk([first], within)}
            seen |= group
            kept = tuple(each for each in found if each in group and computes_beside(found[each], group))
            if len(kept) > 1 and is_fed([found[each] for each in kept]):
                yield kept


def is_fed(group: Sequence[Node]) -> bool:
    """Whether a group reads floats from elsewhere: what is made of whole numbers alone is folded, or compiled in any type."""
    own = {node.name for node in group}
    read = [tensor for node in group for tensor in float_inputs(node) if not isinstance(tensor, Constant)]
    return any(not tensor.inputs or (tensor.inputs[0].name not in own and tensor.inputs[0].op not in CONVERTING) for tensor in read)


def computes_beside(node: Node, group: Collection[str]) -> bool:
    """Whether a node of a group computes, or moves what one of it computes to one that does."""

    def led(step: Callable[[Node], Iterable[Node]]) -> bool:
        def on(each: Node) -> list[Node]:
            return [other for other in step(each) if other.name in group] if each.op in REORDERING else []

        return any(each.op not in REORDERING for each in walk([node], on))

    return node.op not in REORDERING or (led(makers) and led(readers))


def touches(price: Price, node: Node, taken: Collection[str]) -> bool:
    """Whether a node hands what is stored between two kernels to one of ``taken``, or is handed it."""
    return any(each.name in taken and price.crosses(each, node) for each in makers(node)) or any(
        each.name in taken and price.crosses(node, each) for each in readers(node)
    )
