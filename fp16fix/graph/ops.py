"""What ONNX's schemas say of a node: which types its inputs accept, which its outputs follow, whether it can run in a type."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.model import FLOATS, element_type, is_tensor
from fp16fix.graph.operators import CONTROL, NO_BF16, TYPED_BY_ATTRIBUTE
from fp16fix.half import BF16

DEFAULT_DOMAINS = (None, "", "ai.onnx")
CONTRIB = "com.microsoft"
"""Domain of the operators that ONNX Runtime brings itself."""


@lru_cache(maxsize=4096)
def schema_of(op: str, domain: str, opset: int) -> onnx.defs.OpSchema | None:
    """The ONNX operator schema in force at ``opset``, or None for operators ONNX does not know."""
    try:
        return onnx.defs.get_schema(op, opset, domain)
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=1)
def contributed() -> dict[str, Any]:
    """ONNX Runtime's own operators by name, the newest of each; as its Python package describes them, if it does."""
    try:
        from onnxruntime.capi import onnxruntime_pybind11_state as runtime

        schemas = runtime.get_all_operator_schema()
    except (ImportError, AttributeError):
        return {}
    return {each.name: each for each in sorted(schemas, key=lambda each: each.since_version) if each.domain == CONTRIB}


def schema(node: gs.Node, opset: int) -> Any:
    """Schema of a node of the default domain or of com.microsoft; None for others."""
    if node.domain == CONTRIB:
        return contributed().get(node.op)
    return schema_of(node.op, "", opset) if node.domain in DEFAULT_DOMAINS else None


def allowed(found: Any) -> dict[str, frozenset[str]]:
    """Allowed type strings of every type variable of an operator."""
    return {c.type_param_str: frozenset(c.allowed_type_strs) for c in found.type_constraints}


def port_variable(formal: object, index: int) -> str:
    """The type variable of the ``index``-th actual parameter; the last formal one may be variadic."""
    parameters = list(formal)  # type: ignore[call-overload]
    found = parameters[min(index, len(parameters) - 1)] if parameters else None
    return str(getattr(found, "type_str", "") or getattr(found, "typeStr", ""))


RUNTIME_STRING = {1: "tensor(float)", 10: "tensor(float16)", 16: "tensor(bfloat16)", 11: "tensor(double)"}


def input_accepts(node: gs.Node, index: int, element: int, opset: int) -> bool:
    """Whether the schema lets input ``index`` be of ``element`` type (independently of the other inputs)."""
    found = schema(node, opset)
    if found is None:
        return element == element_type(node.inputs[index])
    variable = port_variable(found.inputs, index)
    types = allowed(found).get(variable)
    return RUNTIME_STRING[element] in types if types is not None else variable == RUNTIME_STRING[element]


def output_follows_inputs(node: gs.Node, index: int, opset: int) -> bool:
    """Whether output ``index`` shares its type variable with some float input."""
    found = schema(node, opset)
    if found is None or node.op in TYPED_BY_ATTRIBUTE:
        return False
    variable = port_variable(found.outputs, index)
    return any(port_variable(found.inputs, i) == variable for i, t in enumerate(node.inputs) if t.name and element_type(t) in FLOATS)


def runs_in(node: gs.Node, element: int, opset: int) -> bool:
    """Whether a node can compute in ``element`` type: every float input whose type its float outputs share accepts it.

    BF16 forms that TensorRT does not take count as none.
    """
    if node.op in CONTROL:
        return True
    if element == BF16.onnx and node.op in NO_BF16:
        return False
    found = schema(node, opset)
    if found is None or not all(is_tensor(tensor) for tensor in (*node.inputs, *node.outputs)):
        return False
    if node.op in TYPED_BY_ATTRIBUTE:
        return all(RUNTIME_STRING[element] in types for name, types in allowed(found).items() if name == port_variable(found.outputs, 0))
    tied = {port_variable(found.outputs, i) for i, t in enumerate(node.outputs) if t.name and element_type(t) in FLOATS}
    ports = [i for i, t in enumerate(node.inputs) if t.name and element_type(t) in FLOATS]
    tied_ports = [i for i in ports if port_variable(found.inputs, i) in tied] or ports
    return all(input_accepts(node, i, element, opset) for i in tied_ports)


def float_inputs(node: gs.Node) -> list[gs.Tensor]:
    """Named float inputs."""
    return [t for t in node.inputs if t.name and element_type(t) in FLOATS]


def float_outputs(node: gs.Node) -> list[gs.Tensor]:
    """Named float outputs."""
    return [t for t in node.outputs if t.name and element_type(t) in FLOATS]


def is_float_node(node: gs.Node) -> bool:
    """Whether the node computes on or produces floats (shape arithmetic does not count)."""
    return bool(float_inputs(node) or float_outputs(node))
