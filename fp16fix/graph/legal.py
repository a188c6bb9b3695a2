"""What no library further on would refuse in plain words: types that are none, outputs that are no tensors, functions without end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import onnx

from fp16fix.errors import ModelError
from fp16fix.graph.external import tensors_of
from fp16fix.graph.protos import bodies_of, graphs_of

TYPES = frozenset(onnx.TensorProto.DataType.values())
"""Element types that exist."""
MOST_NODES = 1_000_000
"""Nodes a model may have with its functions written out; the largest networks have tens of thousands."""
CALL = tuple[str, str, str]
"""Domain, name and overload of a function."""


def refuse_illegal(proto: onnx.ModelProto, path: Path) -> None:
    """Raise ModelError for what is illegal wherever it stands."""
    if not proto.graph.node:
        raise ModelError("the graph has no nodes", where=str(path))
    for name, element in _element_types(proto):
        if element not in TYPES:
            raise ModelError(f"{name!r} has element type {element}, which is none", where=str(path), hint="export the model again")
    held = {tensor.name for tensor in proto.graph.initializer}
    for value in proto.graph.output:
        refuse_no_tensor(value, "output", "compared", "cut the graph where it still gives tensors", path)
    for value in proto.graph.input:
        if value.name not in held:
            refuse_no_tensor(value, "input", "given", "export the model with plain tensors as inputs, the elements one by one", path)
    refuse_endless(proto, path)


def refuse_no_tensor(value: onnx.ValueInfoProto, end: str, use: str, hint: str, path: Path) -> None:
    """Raise ModelError for an input or output that is a sequence, an optional or a map; one without any type passes."""
    kind = value.type.WhichOneof("value")
    if kind is not None and kind != "tensor_type":
        said = f"{end} {value.name!r} is of the kind {kind.removesuffix('_type')}; only tensors can be {use}"
        raise ModelError(said, where=str(path), hint=hint)


def drop_repeats(proto: onnx.ModelProto) -> list[str]:
    """List each output once, in place, as ONNX Runtime reads it and TensorRT needs it; notes on those that stood there again."""
    repeated = [name for name, times in Counter(output.name for output in proto.graph.output).items() if times > 1]
    if repeated:
        once = {output.name: output for output in reversed(proto.graph.output)}
        kept = [once.pop(output.name) for output in list(proto.graph.output) if output.name in once]
        copies = [onnx.ValueInfoProto.FromString(output.SerializeToString()) for output in kept]
        del proto.graph.output[:]
        proto.graph.output.extend(copies)
    return [f"output {name!r} is listed more than once; it is taken once" for name in repeated]


def _element_types(proto: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    """Names and element types of every tensor, and of every value that is said to be one."""
    yield from ((tensor.name, tensor.data_type) for tensor in tensors_of(proto))
    for graph in graphs_of(proto.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            yield from ((value.name, element) for element in _of_type(value.type))


def _of_type(type_: onnx.TypeProto) -> Iterator[int]:
    """Element types in a type, of what a sequence or an optional holds too."""
    kind = type_.WhichOneof("value")
    if kind in {"tensor_type", "sparse_tensor_type"}:
        yield getattr(type_, kind).elem_type
    elif kind in {"sequence_type", "optional_type"}:
        yield from _of_type(getattr(type_, kind).elem_type)


def refuse_endless(proto: onnx.ModelProto, path: Path) -> None:
    """Functions that call themselves, or write out to more nodes than there is memory for: ten that call each other ten times do.

    Raises:
        ModelError: with the function's name.
    """
    functions = {(each.domain, each.name, each.overload): each for each in proto.functions}
    sizes: dict[CALL, int | None] = {}

    def size(called: CALL) -> int:
        if called not in functions:
            return 1
        if called in sizes and sizes[called] is None:
            raise ModelError(f"function {called[1]!r} calls itself", where=str(path), hint="ONNX has no recursion")
        if called not in sizes:
            sizes[called] = None
            sizes[called] = total(functions[called].node)
        return sizes[called] or 0

    def total(nodes: Iterable[onnx.NodeProto]) -> int:
        found = 0
        for node in nodes:
            found += size((node.domain, node.op_type, node.overload)) + sum(total(body.node) for body in bodies_of([node]))
        return found

    try:
        written_out = total(proto.graph.node) if functions else 0
    except RecursionError as error:
        raise ModelError("its functions are nested too deep", where=str(path)) from error
    if written_out > MOST_NODES:
        raise ModelError(f"its functions write out to {written_out:,} nodes, more than {MOST_NODES:,}", where=str(path))
