"""Two graphs in one: a second graph's nodes laid beside the first's, sharing its inputs, so that both run in a single pass."""

from __future__ import annotations

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import redirect
from fp16fix.graph.model import Model, bodies, graphs_under
from fp16fix.graph.quick import copied
from fp16fix.graph.random import seed


def splice(host: Model, guest: Model, prefix: str) -> dict[str, gs.Tensor]:
    """Add the guest's nodes to the host's main graph, in place; the guest is consumed.

    Args:
        host: its tensors feed guest inputs of the same name.
        guest: every tensor and node is renamed with ``prefix``.
        prefix: unique in the host.

    Returns:
        The guest's main-graph tensors by their old names.
    """
    found = {name: tensor for name, tensor in guest.graph.tensors().items() if isinstance(tensor, gs.Variable)}
    outside, graphs = host.graph.tensors(), list(guest.graphs())
    for tensor in guest.graph.inputs:
        redirect(tensor, outside[tensor.name], outputs_of=graphs)
        found[tensor.name] = outside[tensor.name]
    inputs = {id(tensor) for tensor in guest.graph.inputs}
    for name, tensor in guest.tensors().items():
        if id(tensor) not in inputs and id(tensor) != id(outside.get(name)):
            tensor.name = prefix + name
    # By the names that the host's twins have, so that both draw the same.
    seed(guest.nodes())
    for node in guest.nodes():
        node.name = prefix + node.name
    interleave(host.graph, guest.graph.nodes, prefix)
    return found


def splice_body(host: gs.Graph, guest: gs.Graph, prefix: str, strip: str) -> dict[str, gs.Tensor]:
    """Add a copy of one body's nodes to another body that takes the same inputs, in place.

    Args:
        host: gets the nodes.
        guest: not changed; what it reads from outside, the copy reads too.
        prefix: put before the names of every node and tensor of the copy.
        strip: what the guest's names have before the host's.

    Returns:
        The copy's own tensors by the host's names for them. Its inputs are nobody's yet: whoever reads them must be given something else.
    """
    outside = {t.name: t for graph in graphs_under(guest) for node in graph.nodes for t in node.inputs if t.name}
    copy = copied(guest, outside | {t.name: t for t in guest.outputs})
    settled = {id(tensor) for tensor in outside.values()}
    found = {own.name: tensor for own, tensor in zip(host.inputs, copy.inputs, strict=True)}
    for graph in graphs_under(copy):
        for node in graph.nodes:
            node.name = prefix + node.name
        for tensor in graph.tensors().values():
            if id(tensor) not in settled:
                settled.add(id(tensor))
                if graph is copy:
                    found.setdefault(tensor.name.removeprefix(strip), tensor)
                tensor.name = prefix + tensor.name
    interleave(host, copy.nodes, prefix + strip)
    return found


def interleave(host: gs.Graph, guests: list[gs.Node], prefix: str) -> None:
    """Order: each guest node beside the host's of the same name, its helpers with it, so that pairs of tensors live and die together."""
    made = {tensor.name: index for index, node in enumerate(host.nodes) for tensor in node.outputs}
    wanted: dict[int, int] = {}
    """By id of a tensor, the earliest place at which a guest that reads it stands."""
    late = len(host.nodes)
    places: list[int] = []
    for node in reversed(guests):
        own = [made[name] for t in node.outputs if (name := t.name.removeprefix(prefix)) in made]
        at = max(own) if own else min([wanted[id(t)] for t in node.outputs if id(t) in wanted], default=late)
        places.append(at)
        for tensor in (*node.inputs, *captured(node)):
            wanted[id(tensor)] = min(wanted.get(id(tensor), late), at)
    keyed: list[tuple[int, int, gs.Node]] = [(index, 0, node) for index, node in enumerate(host.nodes)]
    for node, place in zip(guests, reversed(places), strict=True):
        at = max([place, *(made[t.name] for t in (*node.inputs, *captured(node)) if t.name in made)])
        made |= {tensor.name: at for tensor in node.outputs}
        keyed.append((at, 1, node))
    host.nodes[:] = [node for _, _, node in sorted(keyed, key=lambda item: item[:2])]


def captured(node: gs.Node) -> list[gs.Tensor]:
    """Tensors that bodies of a node read from outside (and everything inside, which does no harm here)."""
    return [t for body in bodies(node).values() for graph in graphs_under(body) for inner in graph.nodes for t in inner.inputs]


def cut(model: Model, names: set[str]) -> Model:
    """A stand-alone model of the named main-graph nodes: what they read from outside becomes inputs, what they write, outputs."""
    graph = model.graph
    kept = [node for node in graph.nodes if node.name in names]
    outputs = [tensor for node in kept for tensor in node.outputs if tensor.name]
    own = {id(tensor) for tensor in outputs}
    inner = [body for node in kept for each in bodies(node).values() for body in graphs_under(each)]
    own |= {id(t) for body in inner for t in (*body.inputs, *(t for node in body.nodes for t in node.outputs))}
    used = (t for node in kept for t in (*node.inputs, *captured(node)))
    read = {t.name: t for t in used if isinstance(t, gs.Variable) and t.name and id(t) not in own}
    small = gs.Graph(
        nodes=kept,
        inputs=list(read.values()),
        outputs=outputs,
        name="cut",
        opset=graph.opset,
        import_domains=graph.import_domains,
        ir_version=graph.ir_version,
    )
    return Model(copied(small), model.name)
