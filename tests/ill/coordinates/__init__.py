"""Class 14: coordinates, grids and running counts; FP16 knows only every second integer past 2048."""

from __future__ import annotations

import numpy as np
import onnx

from ..case import Case, Feeds, normal, tokens
from ..fragments import conv_random, dense
from ..net import FLOAT, INT64, Array, Net

ROWS, COLUMNS, STRIDE = 4, 640, 8.0
HEIGHT, WIDTH = 8, 2048
PAD, LONGEST, VOCABULARY = 1, 4200, 50


def yolo() -> onnx.ModelProto:
    """A detection head on a 5120-pixel-wide map: (2σ - 0.5 + grid)·stride, (2σ)²·anchor, corners, areas as NMS needs them."""
    net = Net("detect", opset=13, seed=30)
    x = net.input("features", [1, 16, ROWS, COLUMNS])
    with net.scope("model.24"):
        raw = conv_random(net, "m.0", x, 16, 4, 1, bias=0.2)
        rows = net.op("Reshape", net.op("Transpose", net.op("Sigmoid", raw), perm=[0, 2, 3, 1]), np.asarray([1, -1, 4], np.int64))
        across, down = np.meshgrid(np.arange(COLUMNS), np.arange(ROWS))
        grid = net.weight("grid", np.stack([across, down], -1).reshape(1, -1, 2) - 0.5)
        offset, extent = (net.op("Slice", rows, *(np.asarray([each], np.int64) for each in (start, start + 2, 2))) for start in (0, 2))
        centre = net.op("Mul", net.op("Add", net.op("Mul", offset, 2.0), grid), STRIDE)
        size = net.op("Mul", net.op("Pow", net.op("Mul", extent, 2.0), 2.0), np.asarray([6.0, 9.0], np.float32))
        half = net.op("Mul", size, 0.5)
        low, high = net.op("Sub", centre, half), net.op("Add", centre, half)
        boxes = net.op("Concat", low, high, axis=-1)
        area = net.op("ReduceProd", net.op("Sub", high, low), axes=[2], keepdims=0)
    net.output("boxes", boxes, [1, ROWS * COLUMNS, 4])
    net.output("areas", area, [1, ROWS * COLUMNS])
    return net.model()


def warp() -> onnx.ModelProto:
    """Backward warping: a base grid in [-1, 1] plus flow · 2/(size - 1), GridSample of a 2048-pixel-wide image."""
    net = Net("ifnet", opset=16, seed=31)
    image, flow = net.input("image", [1, 3, HEIGHT, WIDTH]), net.input("flow", [1, 2, HEIGHT, WIDTH])
    with net.scope("warp"):
        smooth = conv_random(net, "refine", flow, 2, 2, 1)
        step = net.op("Transpose", net.op("Mul", smooth, net.weight("step", pixel_step())), perm=[0, 2, 3, 1])
        across, down = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
        grid = net.op("Add", net.weight("grid", np.stack([across, down], -1)[None]), step)
        warped = net.op("GridSample", image, grid, mode="bilinear", padding_mode="border", align_corners=1)
        out = conv_random(net, "blend", warped, 3, 3, 1)
    net.output("warped", out, [1, 3, HEIGHT, WIDTH])
    return net.model()


def pixel_step() -> Array:
    """What one pixel is in a grid from -1 to 1, [1, 2, 1, 1]."""
    return np.asarray([2 / (WIDTH - 1), 2 / (HEIGHT - 1)], np.float32).reshape(1, 2, 1, 1)


def fairseq() -> onnx.ModelProto:
    """Learned positions: CumSum of (id != pad) in floating point, times the mask, Cast, Gather; plus the token embedding, dense."""
    net = Net("fairseq", opset=13, seed=32)
    ids = net.input("input_ids", [1, "sequence"], INT64)
    with net.scope("embeddings"):
        mask = net.op("Cast", net.op("Not", net.op("Equal", ids, PAD)), to=FLOAT)
        counted = net.op("Mul", net.op("CumSum", mask, 1), mask)
        index = net.op("Add", net.op("Cast", counted, to=INT64), PAD)
        place = net.op("Gather", net.weight("position_embeddings.weight", net.normal(LONGEST, 8)), index)
        word = net.op("Gather", net.weight("word_embeddings.weight", net.normal(VOCABULARY, 8)), ids)
        out = dense(net, "proj", net.op("Add", word, place), 8, 8)
    net.output("embedded", out, [1, "sequence", 8])
    return net.model()


def frames() -> list[Feeds]:
    """Textured frames in [0, 1] and flows of about two pixels."""
    found = normal("flow", (1, 2, HEIGHT, WIDTH), seed=141, scale=2.0)
    rng = np.random.default_rng(142)
    for feeds in found:
        feeds["image"] = rng.random((1, 3, HEIGHT, WIDTH)).astype(np.float32)
    return found


CASES = (
    Case(
        name="coordinates-yolo-decode",
        classes=(14, 19),
        build=yolo,
        samples=lambda: normal("features", (1, 16, ROWS, COLUMNS), seed=140),
        note="Corners of boxes six pixels wide at x = 5000 are rounded to multiples of 4; their areas are noise.",
    ),
    Case(
        name="coordinates-grid-sample",
        classes=(14,),
        build=warp,
        samples=frames,
        note="A normalised grid has steps of half a pixel near its ends when the image is 2048 wide (RIFE#188).",
    ),
    Case(
        name="coordinates-cumsum-positions",
        classes=(14,),
        build=fairseq,
        samples=lambda: tokens("input_ids", (1, 128), VOCABULARY, seed=143),
        held_out=lambda: tokens("input_ids", (1, 4096), VOCABULARY, seed=144, count=1),
        note="Positions counted in FP16 stop at every second one past 2048: right at length 128, wrong at 4096 (pytorch#94816).",
    ),
)
