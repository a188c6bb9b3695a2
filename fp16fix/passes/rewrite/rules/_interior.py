"""A model → the nodes inside its written-out norms: scale-invariant as a whole, so exponents and the norm rules see to them."""

from __future__ import annotations

from fp16fix.graph.model import Model
from fp16fix.passes.rewrite.rules import cosine, l2norm, rmsnorm
from fp16fix.passes.rewrite.rules._match import Wiring


def norm_interiors(model: Model) -> frozenset[str]:
    """Names of the nodes of every RMSNorm, L2-normalisation and cosine written out; a rule for bare squares or sums passes them by.

    (LayerNorm and its kin are fused before such rules look.)
    """
    view = Wiring(model)
    found: set[str] = set()
    for node in model.nodes():
        norm = rmsnorm.match(view, node)
        for match in (None if norm is None else norm.found, l2norm.match(view, node), cosine.match(view, node)):
            found |= set() if match is None else set(match.names)
    return frozenset(found)
