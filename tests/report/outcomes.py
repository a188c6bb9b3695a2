"""Outcomes made up for tests of what is written about them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.recipe import Edit, Promise, Recipe, Refusal, placement, rescaling, saturation
from fp16fix.ranges.range import Range
from fp16fix.report.outcome import Along, Asked, Counts, Disposition, EngineFacts, ModelFacts, Outcome, SampleFacts, Wired
from fp16fix.search.trial import Trial
from fp16fix.verdict.verdict import Entry, Figures, SampleFigures, Verdict

INF = math.inf


def span(tensor: str, absmax: float, smallest: float = 1e-3) -> Range:
    return Range(
        tensor, (1, 64, 32, 32), -absmax, absmax, smallest, (absmax / 4) ** 2, INF if absmax > 65520 else 1e-9, 0, octaves=((-3, 7), (2, 9))
    )


def hazard(node: str, kind: Kind = Kind.OVERFLOW, bits: float = 3.9) -> Hazard:
    why = f"{node} reaches 9.6e+05, 3.9 octaves past 65504"
    return Hazard(node, kind, f"{node}_out", "Mul", -9.6e5, 9.6e5, 1e-3, bits, why)


def wave(index: int, count: int) -> float:
    """A residual stream that grows past FP16 in the middle and comes back."""
    return math.pow(2.0, 1 + 19 * math.sin(math.pi * index / count) ** 2 + 2 * math.sin(index * 1.7))


def tensor_names(count: int, prefix: str = "/decoder") -> list[str]:
    return [f"{prefix}/up.{i // 12}/block.{i // 4 % 3}/{('conv', 'norm', 'act', 'add')[i % 4]}_out" for i in range(count)]


def outcome(tensors: int = 48, **changes: Any) -> Outcome:
    """A VAE-like decoder that overflowed, was rescaled, and passes; every section has something to say."""
    names = tensor_names(tensors)
    before = [wave(i, tensors) for i in range(tensors)]
    nodes = [name.removesuffix("_out") for name in names]
    hot = [i for i in range(tensors) if before[i] > 65504]
    ends = ["rescaled", "repaired", "pinned", "harmless", "refused", "gone"]
    rewrite = Edit(
        "fuse-groupnorm",
        nodes[1],
        Promise.REORDERED,
        (nodes[1],),
        because="the square of 9.6e5 needs FP32 insides, which the fused operator has",
    )
    eps = Edit("rescale-eps", nodes[5], Promise.EXACT, (nodes[5],), "eps", -12, (("eps", 1e-6),), "eps follows the stream's exponent")
    pinned, why = nodes[hot[2]] if len(hot) > 2 else nodes[0], "9.6e+05 does not fit FP16"
    apart = (
        SampleFigures("night", 56.6, 0.0021, 0.0019, 0.999998, entry=Entry(1, 2)),
        SampleFigures("noon", 61.2, 0.0011, 0.0009, 0.999999, excluded=7),
    )
    good = Figures("image", 56.6, 0.0021, 0.0019, 0.999998, 0, excluded=7, sample="night", entry=Entry(1, 2), samples=apart)
    made = Outcome(
        tool="0.1.0",
        command=("fp16fix", "repair", "vae decoder.onnx", "-o", "vae.plan", "--inputs", "latents/"),
        model=ModelFacts("models/vae decoder.onnx", "5f" * 32, 17, 412, notes=("onnxsim removed 31 nodes",)),
        samples=SampleFacts("latents/", "a1" * 32, 8, 4, 4, False, False, ("ignored readme.txt",)),
        versions={"python": "3.11.2", "onnx": "1.19.0", "onnxruntime": "1.23.0", "tensorrt-rtx-cu13": "1.7.1.116"},
        hazards=tuple(
            Disposition(hazard(nodes[i]), ends[n % len(ends)], "stored as true × 2^-6 (exact)") for n, i in enumerate(hot or [0])
        ),
        recipe=Recipe((rewrite, rescaling({names[i]: 6 for i in hot}), eps, placement(pinned, "fp32", why), saturation(names[0]))),
        refusals=(
            Refusal(nodes[3], "overflow", "tanh(inf) = 1: the output does not move", harmless=True),
            Refusal(nodes[7], "fuse-rmsnorm", "the axes are not the last ones"),
        ),
        verdict=Verdict(True, "strict", "compiled", (good, Figures("ids", INF, 0.0, 0.0, 1.0, 0)), 4),
        pessimistic=Verdict(
            False, "strict", "pessimistic", (replace(good, sqnr_db=41.3, entry=None, samples=()),), 4, ("image: 41.3 dB, wanted 50 dB",)
        ),
        before=(Figures("image", 3.1, 2.2, 0.91, 0.42, 49152), Figures("ids", INF, 0.0, 0.0, 1.0, 0, 3)),
        equivalence=(Figures("image", 141.2, 1e-6, 1e-6, 1.0, 0), Figures("ids", INF, 0.0, 0.0, 1.0, 0)),
        counts=Counts(212, 1, 0, 3, 1, 1, 3.1e9, 2.4e6, 5.2e8, 4.1e6, 1_048_576),
        along=tuple(
            Along(
                nodes[i],
                ("Conv", "GroupNormalization", "Sigmoid", "Add")[i % 4],
                names[i],
                -INF if i > tensors // 2 else 72 - 60 * i / tensors,
                72 - 14 * i / tensors,
            )
            for i in range(tensors)
        ),
        ranges=tuple(map(span, names, before)),
        repaired_ranges=tuple(span(name, value / 64 if value > 65504 else value) for name, value in zip(names, before, strict=True)),
        headroom=2.0,
        derivation=(
            Trial("draft", "rules, exponents, islands", False, 44.2, 0, "image: 44.2 dB, wanted 50 dB"),
            Trial("refine", f"and pin {pinned}", True, 56.6, 1),
        ),
        engine=EngineFacts(
            "built, not executed",
            "vae.plan",
            "rtx",
            "1.7.1.116",
            ("sm89", "sm120"),
            0.41,
            8.73,
            98_612_344,
            187,
            2,
            (),
            ("weights changed type",),
        ),
        stages={"load": 1.21, "measure ranges": 4.4, "design repairs": 0.83, "repaired, strict": 5.1, "build engine": 9.2},
        warnings=(
            "The repaired graph relies on FP32 accumulators inside operators, as TensorRT has; under the pessimistic profile it fails.",
        ),
        asked=(Asked("image", 50.0, None, None, None), Asked("ids", 50.0, None, None, None)),
        graph=tuple(
            Wired(nodes[i], ("Conv", "GroupNormalization", "Sigmoid", "Add")[i % 4], (names[i - 1] if i else "latent",), (names[i],))
            for i in range(tensors)
        ),
        files={"plan": "vae.plan", "outcome": "vae.outcome.json", "report": "vae.report.html"},
    )
    return replace(made, **changes)
