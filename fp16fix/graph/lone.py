"""A typed graph → its FP32 products that stand alone between casts, which compilers make narrow kernels of; and the guard against it.

``Cast → product → Cast`` is NVIDIA's way of asking for an FP16 kernel that adds in FP32. TensorRT-RTX 1.7.1 takes every such product for
the request, and rounds its weights to FP16, or to BF16 between casts of that (``strict.assumptions`` has the plans). What the type holds
exactly loses nothing by it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import FLOATS, Model, element_type, numpy_type
from fp16fix.graph.operators import BF16_BETWEEN_CASTS, CARRIERS, PRODUCTS, RECURRENCES
from fp16fix.half import BF16, FP16, FP32, Format

NARROW = (FP16, BF16)
BEYOND = {FP16: 2.0**17, BF16: (BF16.overflow + FP32.largest) / 2}
"""Bound of the guard's Clip: so large that what the Cast behind it makes is unchanged: all beyond 65520, or 3.396e38, is infinite there."""

CLIP_BY_INPUT = 11
"""Opset from which Clip takes its bounds as inputs (ONNX operator changelog)."""


@dataclass(frozen=True, slots=True)
class Lone:
    """An FP32 product that reads narrow values through Casts, and that only Casts to the same type read."""

    node: gs.Node
    exits: tuple[gs.Node, ...]
    """The Casts behind it."""
    weights: tuple[gs.Constant, ...]
    """Its FP32 constants that the narrow type does not hold exactly: what a kernel in it changes."""
    low: Format
    """The narrow type."""


def lone_products(model: Model) -> Iterator[Lone]:
    """Every lone product of a typed graph, harmless ones (no ``weights``) too."""
    wide = fp32_products(model)
    if not wide:
        return
    kept = {id(tensor) for graph in model.graphs() for tensor in graph.outputs}
    for node in wide:
        sources = [source(tensor) for tensor in node.inputs if tensor.name and element_type(tensor) in FLOATS]
        for low in NARROW:
            exits = exits_of(node.outputs[0], kept, low)
            if exits and all(isinstance(each, gs.Constant) or is_widened(each, low) for each in sources):
                weights = tuple(each for each in sources if isinstance(each, gs.Constant) and not exact(each.values, low))
                yield Lone(node, exits, weights, low)


def fp32_products(model: Model) -> list[gs.Node]:
    """Products that a graph types FP32."""
    return [node for node in model.nodes() if node.op in PRODUCTS and node.outputs and element_type(node.outputs[0]) == FP32.onnx]


def source(tensor: gs.Tensor) -> gs.Tensor:
    """Where the values of a tensor come from, past whatever only moves them."""
    while tensor.inputs and tensor.inputs[0].op in CARRIERS:
        tensor = tensor.inputs[0].inputs[0]
    return tensor


def is_widened(tensor: gs.Tensor, low: Format) -> bool:
    """Whether it is of a narrow type, cast to FP32."""
    maker = tensor.inputs[0] if tensor.inputs else None
    return maker is not None and maker.op == "Cast" and element_type(maker.inputs[0]) == low.onnx


def exits_of(tensor: gs.Tensor, kept: set[int], low: Format) -> tuple[gs.Node, ...]:
    """The Casts to a narrow type that alone read a tensor, past whatever only moves it; none if anything else does, or it is ``kept``."""
    found: list[gs.Node] = []
    if id(tensor) in kept or not tensor.outputs:
        return ()
    for reader in tensor.outputs:
        if reader.op in CARRIERS:
            behind = exits_of(reader.outputs[0], kept, low)
            if not behind:
                return ()
            found += behind
        elif reader.op == "Cast" and reader.attrs["to"] == low.onnx:
            found.append(reader)
        else:
            return ()
    return tuple(found)


def exact(values: np.ndarray, low: Format) -> bool:
    """Whether a narrow type holds every value."""
    with np.errstate(over="ignore"):
        return bool(np.array_equal(np.asarray(values).astype(numpy_type(low.onnx)).astype(np.float32), values, equal_nan=True))


def wide_products(model: Model) -> list[gs.Node]:
    """Products that multiply FP32 operands in an engine too: all that are typed FP32 but the lone ones."""
    lone = {id(each.node) for each in lone_products(model)}
    return [node for node in fp32_products(model) if id(node) not in lone]


def kept_narrow(model: Model) -> frozenset[str]:
    """Products typed FP32 that become narrow kernels and lose nothing by it."""
    return frozenset(each.node.name for each in lone_products(model) if not each.weights)


def ask(model: Model, names: Collection[str]) -> None:
    """Ask, in place, for FP32 sums of narrow products: operands cast up, the result cast down, weights the type's values in FP32."""
    edit = Editor(model) if names else None
    for node in [node for node in model.nodes() if node.name in names]:
        assert edit is not None
        graph, result = edit.owner(node), node.outputs[0]
        low = next((each for each in NARROW if each.onnx == element_type(result)), None)
        if low is None:
            continue
        for index, tensor in enumerate(node.inputs):
            if not tensor.name or element_type(tensor) != low.onnx:
                continue
            if isinstance(tensor, gs.Constant):
                node.inputs[index] = edit.constant(f"{tensor.name}/fp32", np.asarray(tensor.values).astype(np.float32))
                continue
            node.inputs[index] = edit.variable(f"{tensor.name}/fp32", FP32.onnx, tensor.shape)
            edit.before(node, "Cast", f"{tensor.name}/to_fp32", [tensor], [node.inputs[index]], to=FP32.onnx)
        node.outputs[0] = edit.variable(f"{result.name}/fp32", FP32.onnx, result.shape)
        edit.insert(graph, edit.position(graph, node) + 1, "Cast", f"{result.name}/to_{low.name}", [node.outputs[0]], [result], to=low.onnx)


def between_casts(model: Model) -> frozenset[str]:
    """BF16 products that an engine is built with only where they stand in FP32 between casts, which makes BF16 kernels of them."""
    return frozenset(
        node.name for node in model.nodes() if node.op in BF16_BETWEEN_CASTS and node.outputs and element_type(node.outputs[0]) == BF16.onnx
    )


def narrow(model: Model) -> None:
    """Round, in place, the weights of lone products to the narrow type, as an engine holds them."""
    edit = Editor(model)
    for each in lone_products(model):
        for index, tensor in enumerate(each.node.inputs):
            if any(source(tensor) is weight for weight in each.weights):
                nodes, each.node.inputs[index] = edit.rounding(tensor, each.low.onnx)
                graph = edit.owner(each.node)
                at = edit.position(graph, each.node)
                graph.nodes[at:at] = nodes


def guard(model: Model) -> None:
    """Put, in place, a Clip that changes no narrow number between a Cast and what a compiler would take it into.

    That is between each lone product whose weights the type does not hold and the Casts behind it, and in front of each FP32 recurrence:
    one that reads a Cast from FP16 or BF16 ends the builder of TensorRT-RTX 1.7.1 ("Mismatched number of elements in reshape op"). The
    Clips are ``Model.border``: nobody's pins, and no nodes to count.
    """
    leaving = [(cast, 0, each.low) for each in lone_products(model) if each.weights for cast in each.exits]
    entered = [
        (node, index, low)
        for node in model.nodes()
        if node.op in RECURRENCES and element_type(node.outputs[0]) == FP32.onnx
        for index, tensor in enumerate(node.inputs)
        for low in NARROW
        if is_widened(tensor, low)
    ]
    edit = Editor(model) if leaving or entered else None
    for reader, index, low in (*leaving, *entered):
        assert edit is not None
        clip, reader.inputs[index] = clipped(edit, reader.inputs[index], BEYOND[low], f"{reader.inputs[index].name}/guarded")
        graph = edit.owner(reader)
        graph.nodes.insert(edit.position(graph, reader), clip)
        model.border.add(clip.name)


def clipped(edit: Editor, tensor: gs.Tensor, bound: float, name: str) -> tuple[gs.Node, gs.Tensor]:
    """``Clip(tensor, ±bound)`` in the tensor's own type: the node, to be put into a graph, and what it makes."""
    dtype, old = numpy_type(element_type(tensor)), edit.model.opset < CLIP_BY_INPUT
    bounds = [] if old else [edit.constant(f"{name}/{side}", np.asarray(sign * bound, dtype)) for side, sign in (("low", -1), ("high", 1))]
    out = edit.variable(name, element_type(tensor), tensor.shape)
    attrs = {"min": -bound, "max": bound} if old else {}
    return quick.node("Clip", edit.fresh(f"{name}/clip"), attrs=attrs, inputs=[tensor, *bounds], outputs=[out]), out
