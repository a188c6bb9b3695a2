"""A graph → its attentions: two products with a softmax between them, which a compiler makes one kernel of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from fp16fix.graph.model import Model, Node, Tensor
from fp16fix.graph.operators import PRODUCTS
from fp16fix.graph.walk import makers, readers, walk

STEPS = 6
"""Nodes between a product and the softmax of the same attention: scale, mask, casts, movement."""


def attention(model: Model) -> Iterator[tuple[str, Tensor]]:
    """Each product that a softmax reads, through a few pointwise nodes, or feeds, and the shares between them."""
    for node in model.nodes():
        values = [reader for reader in node.outputs[0].outputs if reader.op in PRODUCTS] if node.op == "Softmax" else []
        reached = [node] if values else []
        for _ in range(STEPS):
            reached = [maker for each in reached for maker in makers(each)]
            scores = [maker for maker in reached if maker.op in PRODUCTS]
            if scores:
                yield from ((each.name, node.outputs[0]) for each in (*scores, *values))
                break


def around(model: Model, names: Iterable[str]) -> set[str]:
    """The nodes of the attentions that hold these products: from one product to the other, what lies between them included."""
    nodes, found = model.node_map(), set[str]()
    for name in names:
        for beside, back in ((makers, readers), (readers, makers)):
            if near_softmax(nodes[name], beside):
                found |= {each.name for each in between(nodes[name], beside, back)}
    return found


def between(product: Node, there: Callable[[Node], Iterable[Node]], back: Callable[[Node], Iterable[Node]]) -> Iterator[Node]:
    """A product, the next product beyond its softmax, and all that leads from one to the other."""
    reached = stretch(product, there)
    for other in reached:
        if other is not product and other.op in PRODUCTS:
            ways = {id(each) for each in stretch(other, back)}
            yield from (each for each in reached if id(each) in ways)


def stretch(product: Node, step: Callable[[Node], Iterable[Node]]) -> list[Node]:
    """What leads away from a product, up to the next ones."""
    return list(walk([product], lambda each: step(each) if each is product or each.op not in PRODUCTS else ()))


def outside_attention(typed: Model, names: Iterable[str]) -> list[str]:
    """Those of some products that no softmax feeds or reads: attention as one kernel swallows the request."""
    nodes = typed.node_map()
    return [name for name in names if not near_softmax(nodes[name], makers) and not near_softmax(nodes[name], readers)]


def near_softmax(node: Node, beside: Callable[[Node], Iterable[Node]]) -> bool:
    """Whether a Softmax lies a few pointwise steps before or behind a node."""
    reached = [node]
    for _ in range(STEPS):
        reached = [other for each in reached for other in beside(each) if other.op not in PRODUCTS]
        if any(each.op == "Softmax" for each in reached):
            return True
    return False
