"""A typed graph (FP16, BF16, FP32 tensors) → an FP32 graph that rounds where the typed one stores, ready for ``graph.session``."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, put_before_readers, put_behind, redirect
from fp16fix.graph.lower import retype_attribute
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.operators import CONTROL, CONVERTING, MOVEMENT, SELECTION, TYPED_BY_ATTRIBUTE, operator
from fp16fix.graph.opset import raise_opset
from fp16fix.half import BF16, FP16, FP32
from fp16fix.strict.jitter import Jitter
from fp16fix.strict.profiles import profile_named
from fp16fix.strict.profiles.profile import Profile
from fp16fix.strict.rounds import bound
from fp16fix.strict.steps import spread

LOW = (FP16.onnx, BF16.onnx)
DOUBLE = onnx.TensorProto.DOUBLE
"""What an interface may hold; it is computed in FP32, as everything is that FP16 is compared with."""
OLDEST = 7
"""Opset from which ONNX Runtime has kernels for arithmetic."""
IN_GRAPH = 1 << 16
"""Bytes from which a low-precision weight stays low in memory and is widened by a Cast while running."""


def emulate(model: Model, profile: str = "compiled", jitter: Jitter | None = None, *, guarded: bool = False) -> Model:
    """The FP32 graph that computes what ``model`` computes when every FP16 or BF16 tensor is rounded where it is produced.

    Args:
        model: a typed graph; not changed.
        profile: what is assumed of the insides of operators, by name: see ``strict.profiles``.
        jitter: given, takes in the random errors before roundings; the graph then also wants what ``Jitter.feeds`` gives.
        guarded: fail where a Loop is stopped that does not end (``strict.rounds``); else go on with what it has by then.

    Returns:
        Inputs keep their names and take FP32 arrays, rounded on entry where the typed graph's input is low; outputs are FP32.

    Raises:
        ConfigError: there is no such profile.
    """
    return emulated(model, profile_named(profile), jitter, guarded=guarded)


def emulated(model: Model, assumed: Profile, jitter: Jitter | None = None, *, guarded: bool = False) -> Model:
    """``emulate`` under a profile itself."""
    # Before anything is written out: opset 6 has other rules of broadcasting.
    copy = assumed.written(raise_opset(model, OLDEST))
    copy.rounds = dict(model.rounds)
    spread(copy, assumed.one_step)
    bound(copy, guarded=guarded)
    Emulation(copy, assumed, jitter).run()
    return copy


class Emulation:
    """Rewrites one model in place."""

    def __init__(self, model: Model, profile: Profile, jitter: Jitter | None) -> None:
        self.model = model
        self.profile = profile
        self.jitter = jitter
        self.edit = Editor(model)
        self.low = {id(t): element_type(t) for t in self.all_tensors() if element_type(t) in LOW}

    def all_tensors(self) -> list[gs.Tensor]:
        """Every tensor object once, those of bodies included."""
        found: dict[int, gs.Tensor] = {}
        for graph in self.model.graphs():
            for tensor in (*graph.inputs, *graph.outputs):
                found[id(tensor)] = tensor
            for node in graph.nodes:
                for tensor in (*node.inputs, *node.outputs):
                    found[id(tensor)] = tensor
        return list(found.values())

    def run(self) -> None:
        tensors = self.all_tensors()
        widened: list[gs.Node] = []
        """Casts of weights, each to be put before its first reader; of what is looked up in a table, right behind that."""
        for tensor in tensors:
            if isinstance(tensor, gs.Constant) and id(tensor) in self.low:
                widened += self.widen(tensor)
        # A profile's own bodies are no part of the typed graph.
        for graph in list(self.model.graphs()):
            self.rewrite(graph, is_main=graph is self.model.graph)
        for tensor in tensors:
            if isinstance(tensor, gs.Variable) and (id(tensor) in self.low or element_type(tensor) == DOUBLE):
                tensor.dtype = np.dtype(np.float32)
        place_early(self.model.graph, widened)
        if self.jitter is not None:
            self.jitter.install(self.edit)

    def widen(self, tensor: gs.Constant) -> list[gs.Node]:
        """Low weights become FP32: small ones at once, big FP16 ones by a Cast that runs with the graph (half the memory)."""
        if tensor.values.nbytes <= IN_GRAPH or self.low[id(tensor)] != FP16.onnx:
            tensor.values = np.asarray(tensor.values).astype(np.float32)
            return []
        main = {id(node) for node in self.model.graph.nodes}
        picking = [node for node in tensor.outputs if id(node) in main and is_table(node, tensor)]
        casts = [self.looked_up(node) for node in picking]
        others = [node for node in tensor.outputs if not any(node is each for each in picking)]
        if others:
            wide = self.edit.variable(f"{tensor.name}/wide", FP32.onnx, tensor.shape)
            redirect(tensor, wide, readers=others)
            casts.append(quick.node("Cast", self.edit.fresh(f"{tensor.name}/widen"), {"to": FP32.onnx}, [tensor], [wide]))
        return casts

    def looked_up(self, node: gs.Node) -> gs.Node:
        """A Cast of what a node takes from an FP16 table, which is never FP32 as a whole."""
        taken = node.outputs[0]
        node.outputs[0] = low = self.edit.variable(f"{taken.name}/low", FP16.onnx, taken.shape)
        return quick.node("Cast", self.edit.fresh(f"{taken.name}/widen"), attrs={"to": FP32.onnx}, inputs=[low], outputs=[taken])

    def rewrite(self, graph: gs.Graph, *, is_main: bool) -> None:
        ordered: list[gs.Node] = []
        if is_main:
            for tensor in graph.inputs:
                if id(tensor) in self.low:
                    ordered += self.round_input(tensor)
        for node in graph.nodes:
            ordered.append(node)
            element = self.low.get(id(node.outputs[0]), 0) if node.outputs else 0
            if element and node.op in TYPED_BY_ATTRIBUTE:
                retype_attribute(node, FP32.onnx)
            elif node.op == "Cast" and node.attrs["to"] in (*LOW, DOUBLE):
                node.attrs["to"] = FP32.onnx
            if node.op in MOVEMENT or node.op in CONTROL or (node.op in SELECTION and self.all_rounded(node)):
                continue
            for index, tensor in enumerate(node.outputs):
                if id(tensor) in self.low:
                    ordered += self.round_output(node, index, tensor)
            if node.op == "Cast" and node.attrs["to"] == FP32.onnx and self.is_float(node.inputs[0]):
                # From FP32 to FP32 by now; a Cast would copy.
                node.op, node.attrs = "Identity", {}
        graph.nodes[:] = ordered

    def is_float(self, tensor: gs.Tensor) -> bool:
        """FP16, BF16 or FP32 in the typed graph."""
        return id(tensor) in self.low or element_type(tensor) in (FP32.onnx, DOUBLE)

    def all_rounded(self, node: gs.Node) -> bool:
        """Every float input is a low tensor (already rounded), so picking among them needs no rounding."""
        return all(id(t) in self.low for t in node.inputs if t.name and element_type(t) in (FP32.onnx, *LOW)) and not (
            node.op == "Clip" and "min" in node.attrs
        )

    def round_output(self, node: gs.Node, index: int, tensor: gs.Tensor) -> list[gs.Node]:
        """``node`` writes a raw FP32 tensor; the old name holds its rounding, so all consumers and outputs see rounded values."""
        raw = self.edit.variable(f"{tensor.name}/raw", FP32.onnx, tensor.shape)
        node.outputs[index] = raw
        element = self.low[id(tensor)]
        held, extra = self.profile.result(self.edit, node, raw) if element == FP16.onnx else (raw, [])
        if self.jitter is not None and node.op not in CONVERTING | SELECTION:
            held, moved = self.jitter.added(self.edit, held, element)
            extra = [*extra, *moved]
        return [*extra, *self.edit.rounding(held, element, tensor)[0]]

    def round_input(self, tensor: gs.Tensor) -> list[gs.Node]:
        rounded = self.edit.variable(f"{tensor.name}/rounded", FP32.onnx, tensor.shape)
        redirect(tensor, rounded)
        return self.edit.rounding(tensor, self.low[id(tensor)], rounded)[0]


def is_table(node: gs.Node, tensor: gs.Tensor) -> bool:
    """Whether a node takes a few values of a tensor and does nothing else with it."""
    return operator(node.op).index == 1 and node.op in MOVEMENT and node.inputs[0] is tensor and node.inputs[1] is not tensor


def place_early(graph: gs.Graph, widened: list[gs.Node]) -> None:
    """Each Cast of a weight right before its first reader: nodes run in this order, and all of them at once would be an FP32 model.

    That of what is made, right behind its maker.
    """
    put_behind(graph, {node.inputs[0].name: node for node in widened if node.inputs[0].inputs})
    put_before_readers(graph, [[node] for node in widened if not node.inputs[0].inputs])
