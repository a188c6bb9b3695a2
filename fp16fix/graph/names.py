"""Every node and tensor gets a name that is unique across the main graph and all bodies: names are how hazards are addressed."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.model import Model


def name_nodes(proto: onnx.ModelProto) -> list[str]:
    """Name the main graph's unnamed nodes after their operator and first output, before a simplifier numbers them; a note if any."""
    unnamed = [node for node in proto.graph.node if not node.name]
    for node in unnamed:
        node.name = f"{node.op_type}_{node.output[0]}" if node.output else node.op_type
    return [f"{len(unnamed)} unnamed nodes were named after their operator and first output"] if unnamed else []


def make_names_unique(model: Model) -> list[str]:
    """Name nodes of bodies that have no name, number duplicates; returns notes for the report."""
    renamed = 0
    seen: set[str] = set()
    for node in model.nodes():
        if not node.name:
            node.name = f"{node.op}_{node.outputs[0].name}" if node.outputs else node.op
        if node.name in seen:
            renamed += 1
            node.name = numbered(node.name, seen)
        seen.add(node.name)
    clashes = separate_tensors(model)
    notes = []
    if renamed:
        notes.append(f"{renamed} nodes shared a name and were numbered")
    if clashes:
        notes.append(f"{clashes} tensors of sibling bodies shared a name and were numbered")
    return notes


def separate_tensors(model: Model) -> int:
    """Tensors of sibling bodies may share names in ONNX; here they may not."""
    owner: dict[str, gs.Tensor] = {}
    clashes = 0
    for graph in model.graphs():
        local = [*graph.inputs, *(t for node in graph.nodes for t in (*node.outputs, *node.inputs)), *graph.outputs]
        for tensor in local:
            if not tensor.name:
                continue
            holder = owner.setdefault(tensor.name, tensor)
            if holder is not tensor:
                clashes += 1
                tensor.name = numbered(tensor.name, set(owner))
                owner[tensor.name] = tensor
    return clashes


def numbered(name: str, taken: set[str]) -> str:
    """``name_2``, ``name_3``…, the first that is free."""
    count = 2
    while f"{name}_{count}" in taken:
        count += 1
    return f"{name}_{count}"
