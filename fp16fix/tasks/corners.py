"""Every optimisation profile's smallest, likeliest and largest shapes, with the strict verdict over the samples of just these shapes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fp16fix.engines import OptimizationProfile
from fp16fix.engines.options import Dims
from fp16fix.engines.profiles import declared, measures, profiles_of
from fp16fix.graph.model import Model
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.evidence import Arrays, Evidence
from fp16fix.report.outcome import Corner
from fp16fix.search.answer import Answer

AT = ("min", "opt", "max")


def corners(found: Evidence, answer: Answer, typed: Model) -> tuple[Corner, ...]:
    """Every profile's smallest, likeliest and largest shapes, with the strict verdict over the samples of just these shapes."""
    config = found.config
    inputs = declared(config.model or Path())
    seen = [measures(sample, inputs) for sample in found.judged]
    made = []
    for number, profile in enumerate(profiles_of(config), start=1):
        for at, shapes in distinct(profile):
            chosen = [index for index, each in enumerate(seen) if all(each.get(name) == dims for name, dims in shapes.items())]
            verdict = None
            if len(chosen) == len(seen):
                verdict = answer.verdict
            elif chosen:
                few = Arrays(found.judged.samples.pick(chosen))
                with StrictOracle(found.model, few, config.tolerance.of, names=few.names, threads=config.threads) as oracle:
                    verdict = oracle.verdict(typed, profile=config.profile)
            made.append(Corner(number, at, shapes, len(chosen), verdict))
    return tuple(made)


def distinct(profile: OptimizationProfile) -> Iterator[tuple[str, dict[str, Dims]]]:
    """The corners of one profile, those that coincide together."""
    named: dict[tuple[tuple[str, Dims], ...], list[str]] = {}
    for index, at in enumerate(AT):
        named.setdefault(tuple((name, shapes[index]) for name, shapes in sorted(profile.items())), []).append(at)
    for shapes, places in named.items():
        yield ", ".join(places), dict(shapes)
