"""The text of a new YAML: every line that a user is likely to change, with what it means."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from math import floor, log10

from fp16fix.config.file import value_of
from fp16fix.config.published import FILE
from fp16fix.inputs.shapes import InputShapes, text_from_dims

QUARTER = 0.25
"""Of a pixel: what no box is judged by."""


@dataclass(frozen=True, slots=True)
class Coordinates:
    """An output that looks like coordinates, in one sample."""

    output: str
    low: float
    high: float
    pixels: bool
    """Larger than coordinates that run from 0 to 1."""
    side: int
    """Of the picture that went in, in pixels; 0 if none did."""

    @property
    def bound(self) -> float:
        """A quarter of a pixel, in the output's own unit; a thousandth of the largest value where nobody knows how large a pixel is."""
        if self.pixels:
            return QUARTER
        bound = QUARTER / self.side if self.side else max(abs(self.low), abs(self.high)) / 1000
        return round(bound, 1 - floor(log10(bound)))


@dataclass(frozen=True, slots=True)
class Scaffold:
    """What is known of a model; paths as they are written in the YAML."""

    model: str
    product: str
    inputs: str
    """Samples that fit; empty if none were found."""
    count: int
    """How many those are."""
    misfits: tuple[str, ...]
    """What lies beside the model and does not fit, and why."""
    signature: tuple[str, ...]
    """The model's inputs in words."""
    spans: tuple[InputShapes, ...]
    coordinates: tuple[Coordinates, ...]


def written(known: Scaffold) -> str:
    """The YAML, ending in a line feed."""
    parts = (head(known), samples(known), limits(), tolerance(known), build(known))
    return "\n".join(line for part in parts for line in (*part, "")).rstrip() + "\n"


def scalar(text: str) -> str:
    """Text as YAML reads it back: plain where that is safe, else in double quotes."""
    plain = re.fullmatch(r"[A-Za-z0-9_./][\w./-]*", text) is not None and value_of(text, "text") == text
    return text if plain else json.dumps(text, ensure_ascii=True)


def comment(text: str) -> str:
    """One line that is a comment, whatever the text holds."""
    return "# " + "".join(letter if letter.isprintable() else " " for letter in text)


def head(known: Scaffold) -> Iterator[str]:
    """Model and product."""
    yield f"# yaml-language-server: $schema={FILE}"
    yield "# How this model is repaired for FP16:  fp16fix repair --config THIS_FILE"
    yield "# Relative paths start from the folder of this file. Flags win over what stands here."
    yield ""
    yield f"model: {scalar(known.model)}"
    yield from (comment(f"  takes {each}") for each in known.signature)
    yield f"output: {scalar(known.product)}"
    yield "# .onnx writes the repaired graph and needs no TensorRT; .plan builds an engine as well"


def samples(known: Scaffold) -> Iterator[str]:
    """What everything is measured on."""
    if known.inputs:
        yield f"inputs: {scalar(known.inputs)}"
        yield comment(
            f"{known.count} that fit the model; a few dozen real ones, of every kind that will be met, make the verdict worth more"
        )
    else:
        yield "# inputs: samples/"
        yield "# No samples were found beside the model, so they are made up, and every report says so. Give real ones: a folder of .npz,"
        yield "# one sample a file, arrays by input name; or file.py:function, which yields such dicts."
    yield from (comment(f"does not fit: {each}") for each in known.misfits)
    yield "held_out: 0.5                      # share of the samples that no search sees: the verdict rests on them too"


def limits() -> Iterator[str]:
    """Where islands may be."""
    yield "headroom: 2.0                      # octaves: an input four times larger than any seen still fits FP16"
    yield "precision: fp16                    # bf16 where values leave FP16 everywhere: then 32 dB is what sqnr_db can ask for"
    yield "io: fp32                           # inputs and outputs keep their type; fp16 halves the copies to and from the GPU"
    yield 'pin: []                            # patterns of node names that stay wide, as ["/head/boxes/*"]'
    yield "allow: []                          # patterns of node names that are FP16 whatever is found"


def tolerance(known: Scaffold) -> Iterator[str]:
    """What counts as right."""
    yield "# What counts as right: each output against FP32, in its worst sample."
    yield "tolerance:"
    yield "  sqnr_db: 50.0                    # signal to noise: 50 dB is an error of 0.3 % of the signal; 6 dB more is half of that"
    yield "  # cosine: 0.9999                 # for embeddings"
    yield "  # metrics: [top1]                # the task's own measures: top1, box-corners, box-iou, or judge.py:function"
    if known.coordinates:
        yield "  outputs:                         # these look like coordinates: decibels say little of them, their own unit does"
    for each in known.coordinates:
        unit = " unit: px" if each.pixels else ""
        said = "a quarter of a pixel" if each.pixels or each.side else "a thousandth of the largest"
        bound = f"{{max_abs: {each.bound:.6g},{unit}}}" if unit else f"{{max_abs: {each.bound:.6g}}}"
        yield f"    {scalar(each.output)}: {bound}"
        yield "    " + comment(f"from {each.low:.4g} to {each.high:.4g} in one sample; the bound is {said}")


def build(known: Scaffold) -> Iterator[str]:
    """The engine."""
    yield "build:"
    yield "  backend: auto                    # rtx, strong (TensorRT >= 10) or weak (TensorRT 8.6 to 10)"
    yield "  # targets: [sm86, sm89]          # GPUs that the plan is for (TensorRT-RTX); default: the builder's choice"
    if known.spans:
        yield "  profiles:                        # dimensions that are free in the model: the sizes that the engine must take"
        for index, each in enumerate(known.spans):
            shapes = ", ".join(f"{key}: {text_from_dims(getattr(each, key))}" for key in ("min", "opt", "max"))
            yield f"    {'-' if index == 0 else ' '} {scalar(each.name)}: {{{shapes}}}"
        yield "    # the batch is 1 to 8 or what samples have; other sizes are those of the samples" + (
            "" if known.inputs else ", here guessed"
        )
    yield "  timeout_s: 1800                  # the build runs in a process of its own and is stopped then"
