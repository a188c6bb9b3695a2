"""Locations made up for tests of what is written about them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fp16fix.location.culprit import Culprit
from fp16fix.location.locate import AlongPlain
from fp16fix.location.triage import Fault, Triage
from fp16fix.report.located import Located
from fp16fix.search.shrink import Minimal
from tests.report.outcomes import INF, outcome, tensor_names

VERDICT = "A range fault: strict FP16 emulation reproduces it (image: 3.1 dB, wanted 50 dB), mostly by overflow."


def culprit(node: str, share: float = 0.5, out_db: float = -INF, **changes: Any) -> Culprit:
    made = Culprit(
        node=node,
        op="Pow",
        kind="overflow",
        share=share,
        sqnr_in_db=70.0,
        sqnr_out_db=out_db,
        repair="layernorm",
        tensor=f"{node}_out",
        pins=(node, f"{node}/mean"),
        why=f"{node} reaches 9.6e+05, 3.9 octaves past 65504",
    )
    return replace(made, **changes)


def minimal(*pins: str, **changes: Any) -> Minimal:
    """A search that was finished, on an oracle that can be trusted."""
    return replace(Minimal(pins=pins, together=(), oracle="cmd", complete=True, stopped="", calls=1, flaky=0), **changes)


def born_db(index: int, count: int) -> float:
    """Fine, then lost, then what is left of it."""
    return 72.0 if index < count // 3 else -INF if index < count // 2 else 12.0


def located(nodes: int = 48, **changes: Any) -> Located:
    """A decoder whose squares overflow: four culprits, one of them in a Loop, two minor births, a minimal set of
    two, one of which only hurts with another; every section speaks."""
    names = [name.removesuffix("_out") for name in tensor_names(nodes)]
    base = outcome()
    third = nodes // 3
    made = Located(
        triage=Triage(Fault.RANGE, VERDICT, ("all-FP16, strictly emulated, against FP32: image 3.1 dB, 49152 values lost",)),
        culprits=(
            culprit(names[third], 0.88),
            culprit(names[third + 5], 0.1, 8.0, kind="swamp", repair="exponent -16"),
            culprit(names[third + 9], 0.0185, 23.3, kind="cancel", repair="none: the axes are not the last ones", why=""),
            culprit("body/Mul", 0.0015, 31.0, op="Mul", kind="vanish", repair="pin fp32", within=names[third + 12]),
        ),
        minor=(
            culprit(names[2], 1e-9, 58.9, kind="cancel", why="", repair="none needed"),
            culprit(names[5], 0.0, 60.2, repair="none: harmless"),
        ),
        carried=tuple(names[third + 1 :]),
        cures=True,
        explained=0.97,
        along=tuple(
            AlongPlain(name, "Pow", f"{name}_out", born_db(i, nodes), i in {2, 5, third, third + 5, third + 9, third + 12})
            for i, name in enumerate(names)
        ),
        minimal=minimal(
            names[third],
            names[third + 5],
            together=((names[third + 5], names[third + 9]),),
            oracle="python check.py {model}",
            calls=17,
            flaky=1,
        ),
        tool="0.1.0",
        command=("fp16fix", "locate", "vae decoder.onnx", "--inputs", "latents/"),
        model=base.model,
        samples=base.samples,
        versions=base.versions,
        stages={"load": 1.21, "measure ranges": 4.4, "locate": 3.9, "minimise": 8.73},
        warnings=("Only one sample was given: a verdict that rests on it alone says next to nothing of others.",),
        files={"location": "vae.locate.json", "report": "vae.locate.html"},
    )
    return replace(made, **changes)


def healthy() -> Located:
    """Nothing is wrong and nothing was born."""
    triage = Triage(Fault.ELSEWHERE, "Not a fault of FP16 rounding: strict FP16 emulation is right (y 66.1 dB).", ())
    base = located()
    along = tuple(replace(step, sqnr_db=math.inf if n else math.nan, born=False) for n, step in enumerate(base.along[:4]))
    return replace(
        base, triage=triage, culprits=(), minor=(), carried=(), cures=None, explained=1.0, along=along, minimal=None, warnings=()
    )
