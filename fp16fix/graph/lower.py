"""FP32 model + a format for each pinned node → the typed graph an engine is built from: casts at the borders, weights converted once.

In a strongly typed network (TensorRT ≥ 10) precision lives in the graph, so this is the whole of "set layer precision".
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import cached_property

import numpy as np
import onnx_graphsurgeon as gs

from fp16fix import half
from fp16fix.graph import quick
from fp16fix.graph.converted import converted
from fp16fix.graph.edit import Editor
from fp16fix.graph.lone import ask, between_casts, clipped, guard, kept_narrow
from fp16fix.graph.model import FLOATS, Model, bodies, element_type, numpy_type
from fp16fix.graph.operators import CONTROL, MOVEMENT, TYPED_BY_ATTRIBUTE
from fp16fix.graph.ops import input_accepts, is_float_node, output_follows_inputs, runs_in
from fp16fix.graph.quantised import dequantizes, quantizes
from fp16fix.half import FORMATS, FP16, FP32


def lower(
    model: Model,
    wide: Mapping[str, str],
    *,
    io: str | None = None,
    saturate: Collection[str] = (),
    sums: Collection[str] = (),
    narrow: half.Format = FP16,
) -> Model:
    """Type every float tensor in the narrow type except those of pinned nodes.

    Args:
        model: all floats FP32 (see ``widen`` for models that arrive mixed).
        wide: node name → ``"fp32"`` or ``"bf16"``.
        io: type of all float graph inputs and outputs, ``"fp32"`` or the narrow type's name; None keeps what the user's file has.
        saturate: tensors that leave an island through a Clip to ± its largest value, so that no inf is made at the border; every other
            exit is a plain cast, behind a Clip that changes nothing where a compiler would take the pin away (``graph.lone``).
        sums: FP16 products that are asked to add in FP32 (``graph.lone.ask``).
        narrow: what everything else computes in.

    Returns:
        A new model; inputs and outputs keep names and order.
    """
    typed = model.copy()
    Lowering(Typing(typed, wide, io, narrow), saturate).run()
    guard(typed)
    ask(typed, {*sums, *between_casts(typed)})
    return typed


def exits(model: Model, wide: Mapping[str, str], io: str | None = None, narrow: half.Format = FP16) -> set[str]:
    """Activations that ``lower`` hands to a narrow reader through a Cast from another type."""
    typing = Typing(model, wide, io, narrow)
    elements = typing.elements()
    return {
        node.inputs[index].name
        for node in model.nodes()
        for index, element in typing.reads(node).items()
        if element == narrow.onnx and elements.get(id(node.inputs[index]), element) != element
    }


class Typing:
    """What every node of a model reads and writes with some nodes pinned; nothing is edited."""

    def __init__(self, model: Model, wide: Mapping[str, str], io: str | None, narrow: half.Format) -> None:
        self.model = model
        self.wide = wide
        self.narrow = narrow
        self.io = None if io is None else FORMATS[io].onnx
        self._formats: dict[int, half.Format] = {}
        """By ``id`` of the node."""

    def format_of(self, node: gs.Node) -> half.Format:
        """The format a node computes in: its pin, else the narrow type, else FP32 where the schema has neither, or at the interface."""
        found = self._formats.get(id(node))
        if found is None:
            found = self._formats[id(node)] = self._format_of(node)
        return found

    def _format_of(self, node: gs.Node) -> half.Format:
        if node.name in self.model.border:
            return FP32
        if dequantizes(node) and (fed := self.fed(node)):
            return fed
        wanted = FORMATS[self.wide.get(node.name, self.narrow.name)]
        return wanted if runs_in(node, wanted.onnx, self.model.opset) else FP32

    def fed(self, node: gs.Node) -> half.Format | None:
        """What a DequantizeLinear makes is of the type its readers compute in, the narrow one if they disagree; None if none computes."""
        readers = [reader for tensor in node.outputs for reader in tensor.outputs if not quantizes(reader) and not dequantizes(reader)]
        formats = {each.onnx: each for each in map(self.format_of, readers)}
        found = next(iter(formats.values())) if len(formats) == 1 else self.narrow
        return found if readers and runs_in(node, found.onnx, self.model.opset) else None

    def interface(self, tensor: gs.Tensor) -> int:
        """Element type of a graph input or output."""
        asked = None if tensor.name in self.model.opaque.touched else self.io
        return asked if asked is not None else self.model.io.get(tensor.name, FP32.onnx)

    def reads(self, node: gs.Node) -> dict[int, int]:
        """Element type wanted at each float input; a cast takes whatever there is."""
        if node.op in {"Cast", "CastLike"}:
            return {}
        opset, element = self.model.opset, self.format_of(node).onnx
        if quantizes(node):
            # It makes integers of whatever there is: a graph input before anybody rounds it, too.
            element = self.held.get(id(node.inputs[0]), element)
        floats = [index for index, tensor in enumerate(node.inputs) if tensor.name and element_type(tensor) in FLOATS]
        free = {index for index in floats if node.op in CONTROL or input_accepts(node, index, element, opset)}
        return {index: element if index in free else FP32.onnx for index in floats}

    def writes(self, node: gs.Node) -> dict[int, int]:
        """Element type of each float output."""
        element = self.format_of(node).onnx
        typed = node.op in CONTROL or node.op in TYPED_BY_ATTRIBUTE
        return {
            index: element if typed or output_follows_inputs(node, index, self.model.opset) else FP32.onnx
            for index, tensor in enumerate(node.outputs)
            if tensor.name and element_type(tensor) in FLOATS
        }

    def inner(self) -> Iterator[tuple[gs.Graph, int]]:
        """Every body with the type its float inputs and outputs have: that of its control node."""
        for node in self.model.nodes():
            for body in bodies(node).values():
                yield body, self.format_of(node).onnx

    @cached_property
    def held(self) -> dict[int, int]:
        """``elements``, once."""
        return self.elements()

    def elements(self) -> dict[int, int]:
        """Element type of every float activation, by ``id`` of the tensor."""
        found = {id(tensor): self.interface(tensor) for tensor in self.model.graph.inputs if element_type(tensor) in FLOATS}
        for body, element in self.inner():
            found |= {id(tensor): element for tensor in body.inputs if element_type(tensor) in FLOATS}
        for node in self.model.nodes():
            found |= {id(node.outputs[index]): element for index, element in self.writes(node).items()}
        return found


class Lowering:
    """One pass over all graphs: decide what each node reads and writes, then make tensors meet."""

    def __init__(self, typing: Typing, saturate: Collection[str]) -> None:
        self.typing = typing
        self.model = typing.model
        self.saturate = saturate
        self.edit = Editor(self.model)
        self.casts: dict[tuple[int, int], gs.Tensor] = {}
        self.after: dict[int, list[gs.Node]] = {}
        """New nodes by id of the node they follow; by id of the graph for those that come first."""
        self.scales: dict[int, gs.Tensor] = {}
        """By id of a DequantizeLinear, its scale as it was."""
        self.home: dict[int, int] = {}
        """Where casts of a tensor go: id of the node they follow, or of the graph they begin."""

    def run(self) -> None:
        graphs = list(self.model.graphs())
        for graph in graphs:
            self.home |= {id(tensor): id(graph) for tensor in graph.inputs}
            self.home |= {id(tensor): id(node) for node in graph.nodes for tensor in node.outputs}
        wants = [(node, self.typing.reads(node)) for node in self.model.nodes()]
        self.scales = {id(node): node.inputs[1] for node in self.model.nodes() if dequantizes(node)}
        borders: list[tuple[gs.Graph, int | None]] = [(self.model.graph, None), *self.typing.inner()]
        self.write_types()
        for node, wanted in wants:
            for index, element in wanted.items():
                node.inputs[index] = self.as_type(node.inputs[index], element)
        for graph, control in borders:
            self.settle_outputs(graph, control)
        self.place(graphs)

    def write_types(self) -> None:
        """Every activation's element type, and the attributes that say so."""
        elements = self.typing.elements()
        for graph in self.model.graphs():
            for tensor in (*graph.inputs, *(t for node in graph.nodes for t in node.outputs)):
                if id(tensor) in elements:
                    tensor.dtype = numpy_type(elements[id(tensor)])
            for node in graph.nodes:
                if node.op in TYPED_BY_ATTRIBUTE and node.outputs and element_type(node.outputs[0]) in FLOATS:
                    retype_attribute(node, element_type(node.outputs[0]))

    def as_type(self, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """``tensor`` in another type: a converted copy of a constant, or one shared Cast."""
        if element_type(tensor) == element:
            return tensor
        key = (id(tensor), element)
        if key not in self.casts:
            self.casts[key] = self.converted(tensor, element) if isinstance(tensor, gs.Constant) else self.cast(tensor, element)
        return self.casts[key]

    def converted(self, tensor: gs.Constant, element: int) -> gs.Constant:
        """An initializer in another type, rounded to nearest even, sign kept; only weights past the largest value become inf."""
        suffix = next(fmt.name for fmt in FORMATS.values() if fmt.onnx == element)
        return self.edit.constant(f"{tensor.name}/{suffix}", converted(tensor.values, element))

    def cast(self, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """A Cast right after the producer, through a Clip where an exit saturates."""
        suffix = next(fmt.name for fmt in FORMATS.values() if fmt.onnx == element)
        producer = tensor.inputs[0] if tensor.inputs else None
        if producer is not None and dequantizes(producer) and input_accepts(producer, 1, element, self.model.opset):
            return self.dequantized_again(producer, tensor, element, suffix)
        source = tensor
        if element == self.typing.narrow.onnx and tensor.name in self.saturate:
            source = self.saturated(tensor)
        out = self.edit.variable(f"{tensor.name}/{suffix}", element, tensor.shape)
        node = quick.node("Cast", self.edit.fresh(f"{tensor.name}/to_{suffix}"), attrs={"to": element}, inputs=[source], outputs=[out])
        self.queue(tensor, node)
        return out

    def dequantized_again(self, producer: gs.Node, tensor: gs.Tensor, element: int, suffix: str) -> gs.Tensor:
        """A second DequantizeLinear where readers disagree: nothing stands between it and those that read another type."""
        out = self.edit.variable(f"{tensor.name}/{suffix}", element, tensor.shape)
        inputs = [producer.inputs[0], self.as_type(self.scales[id(producer)], element), *producer.inputs[2:]]
        name = self.edit.fresh(f"{producer.name}/{suffix}")
        self.queue(tensor, quick.node(producer.op, name, attrs=dict(producer.attrs), inputs=inputs, outputs=[out]))
        return out

    def saturated(self, tensor: gs.Tensor) -> gs.Tensor:
        """``Clip(tensor, ±largest)`` in the tensor's own type."""
        clip, out = clipped(self.edit, tensor, self.typing.narrow.largest, f"{tensor.name}/saturated")
        self.queue(tensor, clip)
        return out

    def queue(self, tensor: gs.Tensor, node: gs.Node) -> None:
        self.after.setdefault(self.home[id(tensor)], []).append(node)

    def settle_outputs(self, graph: gs.Graph, control: int | None) -> None:
        """Make float outputs of a graph the type its outside expects, keeping their names."""
        for index, tensor in enumerate(graph.outputs):
            element = self.typing.interface(tensor) if control is None else control
            if element_type(tensor) not in FLOATS or element_type(tensor) == element:
                continue
            if isinstance(tensor, gs.Constant) or tensor in graph.inputs or graph is not self.model.graph:
                graph.outputs[index] = self.local_output(graph, tensor, element)
                continue
            name = tensor.name
            tensor.name = self.edit.fresh(f"{name}/{next(f.name for f in FORMATS.values() if f.onnx == element_type(tensor))}")
            out = quick.variable(name, dtype=numpy_type(element), shape=tensor.shape)
            self.queue(tensor, quick.node("Cast", self.edit.fresh(f"{name}/to_io"), attrs={"to": element}, inputs=[tensor], outputs=[out]))
            graph.outputs[index] = out

    def local_output(self, graph: gs.Graph, tensor: gs.Tensor, element: int) -> gs.Tensor:
        """A body's output must be produced in the body, even if the value comes from outside or is a constant."""
        out = self.edit.variable(f"{tensor.name}/out", element, tensor.shape)
        node = quick.node("Cast", self.edit.fresh(f"{tensor.name}/to_out"), attrs={"to": element}, inputs=[tensor], outputs=[out])
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
        node.attrs["value"] = quick.constant(f"{node.name}/value", np.asarray(fill).astype(numpy_type(element)))
    elif "dtype" in node.attrs:
        node.attrs["dtype"] = element


def count_types(model: Model) -> dict[str, int]:
    """What the outcome reports of a typed graph: nodes that compute, by the type they do it in, casts, and border Muls.

    A Reshape computes nothing. A product that an engine makes an FP16 kernel of (``graph.lone``) is no FP32 node.

    A Mul by a power of two between an FP32 graph input or output and its Cast is no FP32 node: it is counted as ``border_muls``.
    """
    counts = {"float_nodes": 0, "fp32_nodes": 0, "bf16_nodes": 0, "casts": 0, "border_muls": 0}
    narrow = kept_narrow(model)
    for node in model.nodes():
        floats = [element_type(t) for t in (*node.inputs, *node.outputs) if t.name and element_type(t) in FLOATS]
        if node.op == "Cast" and len(floats) == 2:
            counts["casts"] += 1
        elif node.name in model.border:
            counts["border_muls"] += node.op == "Mul"
        elif is_float_node(node) and node.op not in MOVEMENT:
            counts["float_nodes"] += 1
            own = {element_type(t) for t in node.outputs if t.name} & set(FLOATS) or set(floats)
            counts["fp32_nodes"] += FP32.onnx in own and node.name not in narrow
            counts["bf16_nodes"] += half.BF16.onnx in own
    return counts
