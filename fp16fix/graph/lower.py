"""FP32 model + a format for each pinned node → the typed graph an engine is built from: casts at the borders, weights converted once.

In a strongly typed network (TensorRT ≥ 10) precision lives in the graph, so this is the whole of "set layer precision".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix import half
from fp16fix.graph.edit import Editor
from fp16fix.graph.model import FLOATS, Model, bodies, element_type, numpy_type
from fp16fix.graph.operators import CONTROL, TYPED_BY_ATTRIBUTE
from fp16fix.graph.ops import input_accepts, is_float_node, output_follows_inputs, runs_in
from fp16fix.half import FORMATS, FP16, FP32

Fits = Callable[[str], bool]
"""Whether a tensor is proven to fit FP16, margin included."""


def lower(model: Model, wide: Mapping[str, str], *, io: str | None = None, fits: Fits | None = None) -> Model:
    """Type every float tensor FP16 except those of pinned nodes.

    Args:
        model: all floats FP32 (see ``widen`` for models that arrive mixed).
        wide: node name → ``"fp32"`` or ``"bf16"``.
        io: type of all float graph inputs and outputs, ``"fp32"`` or ``"fp16"``; None keeps what the user's file has.
        fits: tensors for which this says False leave an island through a Clip to ±65504, so that no inf is made at the
            border; without it every exit is a plain cast.

    Returns:
        A new model; inputs and outputs keep names and order.
    """
    typed = model.copy()
    Lowering(typed, wide, None if io is None else FORMATS[io].onnx, fits).run()
    return typed


def format_of(model: Model, node: gs.Node, wide: Mapping[str, str]) -> half.Format:
    """The format a node computes in: its pin, else FP16, else FP32 where the operator's schema has no FP16, or at the interface."""
    if node.name in model.border:
        return FP32
    wanted = FORMATS[wide.get(node.name, "fp16")]
    return wanted if runs_in(node, wanted.onnx, model.opset) else FP32


class Lowering:
    """One pass over all graphs: decide what each node reads and writes, then make tensors meet."""

    def __init__(self, model: Model, wide: Mapping[str, str], io: int | None, fits: Fits | None) -> None:
        self.model = model
        self.wide = wide
        self.io = io
        self.fits = fits
        self.edit = Editor(model)
        self.casts: dict[tuple[int, int], gs.Tensor] = {}
        self.after: dict[int, list[gs.Node]] = {}
        """New nodes by id of the node they follow; by id of the graph for those that come first."""
        self.home: dict[int, tuple[int, gs.Graph]] = {}
        """Where casts of a tensor go: after which node (or at the start of which graph)."""

    def run(self) -> None:
        graphs = list(self.model.graphs())
        for graph in graphs:
            for tensor in graph.inputs:
                self.home[id(tensor)] = (id(graph), graph)
            for node in graph.nodes:
                for tensor in node.outputs:
                    self.home[id(tensor)] = (id(node), graph)
        wants = [(node, self.reads(node)) for graph in graphs for node in graph.nodes]
        borders = self.borders(graphs)
        for graph in graphs:
            for node in graph.nodes:
                self.write_types(node)
        for tensor in self.model.graph.inputs:
            if element_type(tensor) in FLOATS:
                tensor.dtype = numpy_type(self.interface(tensor))
        for node, wanted in wants:
            for index, element in wanted.items():
                node.inputs[index] = self.as_type(node.inputs[index], element)
        for graph, control in borders:
            self.settle_outputs(graph, control)
        self.place(graphs)

    def interface(self, tensor: gs.Tensor) -> int:
        """Element type of a graph input or output."""
        kept = self.model.io.get(tensor.name, FP32.onnx)
        return self.io if self.io is not None else kept

    def reads(self, node: gs.Node) -> dict[int, int]:
        """Element type wanted at each float input."""
        opset = self.model.opset
        fmt = format_of(self.model, node, self.wide)
        wanted: dict[int, int] = {}
        for index, tensor in enumerate(node.inputs):
            if not tensor.name or element_type(tensor) not in FLOATS:
                continue
            takes = fmt.onnx if node.op in CONTROL or input_accepts(node, index, fmt.onnx, opset) else FP32.onnx
            if node.op in {"Cast", "CastLike"}:
                continue
            wanted[index] = takes
        return wanted

    def write_types(self, node: gs.Node) -> None:
        """Element type of each float output, and the attributes that say so."""
        fmt = format_of(self.model, node, self.wide)
        for index, tensor in enumerate(node.outputs):
            if not tensor.name or element_type(tensor) not in FLOATS:
                continue
            follows = node.op in CONTROL or node.op in TYPED_BY_ATTRIBUTE or output_follows_inputs(node, index, self.model.opset)
            tensor.dtype = numpy_type(fmt.onnx if follows else FP32.onnx)
        if node.op in TYPED_BY_ATTRIBUTE and node.outputs and element_type(node.outputs[0]) in FLOATS:
            retype_attribute(node, element_type(node.outputs[0]))

    def borders(self, graphs: list[gs.Graph]) -> list[tuple[gs.Graph, int | None]]:
        """Each graph with the type its float inputs and outputs have: that of its control node; body inputs are typed here."""
        found: list[tuple[gs.Graph, int | None]] = [(self.model.graph, None)]
        for graph in graphs:
            for node in graph.nodes:
                for body in bodies(node).values():
                    element = format_of(self.model, node, self.wide).onnx
                    for tensor in body.inputs:
                        if element_type(tensor) in FLOATS:
                            tensor.dtype = numpy_type(element)
                    found.append((body, element))
        return found

    def as_type(self, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """``tensor`` in another type: a converted copy of a constant, or one shared Cast."""
        if element_type(tensor) == element:
            return tensor
        key = (id(tensor), element)
        if key not in self.casts:
            self.casts[key] = self.converted(tensor, element) if isinstance(tensor, gs.Constant) else self.cast(tensor, element)
        return self.casts[key]

    def converted(self, tensor: gs.Constant, element: int) -> gs.Constant:
        """An initializer in another type, rounded to nearest even, sign kept; only weights past 65504 become inf."""
        suffix = next(fmt.name for fmt in FORMATS.values() if fmt.onnx == element)
        with np.errstate(over="ignore"):
            return self.edit.constant(f"{tensor.name}/{suffix}", np.asarray(tensor.values).astype(numpy_type(element)))

    def cast(self, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """A Cast right after the producer, through a Clip where an FP16 exit is not proven in range."""
        suffix = next(fmt.name for fmt in FORMATS.values() if fmt.onnx == element)
        source = tensor
        if element == FP16.onnx and self.fits is not None and not self.fits(tensor.name):
            source = self.saturated(tensor)
        out = self.edit.variable(f"{tensor.name}/{suffix}", element, tensor.shape)
        node = gs.Node("Cast", self.edit.fresh(f"{tensor.name}/to_{suffix}"), attrs={"to": element}, inputs=[source], outputs=[out])
        self.queue(tensor, node)
        return out

    def saturated(self, tensor: gs.Tensor) -> gs.Tensor:
        """``Clip(tensor, ±65504)`` in the tensor's own type."""
        dtype = numpy_type(element_type(tensor))
        bounds = [
            self.edit.constant(f"{tensor.name}/{side}", np.asarray(sign * FP16.largest, dtype)) for side, sign in (("low", -1), ("high", 1))
        ]
        out = self.edit.variable(f"{tensor.name}/saturated", element_type(tensor), tensor.shape)
        attrs = {} if self.model.opset >= 11 else {"min": -FP16.largest, "max": FP16.largest}
        inputs = [tensor, *bounds] if self.model.opset >= 11 else [tensor]
        self.queue(tensor, gs.Node("Clip", self.edit.fresh(f"{tensor.name}/saturate"), attrs=attrs, inputs=inputs, outputs=[out]))
        return out

    def queue(self, tensor: gs.Tensor, node: gs.Node) -> None:
        anchor, _ = self.home[id(tensor)]
        self.after.setdefault(anchor, []).append(node)

    def settle_outputs(self, graph: gs.Graph, control: int | None) -> None:
        """Make float outputs of a graph the type its outside expects, keeping their names."""
        for index, tensor in enumerate(graph.outputs):
            element = self.interface(tensor) if control is None else control
            if element_type(tensor) not in FLOATS or element_type(tensor) == element:
                continue
            if isinstance(tensor, gs.Constant) or tensor in graph.inputs or graph is not self.model.graph:
                graph.outputs[index] = self.local_output(graph, tensor, element)
                continue
            name = tensor.name
            tensor.name = self.edit.fresh(f"{name}/{next(f.name for f in FORMATS.values() if f.onnx == element_type(tensor))}")
            out = gs.Variable(name, dtype=numpy_type(element), shape=tensor.shape)
            self.queue(tensor, gs.Node("Cast", self.edit.fresh(f"{name}/to_io"), attrs={"to": element}, inputs=[tensor], outputs=[out]))
            graph.outputs[index] = out

    def local_output(self, graph: gs.Graph, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """A body's output must be produced in the body, even if the value comes from outside or is a constant."""
        out = self.edit.variable(f"{tensor.name}/out", element, tensor.shape)
        node = gs.Node("Cast", self.edit.fresh(f"{tensor.name}/to_out"), attrs={"to": element}, inputs=[tensor], outputs=[out])
        graph.nodes.append(node)
        return out

    def place(self, graphs: list[gs.Graph]) -> None:
        """Insert queued nodes behind their producers in one sweep."""
        for graph in graphs:
            ordered = list(self.after.get(id(graph), ()))
            for node in graph.nodes:
                ordered.append(node)
                ordered.extend(self.after.get(id(node), ()))
            graph.nodes[:] = ordered


def retype_attribute(node: gs.Node, element: int) -> None:
    """Make ``to``, ``dtype`` or ``value`` agree with the output's new element type."""
    if node.op == "Cast":
        node.attrs["to"] = element
    elif node.op == "CastLike":
        node.op = "Cast"
        node.attrs = {"to": element}
        source = node.inputs[0]
        node.inputs.clear()
        node.inputs.append(source)
    elif node.op == "ConstantOfShape":
        value = node.attrs.get("value")
        fill = np.zeros(1, np.float32) if value is None else value.values
        node.attrs["value"] = gs.Constant(f"{node.name}/value", np.asarray(fill).astype(numpy_type(element)))
    elif "dtype" in node.attrs:
        node.attrs["dtype"] = element


def count_types(model: Model) -> dict[str, int]:
    """What the outcome reports of a typed graph: float nodes by what they compute in, casts, and multiplications at the borders.

    A Mul by a power of two between an FP32 graph input or output and its Cast is no FP32 node: it is counted as ``border_muls``.
    """
    counts = {"float_nodes": 0, "fp32_nodes": 0, "bf16_nodes": 0, "casts": 0, "border_muls": 0}
    for node in model.nodes():
        floats = [element_type(t) for t in (*node.inputs, *node.outputs) if t.name and element_type(t) in FLOATS]
        if node.op == "Cast" and len(floats) == 2:
            counts["casts"] += 1
        elif node.name in model.border:
            counts["border_muls"] += node.op == "Mul"
        elif is_float_node(node):
            counts["float_nodes"] += 1
            own = {element_type(t) for t in node.outputs if t.name} & set(FLOATS) or set(floats)
            counts["fp32_nodes"] += FP32.onnx in own
            counts["bf16_nodes"] += half.BF16.onnx in own
    return counts
