"""Names → models whose repair is timed: networks, a U-Net, chains and blocks of many nodes, few and many samples, one past 2 GiB."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fp16fix.inputs.files import write_npz
from tools.bench import bert_base, networks
from tools.bench.copies import WIDTH, chain
from tools.bench.speed import unet

SEED = 7
Feeds = dict[str, np.ndarray]
Draw = Callable[[np.random.Generator], Feeds]
WIDE, DEPTH = 8192, 10
"""Of the large model: ten square weights of 256 MiB."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is timed."""

    name: str
    write: Callable[[Path], Draw]
    """Writes the model, and says how a sample is drawn."""
    samples: int
    rival: bool = False
    """AutoCast converts it, too."""


def bert(path: Path) -> Draw:
    """BERT-base; a sentence and its mask."""
    bert_base.export(path)
    return lambda generator: bert_base.sentence(int(generator.integers(1 << 16)))


def network(name: str, path: Path) -> Draw:
    """One of ``tools.bench.networks``."""
    make, draw = networks.NETWORKS[name]
    networks.export(make(), draw(np.random.default_rng(SEED)), path)
    return draw


def diffusion(path: Path) -> Draw:
    """See ``unet``."""
    networks.export(unet.unet(), unet.feeds(np.random.default_rng(SEED)), path)
    return unet.feeds


def rows(generator: np.random.Generator) -> Feeds:
    """What chains and blocks take."""
    return {"x": generator.standard_normal((4, WIDTH)).astype(np.float32)}


def chained(count: int, path: Path) -> Draw:
    """Blocks of eight nodes of which two pass FP16 without effect (see ``tools.bench.copies``): FP16 is right as it is."""
    onnx.save(chain(count), path)
    return rows


def blocks(count: int, path: Path) -> Draw:
    """Blocks of eight nodes, a norm by hand whose square overflows: every one of them must be repaired. Sigmoid damps what goes round."""
    rng, nodes, weights, x = np.random.default_rng(SEED), [], [], "x"
    literals = {"k": 2000.0, "eps": 1e-5}
    weights += [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in literals.items()]
    for block in range(count // 8):
        name, held = f"/block.{block}", f"w{block}"
        weights.append(numpy_helper.from_array((rng.standard_normal((WIDTH, WIDTH)) / WIDTH**0.5).astype(np.float32), held))
        steps = (
            ("MatMul", [x, held], "p"),
            ("Mul", ["p", "k"], "m"),
            ("Mul", ["m", "m"], "s"),
            ("ReduceMean", ["s"], "v"),
            ("Add", ["v", "eps"], "e"),
            ("Sqrt", ["e"], "r"),
            ("Div", ["m", "r"], "n"),
            ("Sigmoid", ["n"], "t"),
        )
        own = {out: f"{name}/{out}" for _, _, out in steps}
        for op, inputs, out in steps:
            attrs: dict[str, Any] = {"axes": [-1], "keepdims": 1} if op == "ReduceMean" else {}
            nodes.append(helper.make_node(op, [own.get(each, each) for each in inputs], [own[out]], name=f"{name}/{op}_{out}", **attrs))
        x = own["t"]
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [4, WIDTH]) for each in ("x", x)]
    graph = helper.make_graph(nodes, "blocks", ends[:1], ends[1:], initializer=weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return rows


def large(path: Path) -> Draw:
    """Products and Tanh with 2.5 GiB of weights beside the graph."""
    rng, nodes, weights, x = np.random.default_rng(SEED), [], [], "x"
    with path.with_suffix(".bin").open("wb") as file:
        for layer in range(DEPTH):
            values = rng.standard_normal((WIDE, WIDE), np.float32) * np.float32(WIDE**-0.5)
            made = onnx.TensorProto(name=f"w{layer}", data_type=TensorProto.FLOAT, dims=values.shape, data_location=TensorProto.EXTERNAL)
            for key, value in (("location", "model.bin"), ("offset", str(file.tell())), ("length", str(values.nbytes))):
                made.external_data.add(key=key, value=value)
            values.tofile(file)
            weights.append(made)
            nodes += [
                helper.make_node("MatMul", [x, made.name], [f"p{layer}"], name=f"product{layer}"),
                helper.make_node("Tanh", [f"p{layer}"], [f"t{layer}"], name=f"tanh{layer}"),
            ]
            x = f"t{layer}"
    ends = [helper.make_tensor_value_info(each, TensorProto.FLOAT, [4, WIDE]) for each in ("x", x)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], initializer=weights)
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    return lambda generator: {"x": generator.standard_normal((4, WIDE)).astype(np.float32)}


SUBJECTS: Mapping[str, Subject] = {
    each.name: each
    for each in (
        Subject("BERT-base", bert, 8, rival=True),
        Subject("ViT-base", partial(network, "ViT-base"), 8, rival=True),
        Subject("ResNet-50", partial(network, "ResNet-50"), 8, rival=True),
        Subject("U-Net", diffusion, 8, rival=True),
        *(Subject(f"chain-{count}", partial(chained, count), 4) for count in (1000, 4000)),
        *(Subject(f"blocks-{count}", partial(blocks, count), 4) for count in (1000, 2000, 4000, 16000)),
        *(Subject(f"samples-{count}", partial(chained, 64), count) for count in (4, 64, 512)),
        Subject("large", large, 4),
    )
}


def made(name: str, folder: Path) -> None:
    """``model.onnx`` and ``samples/`` in a folder."""
    subject, generator = SUBJECTS[name], np.random.default_rng(SEED)
    draw = subject.write(folder / "model.onnx")
    (folder / "samples").mkdir()
    for index in range(subject.samples):
        write_npz(folder / "samples" / f"{index:03}.npz", draw(generator))
