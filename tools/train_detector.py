"""Trains the demo detector on scenes of digits, makes it ill in FP16, and writes detector.onnx and samples/*.npz into tests/demo.

After training it is sound in FP16 too. `make_ill` then moves powers of two between neighbouring weights. That preserves the function:
FP32 outputs are the same (checked here, and refused otherwise). Plain FP16 gives finite boxes that are off by several pixels;
autocast, which keeps norms in FP32, gives right ones.
"""

from __future__ import annotations

import argparse
import runpy
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import torch
from demo_detector import NONE, QUERIES, SIDE, STRIDE, Detector, LayerNorm
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional

Array = npt.NDArray[Any]
DEMO = Path(__file__).parents[1] / "tests" / "demo"
STREAM_SHIFT = 6
"""The encoder's residual stream times 2^6: most tokens get a channel past 256, its square is inf, and the norm gives its bias alone."""
SIZE_SHIFT = 9
"""The size head's projection times 2^9: every query's variance is inf in FP16, and all boxes get the one size that the bias gives."""
PRIOR_SHIFT = -15
"""The pointer's cell prior, 2^-8, times 2^-15: no weight is more than two of FP16's steps of 2^-24, so the mean is pixels off."""


class Scenes:
    """Endless scenes: 1 to 4 digits, tinted, two to four times their 8 px, on a noisy background; every fifth digit is held out."""

    def __init__(self, seed: int, *, held_out: bool) -> None:
        digits = load_digits()
        part = (np.arange(len(digits.target)) % 5 == 0) == held_out
        self.rng, self.labels = np.random.default_rng(seed), digits.target[part]
        small = torch.tensor(digits.images[part] / 16.0, dtype=torch.float32)[:, None]
        self.glyphs = {size: functional.interpolate(small, (size, size), mode="bilinear")[:, 0].numpy() for size in (16, 24, 32)}

    def scene(self) -> tuple[Array, Array, Array]:
        """One image [3, 128, 128] in steps of 4/255, its boxes [n, 4] (x1, y1, x2, y2 of the ink, px; none overlap) and labels [n]."""
        coarse = torch.tensor(self.rng.uniform(0.1, 0.5, (1, 3, 4, 4)), dtype=torch.float32)
        image = functional.interpolate(coarse, (SIDE, SIDE), mode="bilinear")[0].numpy()
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for _ in range(self.rng.integers(1, 5)):
            which, size = int(self.rng.integers(len(self.labels))), 8 * int(self.rng.integers(2, 5))
            x, y = (int(corner) for corner in self.rng.integers(0, SIDE - size, 2))
            glyph = self.glyphs[size][which]
            columns, rows = np.flatnonzero(glyph.max(0) > 0.25), np.flatnonzero(glyph.max(1) > 0.25)
            box = (x + int(columns[0]), y + int(rows[0]), x + int(columns[-1]) + 1, y + int(rows[-1]) + 1)
            if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in boxes):
                continue
            patch = image[:, y : y + size, x : x + size]
            patch += glyph * (self.rng.uniform(0.6, 1.0, (3, 1, 1)) - patch)
            boxes.append(box)
            labels.append(int(self.labels[which]))
        image = image + 0.04 * self.rng.standard_normal(image.shape, np.float32)
        return (np.round(image.clip(0, 1) * 63) * 4 / 255).astype(np.float32), np.array(boxes, np.float32), np.array(labels)

    def batch(self, count: int) -> tuple[Tensor, list[Tensor], list[Tensor]]:
        scenes = [self.scene() for _ in range(count)]
        return torch.tensor(np.stack([s[0] for s in scenes])), [torch.tensor(s[1]) for s in scenes], [torch.tensor(s[2]) for s in scenes]


def box_from_corners(corners: Tensor) -> Tensor:
    return torch.cat(((corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]), -1)


def dense_loss(found: Tensor, grid: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> Tensor:
    """Every cell names what covers it and how far the edges are: this teaches the encoder long before the queries have settled."""
    target, offsets = torch.full(found.shape[:2], NONE), torch.zeros(*found.shape[:2], 4)
    for image, (all_corners, all_labels) in enumerate(zip(boxes, labels, strict=True)):
        for corners, label in zip(all_corners, all_labels, strict=True):
            inside = ((grid > corners[:2]) & (grid < corners[2:])).all(-1)
            inside[(grid - (corners[:2] + corners[2:]) / 2).norm(dim=-1).argmin()] = True
            target[image, inside] = label
            offsets[image, inside] = torch.cat((corners[:2] - grid[inside], corners[2:] - grid[inside]), -1)
    named = functional.cross_entropy(found[..., : NONE + 1].flatten(0, 1), target.flatten())
    return named + functional.l1_loss(found[..., NONE + 1 :][target != NONE], offsets[target != NONE] / STRIDE)


def matched(logits: Tensor, found: Tensor, box: Tensor, label: Tensor) -> tuple[Array, Array]:
    """Queries and objects paired at the least total cost, as in DETR."""
    cost = torch.cdist(found, box, p=1) / 16 - 2 * logits.softmax(-1)[:, label]
    rows, columns = linear_sum_assignment(cost.detach().numpy())
    return rows, columns


def set_loss(logits: Tensor, found: Tensor, boxes: list[Tensor], labels: list[Tensor]) -> Tensor:
    target, errors = torch.full(logits.shape[:2], NONE), []
    for image, (corners, label) in enumerate(zip(boxes, labels, strict=True)):
        box = box_from_corners(corners)
        rows, columns = matched(logits[image], found[image], box, label)
        target[image, rows] = label[columns]
        errors.append((found[image, rows] - box[columns]).abs())
    weight = torch.ones(NONE + 1)
    weight[NONE] = 0.5  # most queries find nothing
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten(), weight) + torch.cat(errors).mean() / 4


def train(steps: int) -> Detector:
    """A detector in eval mode, after so many batches of 24 scenes; the learning rate falls to zero by the last."""
    torch.manual_seed(0)
    model, scenes, began = Detector(), Scenes(0, held_out=False), time.monotonic()
    optimiser = torch.optim.AdamW(model.parameters(), weight_decay=1e-4)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 1.5e-3 * min(1.0, step / 100) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        images, boxes, labels = scenes.batch(24)
        memory = model.encode(images)
        loss = dense_loss(model.dense(memory), model.decoder.pointer.grid, boxes, labels)
        for logits, found in model.decoder(memory):
            loss = loss + set_loss(logits, found, boxes, labels)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} of {steps}: loss {loss.item():.2f}, {time.monotonic() - began:.0f} s", flush=True)
    model.eval()
    return model


def shift(exponent: int, weights: Iterable[Tensor], norms: Iterable[LayerNorm]) -> None:
    """Times 2^exponent: all that writes a stream; times 2^(2·exponent): the eps of all norms that read it, which so give what they gave."""
    for weight in weights:
        weight.data.mul_(2.0**exponent)
    for norm in norms:
        norm.eps *= 4.0**exponent


def make_ill(model: Detector) -> None:
    """Moves powers of two about, in place: the same function in FP32, another in FP16 (see STREAM_SHIFT, SIZE_SHIFT and PRIOR_SHIFT)."""
    layers, size = model.encoder.layers, model.decoder.size
    writers = [model.project, *(layer.attn.out for layer in layers), *(layer.ffn[2] for layer in layers)]
    readers = [model.encoder.norm, *(layer.norm1 for layer in layers), *(layer.norm2 for layer in layers)]
    shift(STREAM_SHIFT, [model.position, *(p for writer in writers for p in writer.parameters())], readers)
    shift(SIZE_SHIFT, size.proj.parameters(), [size.norm])
    shift(PRIOR_SHIFT, [model.decoder.pointer.prior], [])


def outputs(model: onnx.ModelProto, images: Array) -> list[Array]:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    logits, boxes = session.run(["logits", "boxes"], {"images": images})
    return [logits, boxes]


def torch_outputs(model: Detector, images: Tensor, *, autocast: bool) -> list[Array]:
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.float16, enabled=autocast):
        return [output.float().numpy() for output in model(images)]


def export(model: Detector, path: Path) -> onnx.ModelProto:
    """Written by the exporter that keeps the norms as they were written; the batch is dynamic."""
    dynamic = {name: {0: "batch"} for name in ("images", "logits", "boxes")}
    names = {"input_names": ["images"], "output_names": ["logits", "boxes"], "dynamic_axes": dynamic}
    torch.onnx.export(model, (torch.rand(2, 3, SIDE, SIDE),), path, opset_version=17, dynamo=False, **names)
    graph = onnx.load(path)
    for output in graph.graph.output:  # the exporter loses the count of queries behind Reshape's -1
        output.type.tensor_type.shape.dim[1].dim_value = QUERIES
    onnx.save(graph, path)
    return graph


def against_truth(found: Sequence[Array], boxes: list[Tensor], labels: list[Tensor]) -> str:
    errors, right, claims = [], [], int((found[0].argmax(-1) != NONE).sum())
    for image, (corners, label) in enumerate(zip(boxes, labels, strict=True)):
        box, logits, guess = box_from_corners(corners), torch.tensor(found[0][image]), torch.tensor(found[1][image])
        rows, columns = matched(logits, guess, box, label)
        errors.append((guess[rows] - box[columns]).abs().numpy())
        right.append((logits[rows].argmax(-1) == label[columns]).numpy())
    error, correct = np.concatenate(errors), np.concatenate(right)
    measured = f"box error mean {error.mean():.2f} px, median {np.median(error):.2f}; class right {correct.mean():.1%}"
    return f"{measured}; {claims} found of {len(error)}"


def against_fp32(found: Sequence[Array], sound: Sequence[Array]) -> str:
    """Boxes count where FP32 names an object."""
    there = sound[0].argmax(-1) != NONE
    error, named = np.abs(found[1] - sound[1])[there], found[0].argmax(-1) == sound[0].argmax(-1)
    axes = ", ".join(f"{name} {value:.2f}" for name, value in zip(("cx", "cy", "w", "h"), error.mean(0), strict=True))
    sizes = f"mean {error.mean():.3f} px ({axes}), max {error.max():.2f}"
    return f"{sizes}; class kept {named[there].mean():.1%}, none kept {named[~there].mean():.1%}; finite {np.isfinite(found[1]).all()}"


def ill_checked(model: Detector, images: Tensor) -> list[Array]:
    """Makes `model` ill and gives its FP32 outputs; stops where they are not what they were before, up to rounding."""
    sound = torch_outputs(model, images, autocast=False)
    make_ill(model)
    outputs_now = torch_outputs(model, images, autocast=False)
    for name, before, after in zip(("logits", "boxes"), sound, outputs_now, strict=True):
        moved, span = float(np.abs(after - before).max()), float(np.ptp(before))
        print(f"made ill: FP32 {name} moved by at most {moved:.3g}, their span is {span:.4g}")
        if moved > 1e-5 * span:
            raise SystemExit(f"{name} moved by {moved:.3g}: the shifts do not preserve the FP32 function")
    return outputs_now


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1500, help="training length; a fifth of a second each on two cores")
    parser.add_argument("--weights", type=Path, help="a checkpoint to read instead of training")
    parser.add_argument("--keep", type=Path, help="where to write the trained weights, for --weights")
    asked = parser.parse_args()
    torch.set_num_threads(2)
    model = train(asked.steps) if asked.weights is None else Detector().eval()
    if asked.weights is not None:
        model.load_state_dict(torch.load(asked.weights, weights_only=True))
    if asked.keep is not None:
        torch.save(model.state_dict(), asked.keep)
    images, boxes, labels = Scenes(1, held_out=True).batch(256)
    sound = ill_checked(model, images)
    path = DEMO / "detector.onnx"
    graph = export(model, path)
    (DEMO / "samples").mkdir(exist_ok=True)
    for index, image in enumerate(Scenes(2, held_out=True).batch(8)[0].numpy()):
        np.savez_compressed(DEMO / "samples" / f"scene{index}.npz", images=image[None])
    strict = runpy.run_path(str(DEMO / "test_detector.py"))["strict"]
    plain = outputs(strict(graph), images.numpy())
    print("truth, FP32:           ", against_truth(sound, boxes, labels))
    print("truth, plain FP16:     ", against_truth(plain, boxes, labels))
    print("against FP32, ONNX:    ", against_fp32(outputs(graph, images.numpy()), sound))
    print("against FP32, autocast:", against_fp32(torch_outputs(model, images, autocast=True), sound))
    print("against FP32, plain:   ", against_fp32(plain, sound))
    print(f"{path.name}: {path.stat().st_size} bytes, {len(graph.graph.node)} nodes")


if __name__ == "__main__":
    main()
