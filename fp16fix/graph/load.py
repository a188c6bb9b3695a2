"""An ONNX file → a checked, simplified, typed ``Model`` with unique names; the file itself is never changed."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnx.shape_inference
import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError, absent, first_line
from fp16fix.graph import quick
from fp16fix.graph.admit import complaint, declare, put_in_order, refuse_unloadable, undeclared
from fp16fix.graph.edit import redirect
from fp16fix.graph.external import is_external, slice_of, tensors_of
from fp16fix.graph.legal import drop_repeats, refuse_illegal
from fp16fix.graph.model import Model, element_type, graphs_under, is_tensor, tell_apart
from fp16fix.graph.names import make_names_unique, name_nodes
from fp16fix.graph.opaque import cut
from fp16fix.graph.outline import outlined
from fp16fix.graph.quantised import with_half_scales
from fp16fix.graph.session import Session, infer_types
from fp16fix.graph.simplify import simplify
from fp16fix.graph.thin import BIG_MODEL, restore, strip
from fp16fix.graph.widen import widen

gs.logger.G_LOGGER.severity = logging.ERROR


def load(path: Path | str, *, simplified: bool = True, widened: bool = True) -> Model:
    """Read, check, inline functions, simplify, infer types and name everything.

    Args:
        path: an ``.onnx`` file; external data is found beside it.
        simplified: run onnxsim (its failure is a note, not an error).
        widened: hold the FP32 function that a mixed model means (``widen``); False keeps FP16 and BF16 tensors as they are.

    Raises:
        ModelError: the file does not exist, parse, check, or uses something that cannot be analysed.
    """
    path = Path(path)
    proto, files, said = checked(path)
    hashed = digest(files)
    model = loadable(lambda: assembled(*strip(proto, path), path.stem, simplified=simplified, widened=widened))
    for way in WAYS_BACK if model is None else ():
        again = checked(path)[0]
        model = loadable(lambda: assembled(*strip(again, path), path.stem, simplified=False, widened=widened, inferred=way.inferred))  # noqa: B023
        said = [*said, way.note]
        if model is not None:
            break
    if model is None:
        model = assembled(*strip(checked(path)[0], path), path.stem, simplified=False, widened=widened)
    model.notes[:0] = said
    model.digest = hashed
    model.source = path
    return model


@dataclass(frozen=True, slots=True)
class WayBack:
    """How a graph is made that ONNX Runtime does not load as it was made before."""

    inferred: bool
    """With the shapes that inference gives, which may say what ONNX Runtime does not ask."""
    note: str


WAYS_BACK = (
    WayBack(inferred=True, note="what onnxsim made of it does not load in ONNX Runtime; the graph is used as it is"),
    WayBack(inferred=False, note="with the shapes that ONNX infers it does not load in ONNX Runtime; shapes are taken from the runs"),
)


def loadable(make: Callable[[], Model]) -> Model | None:
    """What is made, if ONNX Runtime loads it."""
    try:
        model = make()
        Session(model, arena=False)
    except ModelError:
        return None
    return model


def read(path: Path) -> onnx.ModelProto:
    """The checked proto of an ``.onnx`` file, weights that lie beside it left there. Raises as ``load``."""
    return checked(path)[0]


def checked(path: Path) -> tuple[onnx.ModelProto, set[Path], list[str]]:
    """The proto, external weights where they lie; the files it is made of; what the checker has against what ONNX Runtime loads."""
    if not path.is_file():
        raise ModelError(absent(path), where=str(path), hint="give the path of an .onnx file")
    big = path.stat().st_size > BIG_MODEL
    try:
        proto = outlined(path) if big else onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf and OS errors share no base class
        raise ModelError(f"not a readable ONNX file ({first_line(error)})", where=str(path), hint="export the model again") from error
    refuse_illegal(proto, path)
    files = {path, *(slice_of(tensor, path).path for tensor in tensors_of(proto) if is_external(tensor))}
    why = complaint(str(path) if len(files) > 1 else emptied(proto) if big else proto)
    if why:
        refuse_unloadable(path, proto, why)
    return proto, files, [f"onnx.checker refuses the file ({why}); ONNX Runtime loads it, so it is used"] if why else []


def emptied(proto: onnx.ModelProto) -> onnx.ModelProto:
    """The same without weights: whoever checks a big file itself holds all of it twice."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for tensor in tensors_of(copy):
        if is_external(tensor):
            tensor.CopyFrom(onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=[0]))
    return copy


def model_from_proto(proto: onnx.ModelProto, name: str = "model", *, simplified: bool = False, widened: bool = True) -> Model:
    """A ``Model`` from a checked proto (which may be consumed); see ``load``."""
    return assembled(*strip(proto), name, simplified=simplified, widened=widened)


def assembled(
    proto: onnx.ModelProto, weights: dict[str, np.ndarray], name: str, *, simplified: bool, widened: bool, inferred: bool = True
) -> Model:
    """A ``Model`` from a proto without its big weights, and these."""
    notes = [*drop_repeats(proto), *put_in_order(proto)]
    if proto.functions:
        proto = without_functions(proto, name, notes)
    notes += name_nodes(proto)
    opaque = cut(proto, weights)
    if simplified:
        proto, said = simplify(proto)
        notes += said
    if inferred:
        proto = with_shapes(proto, notes)
    else:
        del proto.graph.value_info[:]
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    model = Model(imported(proto, weights, name), name, notes=notes, metadata=metadata, opaque=opaque)
    del proto
    tell_apart(model, ())
    declared = {id(tensor) for each in model.graphs() for tensor in (*each.inputs, *each.outputs)}
    for tensor in model.tensors().values():
        if not isinstance(tensor, gs.Constant) and not is_tensor(tensor) and id(tensor) not in declared:
            # What is inside a sequence may be widened; ONNX Runtime infers it anyway.
            tensor.dtype = None
    for each in model.graphs():
        inline_constants(each)
        drop_masks(each)
    model.notes += make_names_unique(model)
    refuse_sequences(model)
    infer_types(model)
    if widened:
        widen(model)
        model = with_half_scales(model)
    return model


def drop_masks(graph: gs.Graph) -> None:
    """Take the mask off a Dropout that nobody reads it of: a float up to opset 9, a boolean from 10 on (ONNX operator changelog)."""
    results = {id(tensor) for tensor in graph.outputs}
    for node in graph.nodes:
        if node.op == "Dropout" and len(node.outputs) > 1 and not node.outputs[1].outputs and id(node.outputs[1]) not in results:
            del node.outputs[1]


def imported(proto: onnx.ModelProto, weights: dict[str, np.ndarray], name: str) -> gs.Graph:
    """The graph, every value loaded: lazy ones would be loaded once per copy of it.

    Raises:
        ModelError: it is no graph that onnx-graphsurgeon can hold.
    """
    try:
        graph = gs.import_onnx(proto)
        restore(graph, weights)
        for tensor in Model(graph, name).tensors().values():
            if isinstance(tensor, gs.Constant):
                tensor.values = tensor.values
    except Exception as error:  # onnx-graphsurgeon and NumPy raise whatever malformed tensors make them raise
        raise ModelError(f"the graph cannot be read ({first_line(error)})", where=name, hint="export the model again") from error
    return graph


FORGETFUL = frozenset({"Upsample", "Resize"})
"""Operators that ONNX's converter takes to another opset without saying how pixels were mapped (see ``graph.opset.keep_coordinates``)."""


def without_functions(proto: onnx.ModelProto, where: str, notes: list[str]) -> onnx.ModelProto:
    """Local functions written out where they are called; one of another opset that cannot be converted stays a call, with a note.

    Raises:
        ModelError: a call does not fit its function.
    """
    try:
        proto = onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # its assertions are C++ exceptions
        raise ModelError(f"its functions cannot be written out ({first_line(error)})", where=where, hint="export it again") from error
    if not proto.functions:
        return proto
    names = ", ".join(each.name for each in proto.functions)
    try:
        if not any(node.op_type in FORGETFUL for each in proto.functions for node in each.node):
            return onnx.inliner.inline_local_functions(onnx.shape_inference.infer_shapes(proto), convert_version=True)
    except Exception as error:  # noqa: BLE001 - the converter's assertions share no base class
        names += f": {first_line(error)}"
    notes.append(f"functions of another opset are used as they are ({names}); what is inside is not analysed")
    return proto


def with_shapes(proto: onnx.ModelProto, notes: list[str]) -> onnx.ModelProto:
    """Shape and type inference; what it cannot infer is settled later by ONNX Runtime."""
    declared = undeclared(proto)
    try:
        proto = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # noqa: BLE001 - inference raises whatever it likes, and the runs know the shapes
        notes.append(f"ONNX shape inference failed ({first_line(error)}); shapes are taken from the runs")
    notes += declare(proto, declared)
    return proto


def inline_constants(graph: gs.Graph) -> None:
    """Dense ``Constant`` nodes become initializers, so that a literal is one kind of thing everywhere."""
    kept = []
    inner = list(graphs_under(graph))[1:]
    for node in graph.nodes:
        values = literal(node)
        if values is None:
            kept.append(node)
            continue
        tensor = node.outputs[0]
        node.outputs.clear()
        replacement = quick.constant(tensor.name, values=values)
        redirect(tensor, replacement, outputs_of=inner)
        if any(output is tensor for output in graph.outputs):
            identity = quick.node("Identity", node.name, inputs=[replacement], outputs=[tensor])
            replacement.name = f"{tensor.name}/value"
            kept.append(identity)
    graph.nodes[:] = kept


def literal(node: gs.Node) -> np.ndarray | None:
    """The dense numeric value of a ``Constant`` node, or None."""
    if node.op != "Constant" or node.domain not in (None, "", "ai.onnx"):
        return None
    value = node.attrs.get("value")
    if isinstance(value, gs.Constant):
        values = value.values
        return values if isinstance(values, np.ndarray) else None
    for key, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64), ("value_ints", np.int64)):
        if key in node.attrs:
            return np.asarray(node.attrs[key], dtype=dtype)
    return None


def refuse_sequences(model: Model) -> None:
    """FP16 has no meaning for string models, and graphsurgeon loses the element types of optionals."""
    for graph in model.graphs():
        for tensor in (*graph.inputs, *graph.outputs):
            if element_type(tensor) == onnx.TensorProto.STRING:
                raise ModelError(
                    f"{tensor.name!r} is a string tensor",
                    where=model.name,
                    hint="cut tokenisation out of the model; TensorRT cannot run it",
                )
        for node in graph.nodes:
            if any(isinstance(value, gs.Node.AttributeRef) for value in node.attrs.values()):
                raise ModelError(f"{node.name!r} refers to a function attribute that was not inlined", where=model.name)


def digest(files: set[Path]) -> str:
    """SHA-256 over files, in name order."""
    total = hashlib.sha256()
    for file in sorted(files):
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                total.update(chunk)
    return total.hexdigest()
