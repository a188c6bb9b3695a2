"""A model and a newer opset → the same model in it: only nodes whose operator changed go through ONNX's version converter, one by one.

Converted alone, a node carries no weights, its neighbours keep their names, and a body is as easy to convert as the main graph.
"""

from __future__ import annotations

from functools import cache

import onnx
import onnx.version_converter
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError, UnraisableError
from fp16fix.graph import quick
from fp16fix.graph.admit import complaint
from fp16fix.graph.edit import Editor, editor_of
from fp16fix.graph.export import exported
from fp16fix.graph.model import Model, bodies, constant, element_type, numpy_type
from fp16fix.graph.operators import FLATTENING
from fp16fix.graph.ops import DEFAULT_DOMAINS, schema_of
from fp16fix.half import BF16

EMBEDDED = 1024
"""Bytes up to which a constant operand is shown to the converter as such; some adapters read shapes and axes."""


def raise_opset(model: Model, target: int) -> Model:
    """The model in opset ``target``: itself if it is there already, else a copy in which whatever stays keeps its name.

    Raises:
        UnraisableError: an operator has no conversion; the message names it.
    """
    if model.opset >= target:
        return model
    raised = model.copy()
    raise_in_place(raised, target)
    return raised


def in_opset(model: Model, wanted: int | None) -> Model:
    """The model in the opset that was asked for, or as it is.

    Raises:
        UnraisableError: an operator has no conversion; the message names it.
        ModelError: it is newer; nothing is converted down.
    """
    if wanted is None:
        return model
    if model.opset > wanted:
        said = f"is in opset {model.opset}, and nothing is converted down to {wanted}"
        raise ModelError(said, where=model.name, hint="leave --opset out, or export the model again")
    newest = onnx.defs.onnx_opset_version()
    if wanted > newest:
        raise ModelError(
            f"opset {wanted} is newer than ONNX {onnx.__version__} knows ({newest})", where="opset", hint="pip install -U onnx"
        )
    return raise_opset(model, wanted)


def raise_in_place(model: Model, target: int) -> None:
    """The same, editing the model; after an error it is of no use.

    Raises:
        UnraisableError: as ``raise_opset``.
    """
    if model.opset >= target:
        return
    source, edit = model.opset, editor_of(model)
    for graph in list(model.graphs()):
        for node in list(graph.nodes):
            if node.domain in DEFAULT_DOMAINS and changed(node.op, source, target):
                convert(edit, node, source, target)
    imports = [each for each in model.graph.import_domains or [] if each.domain not in ("", "ai.onnx")]
    for graph in model.graphs():
        graph.opset = target
        graph.import_domains = [onnx.helper.make_opsetid("", target), *imports]
    oldest = onnx.helper.find_min_ir_version_for([onnx.helper.make_opsetid("", target)], ignore_unknown=True)
    model.graph.ir_version = max(model.graph.ir_version or 0, oldest)


FORMS = {BF16: (13, 22)}
"""By format, the opset from which a Cast makes it, and that from which every operator has it that ever will (ONNX operator changelog)."""


def with_forms(model: Model, wanted: int | None) -> Model:
    """The model in an opset whose operators have forms in its narrow type, as many as can be had; itself for FP16, which all of them have.

    Args:
        model: what it is to run in is known.
        wanted: the opset that the user asked for; nothing is raised past it.

    Raises:
        UnraisableError: not even Cast can have a form in the narrow type.
    """
    least, most = FORMS.get(model.narrow, (0, 0))
    if model.opset >= most:
        return model
    why = ""
    for target in range(min(most, wanted or most), max(least, model.opset + 1) - 1, -1):
        try:
            raised = raise_opset(model, target)
        except UnraisableError as error:
            why = why or error.what
            continue
        said = f" Operators that have no {model.narrow} there stay FP32: {why}." if why else ""
        raised.notes.append(f"Raised from opset {model.opset} to {target}, where operators have {model.narrow} forms.{said}")
        return raised
    if model.opset < least:
        said = why or f"opset {model.opset} has no {model.narrow}, and nothing past opset {wanted} was asked for"
        raise UnraisableError(said, where=model.name, hint=f"{model.narrow} needs opset {least} or newer")
    if why:
        model.notes.append(f"Stays in opset {model.opset}: {why}. Operators that have no {model.narrow} there stay FP32.")
    return model


def obstacle(model: Model, target: int) -> str:
    """Why ``raise_opset`` fails; empty if it does not."""
    try:
        raise_opset(model, target)
    except UnraisableError as error:
        return error.what
    return ""


@cache
def changed(op: str, source: int, target: int) -> bool:
    """Whether an operator's attributes or operands differ between two opsets, types aside: new element types break nothing."""
    old, new = schema_of(op, "", source), schema_of(op, "", target)
    if old is None or (new is not None and old.since_version == new.since_version and not new.deprecated):
        return False
    return new is None or new.deprecated or signature(old) != signature(new)


def signature(schema: onnx.defs.OpSchema) -> tuple[object, ...]:
    """What a node of an operator may say, comparable."""
    sorted_items = sorted(schema.attributes.items())
    attributes = [(key, each.type, each.required, each.default_value.SerializeToString()) for key, each in sorted_items]
    ports = [(each.name, each.option) for formal in (schema.inputs, schema.outputs) for each in formal]
    return (attributes, ports)


def convert(edit: Editor, node: gs.Node, source: int, target: int) -> None:
    """Replace one node by what the version converter makes of it."""
    where = edit.model.name
    if node.op in FLATTENING and source < ALONG_AN_AXIS <= target:
        along_an_axis(edit, node)
        return
    if bodies(node):
        raise UnraisableError(f"opset {source} cannot be raised to {target}: {node.op} {node.name!r} changed its form", where=where)
    try:
        proto = onnx.version_converter.convert_version(alone(node, source), target)
        proto = onnx.shape_inference.infer_shapes(proto)
        check(proto)
    except Exception as error:  # the converter's C++ assertions, inference and the checker share no base class
        said = str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
        raise UnraisableError(
            f"opset {source} cannot be raised to {target}: {node.op} {node.name!r} has no conversion ({said})",
            where=where,
            hint=f"export the model with opset {target} or newer",
        ) from error
    was_resize = node.op == "Upsample" or (node.op == "Resize" and source < 11)
    made = adopt(edit, node, gs.import_onnx(proto))
    if was_resize:
        for each in made:
            keep_coordinates(each)


def check(proto: onnx.ModelProto) -> None:
    """Raise whatever the checker does of a converted node; that nobody knows the shape of an operand is no fault of the converter."""
    said = complaint(proto)
    if said and "'shape'" not in said:
        raise ValueError(said)


ALONG_AN_AXIS = 13
"""Opset from which ``FLATTENING`` operators go along one axis (ONNX operator changelog)."""


def along_an_axis(edit: Editor, node: gs.Node) -> None:
    """The same as of opset 13, whatever the rank: along the last axis, of a matrix where there are several from the given one on."""
    x, y = node.inputs[0], node.outputs[0]
    axis = int(node.attrs.get("axis", 1))
    node.attrs["axis"] = -1
    if axis == -1 or (x.shape is not None and axis % max(1, len(x.shape)) == len(x.shape) - 1):
        return
    shape = edit.variable(f"{node.name}/shape", onnx.TensorProto.INT64)
    flat, rows = (edit.variable(f"{node.name}/{label}", element_type(x)) for label in ("flat", "rows"))
    edit.before(node, "Shape", f"{node.name}/shape", [x], [shape])
    edit.before(node, "Flatten", f"{node.name}/flatten", [x], [flat], axis=axis)
    node.inputs[0], node.outputs[0] = flat, rows
    edit.after(node, "Reshape", f"{node.name}/unflatten", [rows, shape], [y])


def alone(node: gs.Node, opset: int) -> onnx.ModelProto:
    """A model of one node: constants of few bytes stay constants, every other operand becomes a graph input."""
    replaced: dict[str, gs.Tensor] = {}
    for tensor in node.inputs:
        if not tensor.name:
            continue
        values = constant(tensor)
        if values is not None and values.nbytes <= EMBEDDED:
            replaced[tensor.name] = quick.constant(tensor.name, values)
        else:
            replaced[tensor.name] = quick.variable(tensor.name, dtype=numpy_type(element_type(tensor)), shape=tensor.shape)
    outputs = [quick.variable(t.name, dtype=numpy_type(element_type(t)) if t.name else None, shape=t.shape) for t in node.outputs]
    inputs = [replaced.get(tensor.name, tensor) for tensor in node.inputs]
    copied = quick.node(node.op, node.name, attrs=dict(node.attrs), inputs=inputs, outputs=outputs)
    variables = [tensor for tensor in replaced.values() if isinstance(tensor, gs.Variable)]
    small = gs.Graph([copied], variables, [t for t in outputs if t.name], name="alone", opset=opset)
    return exported(small, checked=False)


def adopt(edit: Editor, node: gs.Node, converted: gs.Graph) -> list[gs.Node]:
    """Put the converted nodes where ``node`` was: operands by name, results taken over, everything else under fresh names."""
    known: dict[str, gs.Tensor] = {tensor.name: tensor for tensor in (*node.inputs, *node.outputs) if tensor.name}
    last = next((each for each in reversed(converted.nodes) if each.op == node.op), converted.nodes[-1])
    graph, name = edit.owner(node), node.name
    at = edit.position(graph, node)
    edit.remove(node)
    made: list[gs.Node] = []
    for each in converted.nodes:
        if each.op == "Constant":
            known[each.outputs[0].name] = edit.constant(f"{name}/{each.outputs[0].name.strip('_')}", each.attrs["value"].values)
            continue
        inputs = [outside(edit, name, known, tensor) for tensor in each.inputs]
        outputs = [outside(edit, name, known, tensor) for tensor in each.outputs]
        new = edit.insert(graph, at + len(made), each.op, f"{name}/{each.op}", inputs, outputs, **dict(each.attrs))
        if each is last:
            new.name = name
        made.append(new)
    return made


def outside(edit: Editor, name: str, known: dict[str, gs.Tensor], tensor: gs.Tensor) -> gs.Tensor:
    """The big graph's tensor for one of the converted graph's."""
    if not tensor.name:
        return gs.Variable.empty()
    if tensor.name not in known:
        base = f"{name}/{tensor.name.strip('_')}"
        values = constant(tensor)
        known[tensor.name] = edit.constant(base, values) if values is not None else edit.variable(base, element_type(tensor), tensor.shape)
    return known[tensor.name]


def keep_coordinates(node: gs.Node) -> None:
    """Before opset 11 pixels were mapped by plain division; the converter forgets to say so and Resize would use half pixels."""
    if node.op != "Resize":
        return
    node.attrs.setdefault("coordinate_transformation_mode", "asymmetric")
    if node.attrs.get("mode", "nearest") == "nearest":
        node.attrs.setdefault("nearest_mode", "floor")
