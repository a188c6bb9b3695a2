"""A strict twin that fails while running is damaged there: it is taken out, what read it reads the exact value, and the rest runs again.

An FP16 index that leaves its table, or a mask that keeps other rows, ends a run in which both graphs are computed side by side; it is the
strongest evidence that there is, and no error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

import onnx_graphsurgeon as gs

from fp16fix.errors import ModelError
from fp16fix.graph.edit import Editor, redirect
from fp16fix.graph.model import Model
from fp16fix.strict.rounds import NAMED

T = TypeVar("T")
GUEST = re.compile(r"(inside/)*strict/|proof\d+/")
"""What the names of strict nodes and tensors begin with (``trace.shadow``, ``trace.births``, ``trace.harmless``)."""
FLAT = "/flat"
"""What the name of a comparison ends with where a large twin is laid out beside the exact tensor."""
FAILURES = 64
"""Twins that may be taken out of one comparison; each costs a run."""


def enduring(host: Model, run: Callable[[], T]) -> tuple[T, set[str]]:
    """What ``run`` gives, once every twin that fails is out of the host; and the names of tensors that failed twins made.

    Args:
        host: edited in place.
        run: of the host as it is then, without optimisers, which hide names.

    Raises:
        ModelError: it is not a twin that fails.
    """
    lost: set[str] = set()
    for _ in range(FAILURES):
        try:
            return run(), lost
        except ModelError as error:
            found = taken_out(host, str(error.__cause__ or error))
            if not found:
                raise
            lost |= found
    return run(), lost


def taken_out(host: Model, message: str) -> set[str]:
    """Take the failing twin, or the comparison that fails, out of the host; the names of what it made, none if it is neither."""
    nodes = host.node_map()
    edit = Editor(host)
    for name in reversed(NAMED.findall(message)):
        node = nodes.get(name.removesuffix(FLAT))
        if node is not None and node.op == "Sub" and not node.outputs[0].outputs and not GUEST.match(name):
            return removed(edit, node)
        if node is not None and GUEST.match(name) and excused(edit, node):
            return removed(edit, node)
    return set()


def excused(edit: Editor, node: gs.Node) -> bool:
    """Let the readers of a twin read what the exact graph has in its place; whether that has all of it."""
    graph = edit.owner(node)
    exact: Mapping[str, gs.Tensor] = {tensor.name: tensor for each in graph.nodes for tensor in each.outputs}
    pairs = [(tensor, exact.get(original(tensor.name))) for tensor in node.outputs if tensor.name]
    if any(other is None or other is tensor for tensor, other in pairs):
        return False
    for tensor, other in pairs:
        assert other is not None
        redirect(tensor, other, outputs_of=[graph])
    return True


def removed(edit: Editor, node: gs.Node) -> set[str]:
    """Take a node out; the names of its outputs, and of what their roundings are called."""
    names = {tensor.name for tensor in node.outputs if tensor.name}
    edit.remove(node)
    return names | {name.removesuffix("/raw") for name in names}


def original(name: str) -> str:
    """The exact tensor beside a strict one."""
    match = GUEST.match(name)
    return name[match.end() :].removesuffix("/raw") if match else name
