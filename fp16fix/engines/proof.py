"""A parsed network, or an engine inspector's JSON → per ONNX node, the types its layers run in; pins are checked against that.

What becomes of the network after fusion is in its ``kernels``, where the builder told (``engines.table``); ``engines.compiled`` reads them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fp16fix.engines.metadata import owners
from fp16fix.engines.table import Kernel, from_json, to_json
from fp16fix.half import BF16, FP16, Format

DTYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "FP8": "fp8"}
"""TensorRT's names of float types → ours; other types keep TensorRT's name in lower case."""
FLOATS = ("fp32", "fp16", "bf16")
PASSIVE = frozenset(
    {"CONSTANT", "CAST", "SHUFFLE", "IDENTITY", "SHAPE", "CONDITIONAL_INPUT", "CONDITIONAL_OUTPUT", "CONDITION", "REFORMAT", "NOOP"}
)
"""Layers that move values: an FP16 one among them does not prove that anything computes in FP16."""
ATTENTION = frozenset({"ATTENTION_INPUT", "ATTENTION_OUTPUT"})
"""Layers of IAttention. TensorRT-RTX 1.7 segfaults on it when Q and K are one tensor; it refuses FP32, one query row, heads of 8."""


@dataclass(frozen=True, slots=True)
class Layer:
    """What matters of one layer, whatever it was read from."""

    kind: str
    """``LayerType`` name, or the inspector's ``LayerType``."""
    owners: tuple[str, ...]
    """ONNX nodes it came from; empty for helper layers."""
    dtypes: tuple[str, ...]
    """Types of its outputs, in order."""


@dataclass(frozen=True, slots=True)
class NodeTypes:
    """One ONNX node and what became of it."""

    node: str
    layers: tuple[str, ...]
    """Kinds of its layers, sorted, each once."""
    dtypes: tuple[str, ...]
    """Types its own layers write (``fp32``, ``fp16``, ``bf16``, ``int64``, …), sorted, each once; empty if all are fused ones."""


@dataclass(frozen=True, slots=True)
class Proof:
    """What an engine was built to compute in, node by node."""

    nodes: tuple[NodeTypes, ...]
    """In network order of their first layer."""
    fp16_layers: int
    """Computing layers (no constants, casts, shuffles) that write FP16."""
    fp32_layers: int
    broken_pins: tuple[str, ...] = ()
    """Nodes whose layer pins did not read back (weak typing)."""
    source: str = "network"
    """``network``: the parsed network. ``inspector``: the built engine, after fusion."""
    kernels: tuple[Kernel, ...] = ()
    """What the plan runs; empty where the builder's table was not read."""
    bf16_layers: int = 0

    def layers(self, narrow: Format) -> int:
        """Computing layers that write FP16 or BF16."""
        return self.bf16_layers if narrow is BF16 else self.fp16_layers

    def by_node(self) -> dict[str, NodeTypes]:
        """Node types by ONNX name."""
        return {each.node: each for each in self.nodes}

    def to_json(self) -> dict[str, Any]:
        """Plain types only; ``proof_from_json`` reads it back."""
        return {
            "nodes": [[each.node, list(each.layers), list(each.dtypes)] for each in self.nodes],
            "fp16_layers": self.fp16_layers,
            "fp32_layers": self.fp32_layers,
            "bf16_layers": self.bf16_layers,
            "broken_pins": list(self.broken_pins),
            "source": self.source,
            "kernels": to_json(self.kernels),
        }


def proof_from_json(raw: Mapping[str, Any]) -> Proof:
    """The inverse of ``Proof.to_json``."""
    nodes = tuple(NodeTypes(node, tuple(layers), tuple(dtypes)) for node, layers, dtypes in raw["nodes"])
    pins, kernels = tuple(raw["broken_pins"]), from_json(raw["kernels"])
    return Proof(nodes, raw["fp16_layers"], raw["fp32_layers"], pins, raw["source"], kernels, raw["bf16_layers"])


def network_layers(network: Any) -> Iterator[Layer]:
    """Layers of an ``INetworkDefinition``, in order."""
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        dtypes = tuple(dtype_name(layer.get_output(at).dtype.name) for at in range(layer.num_outputs) if layer.get_output(at) is not None)
        yield Layer(layer.type.name, owners(layer.metadata), dtypes)


def dtype_name(name: str) -> str:
    """``HALF`` → ``fp16``."""
    return DTYPES.get(name, name.lower())


def proof_of(layers: Iterable[Layer], *, source: str, broken_pins: Sequence[str] = ()) -> Proof:
    """Gather layers by ONNX node and count those that compute in FP16, FP32 and BF16."""
    kinds: dict[str, set[str]] = {}
    dtypes: dict[str, set[str]] = {}
    computing = dict.fromkeys(FLOATS, 0)
    for layer in layers:
        if layer.kind.upper() not in PASSIVE:
            for fmt in sorted(computing.keys() & set(layer.dtypes)):
                computing[fmt] += 1
        for owner in layer.owners:
            kinds.setdefault(owner, set()).add(layer.kind)
            # A fused layer's outputs say nothing of the nodes inside it.
            dtypes.setdefault(owner, set()).update(layer.dtypes if len(layer.owners) == 1 else ())
    nodes = tuple(NodeTypes(node, tuple(sorted(kinds[node])), tuple(sorted(dtypes[node]))) for node in kinds)
    return Proof(nodes, computing["fp16"], computing["fp32"], tuple(broken_pins), source, bf16_layers=computing["bf16"])


def inspector_layers(text: str) -> Iterator[Layer]:
    """Layers of ``EngineInspector.get_engine_information(JSON)``, in the dialects of 8.6–10 and of 11.

    8.6–10 write one field ``Format/Datatype``; 11 writes ``Format`` and ``DataType``, and ``I/O Tensors`` instead of ``Bindings``.
    At a verbosity below DETAILED layers are bare strings that carry no types; those are passed over.
    """
    for raw in json.loads(text).get("Layers", ()):
        if isinstance(raw, dict):
            dtypes = tuple(inspector_dtype(each) for each in raw.get("Outputs", ()) if isinstance(each, dict))
            yield Layer(str(raw.get("LayerType", "")), owners(str(raw.get("Metadata", ""))), dtypes)


def attention_nodes(layers: tuple[Layer, ...]) -> tuple[str, ...]:
    """Nodes that became IAttention."""
    return tuple(dict.fromkeys(owner for layer in layers if layer.kind in ATTENTION for owner in layer.owners))


WORDS = (
    ("bf16", ("BF16", "BFLOAT16")),
    ("fp16", ("FP16", "HALF", "FLOAT16")),
    ("fp32", ("FP32", "FLOAT", "FLOAT32")),
    ("fp8", ("FP8",)),
    ("int8", ("INT8",)),
    ("int64", ("INT64",)),
    ("int32", ("INT32",)),
    ("bool", ("BOOL",)),
)
"""Words by which the inspector's dialects name a type; whole words, so that FLOAT16 is not FLOAT."""


def inspector_dtype(entry: Mapping[str, Any]) -> str:
    """The type of one tensor entry: its own field if there is one, else a word inside the format's description."""
    # Releases disagree on capitals and blanks: "DataType", "Datatype", "Format/Datatype", "Format/DataType".
    fields = {re.sub("[^a-z]", "", key.lower()): str(value) for key, value in entry.items()}
    for key in ("datatype", "formatdatatype", "format"):
        words = set(re.findall(r"[A-Z0-9]+", fields.get(key, "").upper()))
        for dtype, names in WORDS:
            if words & set(names):
                return dtype
    return "unknown"


def check_pins(proof: Proof, wide: Mapping[str, str], float_nodes: Sequence[str], base: Format = FP16) -> tuple[str, ...]:
    """What the proof contradicts, in words; empty if the engine is what was asked for.

    Args:
        proof: of the engine.
        wide: node → ``fp32`` or ``bf16``, the pins asked for.
        float_nodes: every node that computes on floats; those not in ``wide`` are meant to run in the base.
        base: FP16 or BF16.

    A pinned node that has no layer was folded or fused away by the parser and is no contradiction. An unpinned node may well
    have FP32 layers: the parser widens the insides of some operators itself.
    """
    found = proof.by_node()
    problems = [f"the pins of {node!r} did not read back from its layers" for node in proof.broken_pins]
    for node, fmt in sorted(wide.items()):
        written = set(found[node].dtypes) & set(FLOATS) if node in found else set()
        narrower = sorted(written - ({fmt, "fp32"}))
        if narrower and node not in proof.broken_pins:
            problems.append(f"node {node!r} is pinned to {fmt} and has layers in {', '.join(narrower)}")
    narrow = [node for node in float_nodes if node not in wide]
    if narrow and any(node in found for node in narrow) and proof.layers(base) == 0:
        problems.append(f"{len(narrow)} nodes are meant to run in {base} and no layer of the engine does: this would be an FP32 engine")
    return tuple(problems)
