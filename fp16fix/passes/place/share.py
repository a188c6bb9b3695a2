"""A model and its wide nodes → the share of the work that they take, and whether that is more than an FP16 engine may leave in FP32."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from fp16fix.graph.lone import kept_narrow
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.operators import CONVERTING, MOVEMENT
from fp16fix.graph.ops import float_outputs, is_float_node
from fp16fix.graph.quantised import multiplies_integers
from fp16fix.half import FP32, Format
from fp16fix.passes.place.islands import flops
from fp16fix.ranges.range import Range

IDLE = MOVEMENT | CONVERTING
"""Operators that compute nothing."""


def wide_share(model: Model, ranges: Mapping[str, Range], wide: Mapping[str, str]) -> float:
    """Share of the FLOPs in FP32, what the model's author placed there apart; 0 for a model without products, which has none.

    A product of integers is none of them, whatever type its result has.

    Args:
        model: FP32, as it will be typed.
        ranges: of ``model``, for sizes.
        wide: node → format.
    """
    computing = [node for node in model.nodes() if is_float_node(node) and node.op not in IDLE and node.name not in model.placed]
    work = {node.name: flops(node, ranges) for node in computing}
    total = sum(work.values())
    slow = [node for node in computing if wide.get(node.name) == "fp32" and not multiplies_integers(node)]
    return sum(work[node.name] for node in slow) / total if total else 0.0


def formats(typed: Model) -> dict[str, str]:
    """The nodes of a typed graph that compute in FP32, in the words of a recipe."""
    narrow = kept_narrow(typed)
    computing = [node for node in typed.nodes() if node.op not in CONVERTING and node.name not in narrow]
    return {node.name: "fp32" for node in computing if any(element_type(tensor) == FP32.onnx for tensor in float_outputs(node))}


def too_wide(share: float, limit: float, wide: Collection[str], narrow: Format) -> str:
    """Why so much in FP32 is no answer; empty if it is one."""
    if share <= limit:
        return ""
    return (
        f"{share:.0%} of the FLOPs would run in FP32 ({len(wide)} nodes), more than max_fp32_share allows ({limit:.0%}): "
        f"that is no {narrow} engine"
    )
