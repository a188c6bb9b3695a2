"""A typed graph and the proof of its engine → ``Compiled``: what ONNX nodes are stored and computed in after fusion, and the cost.

A parsed network says what was asked for. The plan's kernels say what runs: whether a pin was kept, where attention became one kernel, which
scalar went behind a product's sum. Where the builder's table was not read, ``source`` says on what weaker ground this stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fp16fix.engines.proof import NodeTypes, Proof
from fp16fix.engines.table import Held, Kernel
from fp16fix.graph.lone import exact, source
from fp16fix.graph.model import FLOATS, Constant, Model, Node, element_type, scalar
from fp16fix.graph.operators import CONTROL, MOVEMENT, PRODUCTS, SELECTION
from fp16fix.graph.ops import is_float_node
from fp16fix.half import FORMATS, Format

NARROW = ("fp16", "bf16")
INTEGER = "int8"
FLOAT_TYPES = frozenset(FORMATS)
IDLE = frozenset({"signal", "wait", "memset", "shape_call", "jmp", "cjmp", "copy"})
"""Kinds of rows that launch nothing which computes."""
MULTIPLIERS = frozenset({"gemm", "correlation", "deconv", "runtime_fusion"})
"""Kernel families that multiply on tensor cores, where TF32 may be used; smaller products are generated pointwise kernels."""
MHA = re.compile(r"_mha", re.IGNORECASE)
"""In the name of a kernel that is attention as a whole."""
CUT = "Etc"
"""Last step of a generated kernel's name that was too long: what it leaves out is not known."""


@dataclass(frozen=True, slots=True)
class CompiledNode:
    """One ONNX node of the typed graph in the engine."""

    node: str
    op: str
    asked: str
    """What the graph computes it in: ``fp16``, ``fp32`` or ``bf16``."""
    computed: str
    """What its kernel computes it in, ``int8`` for a product of integers; empty where that is not known (inside of fused attention, or
    folded away)."""
    stored: str
    """The type its kernel writes; empty where its result never leaves a kernel, or that is not known."""
    kernels: tuple[str, ...] = ()
    """Kinds of the kernels it is in."""
    narrowed: bool = False
    """Asked wide and compiled narrow, so that something is lost."""


@dataclass(frozen=True, slots=True)
class Compiled:
    """What an engine was compiled to."""

    source: str
    """``plan``: the builder's table of fused layers. ``inspector``: a loaded engine. ``network``: the parsed network, before any fusion."""
    nodes: tuple[CompiledNode, ...] = ()
    """Every node that computes on floats, in graph order."""
    attention: tuple[tuple[str, ...], ...] = ()
    """Nodes of each attention that is one kernel: pins among them are not kept, scores are not stored."""
    alphas: tuple[str, ...] = ()
    """Scalar factors in front of a product that the kernel applies behind its sum."""
    float_products: tuple[str, ...] = ()
    """Products that multiply FP32 operands."""
    tf32_products: tuple[str, ...] = ()
    """Those of them that TF32 would round to 10 bits, if it is on."""
    int8_products: tuple[str, ...] = ()
    """Products that multiply INT8 operands: the layers that a quantised model was quantised for."""
    kernels: int = 0
    """That compute; 0 where not known."""
    crossing: dict[str, int] = field(default_factory=dict)
    """Bytes that kernels read and write, by type, constants apart; dynamic sizes are left out."""
    weights: dict[str, int] = field(default_factory=dict)
    """Bytes of constants, by type."""
    unsized: int = 0
    """Tensors between kernels whose size is dynamic, so that no bytes are counted."""

    @property
    def narrowed(self) -> tuple[str, ...]:
        """Nodes whose pins were not kept."""
        return tuple(each.node for each in self.nodes if each.narrowed)

    @property
    def bytes(self) -> int:
        """That cross kernel borders."""
        return sum(self.crossing.values())


def compiled(model: Model, proof: Proof) -> Compiled:
    """What became of each node of a typed graph."""
    nodes = [node for node in model.nodes() if is_float_node(node) and node.op not in CONTROL and node.op != "Cast"]
    if not proof.kernels:
        types = proof.by_node()
        return Compiled(proof.source, tuple(by_layers(node, types.get(node.name)) for node in nodes))
    homes = by_owner(proof.kernels)
    told = tuple(by_kernels(node, homes) for node in nodes)
    wide = {each.node for each in told if each.op in PRODUCTS and each.computed == "fp32"}
    integer = tuple(each.node for each in told if each.op in PRODUCTS and each.computed == INTEGER)
    working = [kernel for kernel in proof.kernels if kernel.kind not in IDLE]
    moved = [held for kernel in working for held in (*kernel.inputs, *kernel.outputs)]
    return Compiled(
        "plan",
        told,
        attention=tuple(kernel.owners for kernel in working if MHA.search(kernel.name)),
        alphas=tuple(node.name for node in nodes if is_alpha(node, homes)),
        float_products=tuple(node.name for node in nodes if node.name in wide),
        tf32_products=tuple(node.name for node in nodes if node.name in wide and multiplies(homes[node.name])),
        int8_products=integer,
        kernels=len(working),
        crossing=sizes(moved),
        weights=sizes(held for kernel in working for held in kernel.constants),
        unsized=sum(held.size is None for held in moved),
    )


def by_owner(kernels: Iterable[Kernel]) -> dict[str, list[Kernel]]:
    """The kernels that compute, by ONNX node."""
    found: dict[str, list[Kernel]] = {}
    for kernel in kernels:
        for owner in kernel.owners if kernel.kind not in IDLE else ():
            found.setdefault(owner, []).append(kernel)
    return found


def asked(node: Node) -> str:
    """The type that the graph computes a node in."""
    elements = [element_type(tensor) for tensor in (*node.outputs, *node.inputs) if tensor.name and element_type(tensor) in FLOATS]
    return next((fmt.name for fmt in FORMATS.values() if elements and fmt.onnx == elements[0]), "")


def by_layers(node: Node, types: NodeTypes | None) -> CompiledNode:
    """As parsed, or as an inspector tells of a node's own layers."""
    found = sorted(FLOAT_TYPES.intersection(types.dtypes)) if types is not None else []
    computed = found[0] if len(found) == 1 else ""
    return CompiledNode(node.name, node.op, asked(node), computed, computed, types.layers if types is not None else ())


def by_kernels(node: Node, homes: Mapping[str, list[Kernel]]) -> CompiledNode:
    """As the plan's kernels tell."""
    own, wanted = homes.get(node.name, []), asked(node)
    computed = computed_in(node, own, wanted)
    kinds = tuple(dict.fromkeys("attention" if MHA.search(kernel.name) else kernel.kind for kernel in own))
    lost = wanted == "fp32" and computed in NARROW and loses(node, FORMATS[computed])
    return CompiledNode(node.name, node.op, wanted, computed, stored_in(node, own, homes), kinds, lost)


def computed_in(node: Node, own: list[Kernel], wanted: str) -> str:
    """The type a node's kernels compute it in.

    A product's kernel multiplies what it reads. A generated kernel changes types by the Casts in its name: without one, and with nothing
    wider at its border, it computes in what it reads.
    """
    if not own or any(MHA.search(kernel.name) for kernel in own):
        return ""
    if node.op in PRODUCTS and any(kernel.kind in MULTIPLIERS and reads_integers(kernel) for kernel in own):
        return INTEGER
    seen = {held.dtype for kernel in own for held in (*kernel.inputs, *kernel.constants) if not held.is_scalar} & FLOAT_TYPES
    seen = seen or {held.dtype for kernel in own for held in kernel.inputs} & FLOAT_TYPES
    if node.op in PRODUCTS:
        # A kernel that reads FP32 beside FP16 has a Cast in it: in front of the product where FP16 was asked for, behind others elsewhere.
        return "fp32" if "fp32" in seen and (wanted == "fp32" or len(seen) == 1) else min(seen - {"fp32"}, default="")
    casts = any(step in {"Cast", CUT} for kernel in own for step in kernel.steps)
    around = seen | {held.dtype for kernel in own for held in kernel.outputs}
    return wanted if casts or wanted in around or len(seen) != 1 else min(seen)


def reads_integers(kernel: Kernel) -> bool:
    """Whether a kernel multiplies two INT8 operands; scales and a residue that is added are beside them."""
    return sum(held.dtype == INTEGER and not held.is_scalar for held in (*kernel.inputs, *kernel.constants)) > 1


def stored_in(node: Node, own: list[Kernel], homes: Mapping[str, list[Kernel]]) -> str:
    """The float type that a node's kernels write, where some reader is in another kernel, or there is none."""
    mine = {kernel.name for kernel in own}
    readers = [reader for tensor in node.outputs for reader in tensor.outputs]
    inside = readers and all(mine & {kernel.name for kernel in homes.get(reader.name, ())} for reader in readers)
    written = sorted({held.dtype for kernel in own[-1:] for held in kernel.outputs} & FLOAT_TYPES)
    return "" if inside or len(written) != 1 else written[0]


def loses(node: Node, low: Format) -> bool:
    """Whether computing it narrow changes something: a product only by weights that the type does not hold, for it still adds in FP32."""
    if node.op in MOVEMENT or node.op in SELECTION:
        return False
    constants = [each.values for tensor in node.inputs if isinstance(each := source(tensor), Constant) and element_type(each) in FLOATS]
    return node.op not in PRODUCTS or any(not exact(values, low) for values in constants)


def is_alpha(node: Node, homes: Mapping[str, list[Kernel]]) -> bool:
    """Whether a Mul or Div by a scalar, in front of a product, is in the product's own kernel, not that of a whole attention."""
    if node.op not in {"Mul", "Div"} or all(scalar(tensor) is None for tensor in node.inputs):
        return False
    mine = {kernel.name for kernel in homes.get(node.name, ()) if not MHA.search(kernel.name)}
    readers = [reader for tensor in node.outputs for reader in tensor.outputs]
    shared = [mine & {kernel.name for kernel in homes.get(reader.name, ())} for reader in readers if reader.op in PRODUCTS]
    return any(shared)


def multiplies(own: Iterable[Kernel]) -> bool:
    """Whether a product is in a kernel that tensor cores serve."""
    return any(kernel.kind in MULTIPLIERS for kernel in own)


def sizes(found: Iterable[Held]) -> dict[str, int]:
    """Bytes by type."""
    total: dict[str, int] = {}
    for held in found:
        if held.size:
            total[held.dtype] = total.get(held.dtype, 0) + held.size
    return dict(sorted(total.items()))


def problems(found: Compiled) -> tuple[str, ...]:
    """Pins that the compiler took back, in words: such a plan is not what was verified."""
    by_name = {each.node: each for each in found.nodes}
    return tuple(
        f"NARROWED: {by_name[node].op} {node!r} is pinned to fp32 and compiled to {by_name[node].computed}: what it holds beyond that is "
        "rounded off"
        for node in found.narrowed
    )
