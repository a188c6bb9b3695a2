"""Operators that nothing here computes (a plugin without a kernel): cut out of a graph, and put back into whatever is written of it.

What they read becomes outputs of the rest, so that the verdict holds it to a bound; what they give and others read becomes inputs, which
samples must record.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

import numpy as np
import onnx
import onnx.numpy_helper
from onnxruntime.capi.onnxruntime_pybind11_state import get_all_opkernel_def

from fp16fix.graph import runtime
from fp16fix.graph.protos import reads, sort

DEFAULT = ("", "ai.onnx")
"""Spellings of ONNX's own domain."""
SHOWN = 3
"""Names that a sentence lists."""
Message = TypeVar("Message", onnx.NodeProto, onnx.ValueInfoProto, onnx.TensorProto)


@dataclass(frozen=True, slots=True)
class Opaque:
    """What was cut out of a graph, and how the graph was closed."""

    nodes: tuple[onnx.NodeProto, ...] = ()
    weights: Mapping[str, onnx.TensorProto] = field(default_factory=dict)
    """Constants that they read, by name."""
    recorded: Mapping[str, str] = field(default_factory=dict)
    """Inputs of the rest that samples must record → the node that gives them."""
    held: tuple[str, ...] = ()
    """Outputs of the rest that the file does not have: what the nodes read."""
    results: tuple[onnx.ValueInfoProto, ...] = ()
    """Outputs of the file, in its order."""

    @property
    def touched(self) -> frozenset[str]:
        """Tensors that keep the type which the file gives them, whatever interface is asked for: a kernel takes one type."""
        return frozenset(name for node in self.nodes for name in (*node.input, *node.output) if name)

    @property
    def names(self) -> frozenset[str]:
        """Of the nodes and of all they read and give: not to be given to anything else."""
        return self.touched | {node.name for node in self.nodes}

    @property
    def lost(self) -> tuple[str, ...]:
        """Outputs of the file that the nodes give: nothing here can compare them."""
        given = {name for node in self.nodes for name in node.output}
        return tuple(value.name for value in self.results if value.name in given)

    @property
    def named(self) -> str:
        """``/nms (EfficientNMS_TRT)``."""
        more = f" and {len(self.nodes) - SHOWN} more" if len(self.nodes) > SHOWN else ""
        return ", ".join(map(called, self.nodes[:SHOWN])) + more

    def warnings(self) -> Iterator[str]:
        """How far a verdict on the rest goes."""
        if self.nodes:
            given = f", not on what comes out of it ({', '.join(self.lost)})" if self.lost else ""
            yield f"Nothing here computes {self.named}; it stays as it is, and the verdict is on what goes into it{given}."
        if self.recorded:
            yield f"{', '.join(self.recorded)} came out of the samples, as recorded: what rounding would change in it is not known."


def called(node: onnx.NodeProto) -> str:
    """``/nms (EfficientNMS_TRT)``."""
    return f"{node.name} ({node.op_type})"


def opaque_nodes(proto: onnx.ModelProto) -> set[int]:
    """Where the main graph has nodes that neither ONNX Runtime, its functions nor a stand-in computes; libraries may hold any."""
    if runtime.has_libraries():
        return set()
    own = {(each.domain, each.name) for each in proto.functions}
    return {
        index
        for index, node in enumerate(proto.graph.node)
        if (node.domain, node.op_type) not in own and runtime.stand_in_of(node) is None and not computed(node.domain, node.op_type)
    }


@cache
def computed(domain: str, op: str) -> bool:
    """Whether ONNX Runtime has a kernel for an operator, or ONNX a function that it is made of; a schema alone computes nothing.

    ONNX Runtime has schemas of some of TensorRT's plugins, to hand them on.
    """
    asked = ("" if domain in DEFAULT else domain, op)
    if asked in kernels() or asked == ("", "Constant"):
        return True
    versions = [each for each in onnx.defs.get_all_schemas_with_history() if (each.domain, each.name) == asked]
    return any(each.has_function or each.has_context_dependent_function for each in versions)  # type: ignore[attr-defined]


@cache
def kernels() -> frozenset[tuple[str, str]]:
    """Domains and names of operators that ONNX Runtime has a kernel for."""
    return frozenset((each.domain, each.op_name) for each in get_all_opkernel_def())


def cut(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> Opaque:
    """Take such nodes out, in place; nothing where no output would be left.

    Args:
        proto: whose nodes have names.
        weights: the arrays of initializers whose bytes are not in it.
    """
    graph, places = proto.graph, opaque_nodes(proto)
    if not places:
        return Opaque()
    nodes = list(copied(graph.node))
    gone = [node for index, node in enumerate(nodes) if index in places]
    kept = [node for index, node in enumerate(nodes) if index not in places]
    given = {name: called(node) for node in gone for name in node.output if name}
    wanted = {name for node in gone for name in node.input if name}
    constants = literals(proto, weights, wanted)
    results, read = list(copied(graph.output)), {name for node in kept for name in reads(node)}
    outputs = [value for value in results if value.name not in given]
    made = [name for node in kept for name in node.output if name in wanted and name not in constants]
    held = tuple(name for name in made if name not in {value.name for value in outputs})
    if not outputs and not held:
        return Opaque()
    declared = {value.name: value for value in copied((*graph.value_info, *graph.output))}
    recorded = {name: node for name, node in given.items() if name in read}
    known = [value for value in copied(graph.value_info) if value.name not in {*given, *held}]
    del graph.node[:], graph.output[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.output.extend([*outputs, *(declared.get(name, onnx.ValueInfoProto(name=name)) for name in held)])
    graph.input.extend(typed(declared.get(name), name) for name in recorded)
    graph.value_info.extend(known)
    return Opaque(tuple(gone), constants, recorded, held, tuple(results))


def put_back(proto: onnx.ModelProto, opaque: Opaque) -> None:
    """Make a graph whole again, in place: the nodes where they were, inputs and outputs those of the file."""
    if not opaque.nodes:
        return
    graph = proto.graph
    now = {value.name: value for value in copied(graph.output)}
    inputs = [value for value in copied(graph.input) if value.name not in opaque.recorded]
    del graph.input[:], graph.output[:]
    graph.input.extend(inputs)
    graph.output.extend(now.get(value.name, value) for value in opaque.results)
    nodes = list(copied(opaque.nodes))
    bring_weights(graph, opaque.weights, nodes)
    graph.node.extend(nodes)
    sort(graph)


def bring_weights(graph: onnx.GraphProto, weights: Mapping[str, onnx.TensorProto], nodes: Iterable[onnx.NodeProto]) -> None:
    """Add what nodes read; under another name where one that was changed meanwhile has its own, and the nodes, in place, read that."""
    present = {tensor.name: tensor for tensor in copied(each for each in graph.initializer if each.name in weights)}
    for name, tensor in weights.items():
        if present.get(name) == tensor:
            continue
        (own,) = copied([tensor])
        if name in present:
            own.name = f"{name}/given"
            for node in nodes:
                node.input[:] = [own.name if each == name else each for each in node.input]
        graph.initializer.append(own)


def literals(proto: onnx.ModelProto, weights: Mapping[str, np.ndarray], wanted: Collection[str]) -> dict[str, onnx.TensorProto]:
    """Initializers and dense constants of the main graph, those of these names."""
    found = {
        tensor.name: onnx.numpy_helper.from_array(weights[tensor.name], tensor.name) if tensor.name in weights else tensor
        for tensor in copied(each for each in proto.graph.initializer if each.name in wanted)
    }
    for node in proto.graph.node:
        for attribute in node.attribute if node.op_type == "Constant" and node.output[0] in wanted else ():
            if attribute.name == "value":
                (value,) = copied([attribute.t])
                value.name = node.output[0]
                found[value.name] = value
    return found


def copied(messages: Iterable[Message]) -> Iterator[Message]:
    """Free of the proto that holds them."""
    for each in messages:
        yield type(each).FromString(each.SerializeToString())


def typed(value: onnx.ValueInfoProto | None, name: str) -> onnx.ValueInfoProto:
    """What is declared of a tensor; of one that nothing is declared of, that it is FP32, of whatever rank."""
    if value is not None and value.type.tensor_type.elem_type:
        return value
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
