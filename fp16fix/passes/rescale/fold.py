"""A model (already a copy) and exponents → the same function on rescaled tensors: constants and attributes folded, shifts inserted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
import onnx_graphsurgeon as gs

from fp16fix.errors import ReplayError
from fp16fix.graph import quick
from fp16fix.graph.edit import Editor, redirect
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.operators import CONTROL
from fp16fix.graph.ops import schema
from fp16fix.passes.rescale.equations import address, equations, operands, ties
from fp16fix.passes.rescale.windows import SENTINEL

STEP = 14
"""Octaves one run-time Mul may shift: its factor must be a normal FP16 number."""


def fold(model: Model, exponents: Mapping[str, int]) -> None:
    """Edit ``model`` so that tensor t holds true × 2^−e; interface tensors keep names and values.

    Args:
        model: a copy; weight arrays are replaced, never edited in place.
        exponents: tensor → e, for activations and initializers; ``tensor→node#index`` → what that use adds to e: a run-time Mul
            for an activation, a copy for an initializer. Whatever is not named is 0. FP32 outputs equal the original's bit for bit
            except where FP32 subnormals enter. Nodes at the interface are listed in ``Model.border`` and belong in FP32.

    Raises:
        ReplayError: a name that the model does not have, or exponents that break the law of some node.
    """
    Folding(model, exponents).run()


class Folding:
    """One edit: everything is read from the untouched graph first, then changed."""

    def __init__(self, model: Model, exponents: Mapping[str, int]) -> None:
        self.model = model
        self.exponents = exponents
        self.edit = Editor(model)

    def run(self) -> None:
        nodes = list(self.model.nodes())
        self.check_names(nodes)
        attributes = [(node, name, e) for node in nodes for name, e in self.attributes(node) if e]
        shifts = [
            (node, index, self.use(tensor, node, index))
            for node, index, tensor in float_uses(nodes)
            if isinstance(tensor, gs.Variable) and self.exponents.get(address(tensor.name, node.name, index), 0)
        ]
        constants = self.constant_uses(nodes)
        for node, name, e in attributes:
            scale_attribute(node, name, e, self.model.opset)
        for tensor, uses in constants:
            self.fold_constant(tensor, uses)
        made: dict[tuple[int, str, int], gs.Tensor] = {}
        for node, index, e in shifts:
            self.shift(node, index, e, made)
        for tensor in list(self.model.graph.inputs):
            if self.base(tensor):
                self.input_border(tensor)
        for tensor in list(self.model.graph.outputs):
            if self.base(tensor) and isinstance(tensor, gs.Variable):
                self.output_border(tensor)

    def base(self, tensor: gs.Tensor) -> int:
        """The exponent a tensor is stored with."""
        return self.exponents.get(tensor.name, 0)

    def use(self, tensor: gs.Tensor, node: gs.Node, index: int) -> int:
        """The exponent with which one input of a node sees a tensor."""
        return self.base(tensor) + self.exponents.get(address(tensor.name, node.name, index), 0)

    def check_names(self, nodes: list[gs.Node]) -> None:
        known = set(self.model.tensors()) | {address(tensor.name, node.name, index) for node, index, tensor in float_uses(nodes)}
        unknown = sorted(set(self.exponents) - known)
        if unknown:
            raise ReplayError(
                f"the recipe rescales {unknown[0]!r}, which is no float tensor of the graph",
                where=self.model.name,
                hint="use the recipe with the model it was made for",
            )

    def attributes(self, node: gs.Node) -> Iterator[tuple[str, int]]:
        """Attributes that the node's laws rescale, with their exponents; raises if another law is broken."""
        if node.op in CONTROL:
            for tensor, index, other in ties(node):
                e = self.base(tensor) if index is None else self.use(tensor, node, index)
                if e != self.base(other):
                    raise self.broken(node, f"{tensor.name!r} and {other.name!r} must share one exponent")
            return
        seen = {port: self.use(t, node, int(port[1:])) if port[0] == "x" else self.base(t) for port, t in operands(node).items()}
        for equation in equations(node):
            total = sum(factor * seen[port] for port, factor in equation if port in seen)
            rest = [(port, factor) for port, factor in equation if port not in seen]
            if rest:
                yield rest[0][0][1:], -total // rest[0][1]
            elif total:
                raise self.broken(node, " + ".join(f"{factor}·e({port})" for port, factor in equation) + " = 0")

    def broken(self, node: gs.Node, law: str) -> ReplayError:
        return ReplayError(
            f"the exponents break the law of {node.op}: {law}",
            where=f"{self.model.name}, node {node.name!r}",
            hint="use the recipe with the model it was made for",
        )

    def constant_uses(self, nodes: list[gs.Node]) -> list[tuple[gs.Constant, dict[int, list[tuple[gs.Node, int]]]]]:
        """Initializers that change: by exponent, the uses that want it (results of a graph want the exponent of the name)."""
        found: dict[int, tuple[gs.Constant, dict[int, list[tuple[gs.Node, int]]]]] = {}
        for node, index, tensor in float_uses(nodes):
            if isinstance(tensor, gs.Constant):
                uses = found.setdefault(id(tensor), (tensor, {}))[1]
                uses.setdefault(self.use(tensor, node, index), []).append((node, index))
        for graph in self.model.graphs():
            for tensor in graph.outputs:
                if isinstance(tensor, gs.Constant) and self.base(tensor):
                    found.setdefault(id(tensor), (tensor, {}))[1].setdefault(self.base(tensor), [])
        return [(tensor, uses) for tensor, uses in found.values() if any(uses)]

    def fold_constant(self, tensor: gs.Constant, uses: dict[int, list[tuple[gs.Node, int]]]) -> None:
        """The array under its own name takes the exponent of the name, or the commonest one; other exponents get a copy each."""
        own = self.base(tensor) if self.base(tensor) in uses else max(sorted(uses), key=lambda e: len(uses[e]))
        values = tensor.values
        for e in sorted(uses):
            if e == own:
                continue
            other = self.edit.constant(f"{tensor.name}/e{e}", shifted(values, e))
            for node, index in uses[e]:
                node.inputs[index] = other
        if own:
            tensor.values = shifted(values, own)

    def shift(self, node: gs.Node, index: int, e: int, made: dict[tuple[int, str, int], gs.Tensor]) -> None:
        """Let one input of ``node`` read its tensor at exponent ``e``, sharing the Mul with other readers in the same graph."""
        tensor = node.inputs[index]
        key = (id(self.edit.owner(node)), tensor.name, e)
        if e == 0 and any(tensor is each for each in self.model.graph.inputs):
            made.setdefault(key, self.raw(tensor))
        if key not in made:
            result, left = tensor, self.base(tensor) - e
            while left:
                step = max(-STEP, min(STEP, left))
                result, left = self.times(result, step, node), left - step
            made[key] = result
        node.inputs[index] = made[key]

    def raw(self, tensor: gs.Tensor) -> gs.Tensor:
        """A graph input as it comes, past its own border Mul."""
        raw = self.edit.variable(f"{tensor.name}/raw", element_type(tensor), tensor.shape)
        self.at_border(0, "Identity", f"{tensor.name}/raw", [tensor], [raw])
        return raw

    def at_border(self, index: int, op: str, name: str, inputs: list[gs.Tensor], outputs: list[gs.Tensor]) -> None:
        """A node between the interface and what is stored."""
        self.model.border.add(self.edit.insert(self.model.graph, index, op, f"{name}/border", inputs, outputs).name)

    def times(self, tensor: gs.Tensor, octaves: int, before: gs.Node) -> gs.Tensor:
        result = self.edit.variable(f"{tensor.name}/shift", element_type(tensor), tensor.shape)
        factor = self.factor(f"{result.name}/factor", tensor, octaves)
        self.edit.before(before, "Mul", result.name, [tensor, factor], [result])
        return result

    def factor(self, name: str, like: gs.Tensor, octaves: int) -> gs.Constant:
        return self.edit.constant(name, np.asarray(2.0**octaves, dtype=onnx.helper.tensor_dtype_to_np_dtype(element_type(like))))

    def input_border(self, tensor: gs.Tensor) -> None:
        """Consumers read the input times 2^−e."""
        stored = self.edit.variable(f"{tensor.name}/stored", element_type(tensor), tensor.shape)
        redirect(tensor, stored, readers=[node for node in tensor.outputs if node.name not in self.model.border])
        factor = self.factor(f"{tensor.name}/border/factor", tensor, -self.base(tensor))
        self.at_border(0, "Mul", tensor.name, [tensor, factor], [stored])

    def output_border(self, tensor: gs.Tensor) -> None:
        """The output is what was stored, times 2^e."""
        stored = self.edit.variable(f"{tensor.name}/stored", element_type(tensor), tensor.shape)
        for node in list(tensor.inputs):
            for index, made in enumerate(node.outputs):
                if made is tensor:
                    node.outputs[index] = stored
        redirect(tensor, stored)
        factor = self.factor(f"{tensor.name}/border/factor", tensor, self.base(tensor))
        self.at_border(len(self.model.graph.nodes), "Mul", tensor.name, [stored, factor], [tensor])


def float_uses(nodes: list[gs.Node]) -> Iterator[tuple[gs.Node, int, gs.Tensor]]:
    """(node, index, tensor) of every float operand."""
    for node in nodes:
        for port, tensor in operands(node).items():
            if port[0] == "x":
                yield node, int(port[1:]), tensor


def shifted(values: np.ndarray, e: int) -> np.ndarray:
    """A new array of values × 2^−e, literals that mean infinity kept."""
    wide = values.astype(np.float32) if values.dtype.itemsize < 4 else values
    with np.errstate(over="ignore", under="ignore"):
        scaled = np.asarray(np.ldexp(wide, -e), dtype=wide.dtype)
    if e < 0 and scaled.size and not np.isfinite(scaled).all():
        scaled = np.where(np.abs(wide) >= SENTINEL, wide, scaled)
    return np.asarray(scaled, dtype=values.dtype)


def scale_attribute(node: gs.Node, name: str, e: int, opset: int) -> None:
    """Times 2^−e, its default written out first; absent ones without a default stay absent."""
    value = node.attrs.get(name)
    found = schema(node, opset)
    if value is None and found is not None and name in found.attributes:
        proto = found.attributes[name].default_value
        value = onnx.helper.get_attribute_value(proto) if proto.type == onnx.AttributeProto.FLOAT else None
    if isinstance(value, gs.Constant):
        node.attrs[name] = quick.constant(value.name, shifted(value.values, e))
    elif value is not None and abs(value) < SENTINEL:
        node.attrs[name] = float(value) * 2.0**-e
