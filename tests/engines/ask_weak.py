"""Runs the weak pinning logic on autospecs of these bindings' own classes; prints what each scenario set, as JSON."""

from __future__ import annotations

import importlib
import json
from types import SimpleNamespace
from typing import Any
from unittest.mock import create_autospec

from fp16fix.engines.flavours.weak import WeakAssembly
from fp16fix.engines.listen import Listener
from fp16fix.engines.options import BuildOptions

trt: Any = importlib.import_module("tensorrt_bindings")
HALF, FLOAT, INT = trt.DataType.HALF, trt.DataType.FLOAT, trt.DataType.INT32


def tensor(name: str, dtype: Any = FLOAT) -> Any:
    made = create_autospec(trt.ITensor, instance=True, spec_set=True)
    made.name, made.dtype = name, dtype
    return made


class Pinned:
    """What a layer remembers of its pins; ``deaf`` layers forget, as layers inside a fusion do."""

    def __init__(self, *, deaf: bool = False) -> None:
        self.deaf = deaf
        self.outputs: dict[int, Any] = {}

    def set_output(self, index: int, dtype: Any) -> None:
        if not self.deaf:
            self.outputs[index] = dtype


def layer(kind: str, metadata: str, inputs: list[Any], outputs: list[Any], *, deaf: bool = False) -> Any:
    made = create_autospec(trt.ILayer, instance=True, spec_set=True)
    memory = Pinned(deaf=deaf)
    made.type = getattr(trt.LayerType, kind)
    made.metadata = f"[ONNX Layer: {metadata}]" if metadata else ""
    made.num_inputs, made.num_outputs = len(inputs), len(outputs)
    made.get_input.side_effect = inputs.__getitem__
    made.get_output.side_effect = outputs.__getitem__
    made.precision = None
    made.precision_is_set = not deaf
    made.set_output_type.side_effect = memory.set_output
    made.output_type_is_set.side_effect = memory.outputs.__contains__
    made.get_output_type.side_effect = memory.outputs.get
    return made


def network(layers: list[Any]) -> Any:
    made = create_autospec(trt.INetworkDefinition, instance=True, spec_set=True)
    made.num_layers = len(layers)
    made.get_layer.side_effect = layers.__getitem__
    return made


def parser(outputs: dict[str, Any]) -> Any:
    made = create_autospec(trt.OnnxParser, instance=True, spec_set=True)
    if hasattr(made, "get_layer_output_tensor"):
        made.get_layer_output_tensor.side_effect = lambda name, index: outputs.get(name) if index == 0 else None
    return made


def pinned(layers: list[Any], pins: dict[str, str], outputs: dict[str, Any] | None = None) -> dict[str, Any]:
    """Pin on a bare assembly: only what ``pin`` reads."""
    assembly = WeakAssembly.__new__(WeakAssembly)
    assembly.trt, assembly.pins, assembly.listener = trt, pins, Listener()
    assembly.network, assembly.parser = network(layers), parser(outputs or {})
    broken = assembly.pin()
    set_types = [sorted(call.args[0] for call in each.set_output_type.call_args_list) for each in layers]
    return {
        "precision": [None if each.precision is None else each.precision.name for each in layers],
        "outputs": set_types,
        "broken": broken,
        "warnings": list(assembly.listener.warnings),
    }


def decomposed_norm() -> dict[str, Any]:
    """A pinned node of three layers with a helper in front and one amid, beside an unpinned one."""
    x, k, c, h, s, r, y = (tensor(name) for name in ("x", "k", "c", "h", "s", "r", "y"))
    layers = [
        layer("CONSTANT", "", [], [k]),
        layer("SHUFFLE", "", [k], [c]),
        layer("ELEMENTWISE", "norm", [x, c], [h]),
        layer("CAST", "", [h], [s]),
        layer("REDUCE", "norm", [s], [r]),
        layer("ACTIVATION", "relu", [r], [y]),
    ]
    return pinned(layers, {"norm": "fp32"})


def shared_helper() -> dict[str, Any]:
    """A helper that also feeds an unpinned node stays free."""
    k, c, a, b = (tensor(name) for name in ("k", "c", "a", "b"))
    layers = [layer("SHUFFLE", "", [k], [c]), layer("UNARY", "wide", [c], [a]), layer("UNARY", "narrow", [c], [b])]
    return pinned(layers, {"wide": "fp32"})


def integer_outputs() -> dict[str, Any]:
    """TopK's indices keep their type; a shape computation is not pinned at all."""
    x, values, indices, size = tensor("x"), tensor("v"), tensor("i", INT), tensor("n", INT)
    layers = [layer("TOPK", "top", [x], [values, indices]), layer("ELEMENTWISE", "size", [size], [tensor("m", INT)])]
    return pinned(layers, {"top": "fp32", "size": "fp32"})


def by_output_tensor() -> dict[str, Any]:
    """A layer without metadata that makes the node's output (10 and later know)."""
    x, y = tensor("x"), tensor("y")
    return pinned([layer("UNARY", "", [x], [y])], {"exp": "fp32"}, {"exp": y})


def forgotten() -> dict[str, Any]:
    return pinned([layer("UNARY", "exp", [tensor("x")], [tensor("y", HALF)], deaf=True)], {"exp": "fp32"})


def in_a_branch() -> dict[str, Any]:
    return pinned([layer("UNARY", "exp | then (then_branch) | if (If)", [tensor("x")], [tensor("y")])], {"exp": "fp32"})


def missing_optional_input() -> dict[str, Any]:
    return pinned([layer("RESIZE", "resize", [tensor("x"), None], [tensor("y")])], {"resize": "fp32"})


def configured() -> dict[str, Any]:
    """Flags of the builder config and of the network."""
    assembly = WeakAssembly.__new__(WeakAssembly)
    assembly.trt, assembly.pins, assembly.options, assembly.listener = trt, {"a": "fp32"}, BuildOptions(), Listener()
    config = create_autospec(trt.IBuilderConfig, instance=True, spec_set=True)
    assembly.configure(config)
    return {"flags": [call.args[0].name for call in config.set_flag.call_args_list], "network": assembly.creation_flags()}


def brain() -> dict[str, Any]:
    """BF16 where these bindings have it."""
    if not hasattr(trt.DataType, "BF16"):
        return {"absent": True}
    found = pinned([layer("UNARY", "exp", [tensor("x")], [tensor("y")])], {"exp": "bf16"})
    config = create_autospec(trt.IBuilderConfig, instance=True, spec_set=True)
    assembly = WeakAssembly.__new__(WeakAssembly)
    assembly.trt, assembly.pins, assembly.options, assembly.listener = trt, {"a": "bf16"}, BuildOptions(), Listener()
    assembly.configure(config)
    return {**found, "flags": [call.args[0].name for call in config.set_flag.call_args_list]}


SCENARIOS = (
    decomposed_norm,
    shared_helper,
    integer_outputs,
    by_output_tensor,
    forgotten,
    in_a_branch,
    missing_optional_input,
    configured,
    brain,
)
facts = SimpleNamespace(**{scenario.__name__: scenario() for scenario in SCENARIOS})
print(json.dumps(vars(facts)))
