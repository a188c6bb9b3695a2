"""Nodes, tensors and copies of graphs as onnx-graphsurgeon makes them, at a fifth of its time: its own constructors look up what they set.

A repair makes some ten nodes and tensors for each node of the model, dozens of times; ``tests/graph/test_quick.py`` holds what comes out to
what onnx-graphsurgeon makes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import onnx_graphsurgeon as gs
from onnx_graphsurgeon.util.misc import SynchronizedList

T = TypeVar("T", bound=gs.Tensor)
TENSOR = "tensor_type"
"""What graphsurgeon calls the type of a tensor."""


def variable(name: str, dtype: Any = None, shape: Any = None, kind: str = TENSOR) -> gs.Variable:
    """``gs.Variable``."""
    return tensor(gs.Variable, name, dtype=dtype, shape=shape, type=kind)


def constant(name: str, values: Any) -> gs.Constant:
    """``gs.Constant`` of an array, or of what onnx-graphsurgeon holds in the place of one."""
    return tensor(gs.Constant, name, _values=values, data_location=None, _export_dtype=None)


def tensor(kind: type[T], name: str, **rest: Any) -> T:
    """A tensor that no node knows, with the fields that its kind has beside those of all."""
    made = object.__new__(kind)
    fields = vars(made)
    fields["name"], fields["inputs"], fields["outputs"] = name, linked(made, "outputs"), linked(made, "inputs")
    fields.update(rest)
    return made


def node(
    op: str,
    name: str,
    attrs: dict[str, Any] | None = None,
    inputs: Iterable[gs.Tensor] = (),
    outputs: Iterable[gs.Tensor] = (),
    domain: str | None = None,
) -> gs.Node:
    """``gs.Node``, which its inputs and outputs know of."""
    made = object.__new__(gs.Node)
    fields = vars(made)
    fields["op"], fields["name"], fields["attrs"] = op, name, {} if attrs is None else attrs
    fields["inputs"], fields["outputs"] = linked(made, "outputs", inputs), linked(made, "inputs", outputs)
    fields["domain"] = domain
    return made


def linked(owner: gs.Node | gs.Tensor, field: str, held: Iterable[gs.Tensor] = ()) -> Any:
    """A list of what a node or tensor is linked to, each of which has its ``owner`` in ``field``."""
    made = list.__new__(SynchronizedList)
    fields = vars(made)
    fields["parent_obj"], fields["field_name"] = owner, field
    list.extend(made, held)
    for each in made:
        list.append(vars(each)[field], owner)
    return made


def copied(graph: gs.Graph, outside: Mapping[str, gs.Tensor] | None = None) -> gs.Graph:
    """``gs.Graph.copy``, but for what that forgets or adds: the type of what is no tensor stays, that of a constant is its values'.

    Args:
        graph: stays as it is; values of weights are shared.
        outside: what a body's copy reads itself, by name, where the body does not make it.
    """
    found: dict[str, gs.Tensor] = {tensor.name: tensor for tensor in graph.inputs}
    own = set(found)
    for each in graph.nodes:
        for one in each.inputs:
            found[one.name] = one
        for one in each.outputs:
            found[one.name] = one
            own.add(one.name)
    found |= {tensor.name: tensor for tensor in graph.outputs}
    known = dict(outside or {})
    for name, tensor in found.items():
        if isinstance(tensor, gs.Constant):
            known[name] = constant(name, tensor._values)  # noqa: SLF001 - looked at, it would be read
        elif name in own or name not in known:
            known[name] = variable(name, tensor.dtype, tensor.shape, tensor.type)

    def of(tensors: Iterable[gs.Tensor]) -> list[gs.Tensor]:
        # What is left out has no name, and is nobody else's.
        return [known[tensor.name] if tensor.name else variable("") for tensor in tensors]

    made = gs.Graph(
        inputs=of(graph.inputs),
        outputs=of(graph.outputs),
        name=graph.name,
        doc_string=graph.doc_string,
        opset=graph.opset,
        import_domains=graph.import_domains,
        functions=list(graph.functions),
        ir_version=graph.ir_version,
    )
    for each in graph.nodes:
        inputs, outputs = of(each.inputs), of(each.outputs)
        made.nodes.append(node(each.op, each.name, with_bodies(each.attrs, known), inputs, outputs, each.domain))
    return made


def with_bodies(attrs: Mapping[str, Any], known: Mapping[str, gs.Tensor]) -> dict[str, Any]:
    """Attributes of a node's copy."""
    return {key: copied(value, known) if isinstance(value, gs.Graph) else value for key, value in attrs.items()}
