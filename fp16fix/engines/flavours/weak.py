"""A graph and its wide nodes → a weakly typed plan with every wide layer pinned, and the pins read back. TensorRT 8.6 to 10.

Which nodes are wide comes from ``BuildOptions.pins`` for an FP32 graph, else from the types a typed graph declares.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from fp16fix.engines.assemble import load
from fp16fix.engines.flavour import Flavour
from fp16fix.engines.flavours.strong import StrongAssembly
from fp16fix.engines.listen import LibraryRefusal, Listener
from fp16fix.engines.metadata import owners
from fp16fix.engines.options import BuildOptions
from fp16fix.engines.proof import dtype_name
from fp16fix.errors import ConfigError
from fp16fix.graph.protos import graphs_of

FLAVOUR = Flavour(
    "weak",
    "tensorrt",
    ("tensorrt", "tensorrt-cu13", "tensorrt-cu12"),
    "pip install 'tensorrt>=8.6,<11'   (needs an NVIDIA driver and GPU to build)",
    "builds with the FP16 flag and pins every FP32 layer, for those who must keep TensorRT 8.6 to 10",
)
UNPINNABLE = frozenset({"CONSTANT", "CAST", "QUANTIZE", "DEQUANTIZE", "SHAPE", "CONDITION", "ASSERTION", "TRIP_LIMIT", "ITERATOR"})
"""Layers whose type is their own business: weights, explicit conversions, and those that carry no activations."""
FLOAT_TYPES = ("fp32", "fp16", "bf16")


def assembly(options: BuildOptions, listener: Listener) -> WeakAssembly:
    """An assembly for this flavour.

    Raises:
        LibraryRefusal: the module does not import, or has no weak typing.
    """
    trt = load(FLAVOUR.module)
    if not hasattr(trt.BuilderFlag, "OBEY_PRECISION_CONSTRAINTS"):
        raise LibraryRefusal(f"TensorRT {trt.__version__} has no weak typing", kind="BackendMissingError", hint="--backend strong")
    return WeakAssembly(trt, FLAVOUR.name, options, listener)


class WeakAssembly(StrongAssembly):
    """The FP16 flag for everything, FP32 or BF16 for the layers of wide nodes."""

    pins: Mapping[str, str]

    def creation_flags(self) -> int:
        return 1 << int(self.trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH)

    def configure(self, config: Any) -> None:
        super().configure(config)
        config.set_flag(self.trt.BuilderFlag.FP16)
        if "bf16" in self.pins.values():
            config.set_flag(self.trt.BuilderFlag.BF16)
        config.set_flag(self.trt.BuilderFlag.OBEY_PRECISION_CONSTRAINTS)

    def parse(self, path: Path) -> None:
        """Know the wide nodes before parsing."""
        self.pins = dict(self.options.pins) or declared_pins(path)
        if "bf16" in self.pins.values() and not hasattr(self.trt.DataType, "BF16"):
            raise ConfigError(f"TensorRT {self.version} has no BF16", hint="repair with --wide fp32")
        super().parse(path)

    def pin(self) -> tuple[str, ...]:
        """Pin, then read back."""
        layers = [self.network.get_layer(index) for index in range(self.network.num_layers)]
        wide = wide_layers(self.parser, layers, self.pins)
        types = {"fp32": self.trt.DataType.FLOAT, "bf16": getattr(self.trt.DataType, "BF16", None)}
        for index, (_, fmt) in sorted(wide.items()):
            pin_layer(layers[index], types[fmt])
        lost = {node for index, (node, fmt) in wide.items() if not holds(layers[index], types[fmt])}
        layerless = sorted(set(self.pins) - {node for node, _ in wide.values()})
        if layerless:
            self.listener.warn(
                f"{len(layerless)} wide nodes became no layer of their own, so nothing was pinned: {', '.join(layerless[:5])}"
            )
        return tuple(sorted(lost))


def wide_layers(parser: Any, layers: list[Any], pins: Mapping[str, str]) -> dict[int, tuple[str, str]]:
    """Index of each layer to pin → (node, format).

    A layer is a node's if its metadata says so, or if it makes the tensor that the parser gives as the node's output (10 and
    later). Helper layers carry no metadata: one that feeds only layers of wide nodes is pinned with them, and so are those behind it.
    """
    wide: dict[int, tuple[str, str]] = {}
    owned = set()
    for index, layer in enumerate(layers):
        mine = owners(layer.metadata)
        if mine:
            owned.add(index)
        node = next((node for node in mine if node in pins), None)
        if node is not None:
            wide[index] = (node, pins[node])
    makers = {layer.get_output(at).name: index for index, layer in enumerate(layers) for at in present(layer.num_outputs, layer.get_output)}
    if hasattr(parser, "get_layer_output_tensor"):
        for node, fmt in sorted(pins.items()):
            tensor = parser.get_layer_output_tensor(node, 0)
            if tensor is not None and tensor.name in makers:
                wide.setdefault(makers[tensor.name], (node, fmt))
    readers: dict[int, set[int]] = {}
    for index, layer in enumerate(layers):
        for at in present(layer.num_inputs, layer.get_input):
            maker = makers.get(layer.get_input(at).name)
            if maker is not None:
                readers.setdefault(maker, set()).add(index)
    for index in reversed(range(len(layers))):
        fed = readers.get(index, set())
        if index not in owned and index not in wide and fed and fed <= wide.keys():
            wide[index] = wide[min(fed)]
    return {index: pin for index, pin in wide.items() if pinnable(layers[index])}


def present(count: int, at: Any) -> Iterable[int]:
    """Positions that hold a tensor; optional inputs may be empty."""
    return (index for index in range(count) if at(index) is not None)


def pinnable(layer: Any) -> bool:
    """Whether it computes on floats."""
    return layer.type.name not in UNPINNABLE and bool(float_outputs(layer))


def float_outputs(layer: Any) -> list[int]:
    """Positions of its float outputs; TopK's indices and the like keep their type."""
    return [at for at in present(layer.num_outputs, layer.get_output) if dtype_name(layer.get_output(at).dtype.name) in FLOAT_TYPES]


def pin_layer(layer: Any, dtype: Any) -> None:
    """Precision and every float output: one without the other lets the builder narrow what leaves the layer."""
    layer.precision = dtype
    for at in float_outputs(layer):
        layer.set_output_type(at, dtype)


def holds(layer: Any, dtype: Any) -> bool:
    """Whether the pin reads back."""
    outputs = float_outputs(layer)
    return bool(
        layer.precision_is_set
        and layer.precision == dtype
        and all(layer.output_type_is_set(at) and layer.get_output_type(at) == dtype for at in outputs)
    )


def declared_pins(path: Path) -> dict[str, str]:
    """Nodes of a typed graph whose float outputs are all FP32, or all BF16; empty for a graph of FP32 alone, which is then free.

    Reads the graph without its weights. Casts are no computation and are left to the parser.
    """
    import onnx

    names = {onnx.TensorProto.FLOAT: "fp32", onnx.TensorProto.FLOAT16: "fp16", onnx.TensorProto.BFLOAT16: "bf16"}
    main = onnx.shape_inference.infer_shapes(onnx.load(path, load_external_data=False)).graph
    graphs = list(graphs_of(main))
    values = [value for graph in graphs for value in (*graph.value_info, *graph.output, *graph.input)]
    typed = {value.name: names.get(value.type.tensor_type.elem_type) for value in values}
    if not {"fp16", "bf16"} & set(typed.values()):
        return {}
    pins = {}
    for node in (node for graph in graphs for node in graph.node):
        formats = {typed.get(output) for output in node.output} - {None}
        if node.op_type != "Cast" and len(formats) == 1 and formats <= {"fp32", "bf16"}:
            pins[node.name] = str(formats.pop())
    return pins
