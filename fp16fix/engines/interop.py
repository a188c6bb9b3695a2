"""Wide nodes → what other tools take: trtexec flags, and a script for Polygraphy's network post-processing. TensorRT 8.6 to 10.

Both pin layers of a weakly typed network; the repaired ONNX itself needs neither, on any TensorRT ≥ 10 that builds it strongly typed.
"""

from __future__ import annotations

from collections.abc import Mapping

from fp16fix.errors import ConfigError


def trtexec_flags(wide: Mapping[str, str]) -> str:
    """``--fp16 --precisionConstraints=obey --layerPrecisions=… --layerOutputTypes=…`` for an FP32 graph.

    trtexec names TensorRT's layers, and a layer is named after its node; an operator that the parser expands has further layers
    (``node_0``, …) that only ``polygraphy_script`` and the weak backend reach.

    Args:
        wide: node → ``fp32`` or ``bf16``.

    Raises:
        ConfigError: a name that trtexec's syntax cannot hold: it splits at commas, and takes quotes and ``*`` for itself.
    """
    if not wide:
        return "--fp16"
    for node in sorted(wide):
        if any(mark in node for mark in ",'*"):
            hint = "use the Polygraphy script, or the repaired ONNX with --stronglyTyped"
            raise ConfigError(f"trtexec cannot name {node!r}", where="trtexec flags", hint=hint)
    spec = ",".join(f"{node}:{fmt}" for node, fmt in sorted(wide.items()))
    formats = " --bf16" if "bf16" in wide.values() else ""
    return f"--fp16{formats} --precisionConstraints=obey {quoted(f'--layerPrecisions={spec}')} {quoted(f'--layerOutputTypes={spec}')}"


def quoted(flag: str) -> str:
    """For a POSIX shell; names hold no single quote here."""
    return f"'{flag}'"


SCRIPT = '''\
"""Keeps these ONNX nodes wide in a weakly typed TensorRT network (8.6 to 10). Written by fp16fix.

polygraphy convert model.onnx -o model.plan --fp16{bf16} --precision-constraints obey \\
    --trt-network-postprocess-script THIS_FILE
"""

import re

import tensorrt as trt

WIDE = {wide}
PATTERN = re.compile(r"{pattern}")
LEAVE = {leave}


def postprocess(network):
    found = set()
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        nodes = [text.split(" | ", 1)[0] for text in PATTERN.findall(layer.metadata)]
        node = next((node for node in nodes if node in WIDE), None)
        if node is None:
            continue
        found.add(node)
        if layer.type.name in LEAVE:
            continue
        dtype = trt.bfloat16 if WIDE[node] == "bf16" else trt.float32
        outputs = [(at, layer.get_output(at)) for at in range(layer.num_outputs)]
        floats = [at for at, tensor in outputs if tensor is not None and tensor.dtype.name in ("FLOAT", "HALF", "BF16")]
        if floats:
            layer.precision = dtype
        for at in floats:
            layer.set_output_type(at, dtype)
    lost = sorted(set(WIDE) - found)
    if lost:
        raise RuntimeError("these nodes have no layer in this network, is it the same model? " + ", ".join(lost))
'''


def polygraphy_script(wide: Mapping[str, str]) -> str:
    """A Python file whose ``postprocess(network)`` pins layers by metadata; it needs TensorRT and nothing of this package."""
    from fp16fix.engines.flavours.weak import UNPINNABLE
    from fp16fix.engines.metadata import OWNER

    lines = "".join(f"    {node!r}: {fmt!r},\n" for node, fmt in sorted(wide.items()))
    return SCRIPT.format(
        bf16=" --bf16" if "bf16" in wide.values() else "",
        wide=f"{{\n{lines}}}" if wide else "{}",
        pattern=OWNER.pattern,
        leave=repr(tuple(sorted(UNPINNABLE))),
    )
