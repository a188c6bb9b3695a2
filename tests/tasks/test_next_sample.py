"""What a verdict is worth: models of the kinds that were once wrongly verified, judged on many samples that nobody looked at."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config
from fp16fix.config.sections import Tolerance
from fp16fix.graph.load import load
from fp16fix.inputs.files import write_npz
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.report.outcome import Outcome
from fp16fix.tasks.repair import repair
from fp16fix.verdict.gates import RELAXED_DB
from fp16fix.verdict.verdict import worst
from tests.models import normal, proto

Arrays = dict[str, np.ndarray]
BOUND_DB = 50.0
GIVEN, FRESH = 6, 20


@dataclass(frozen=True)
class Kind:
    """A model and its samples."""

    text: str
    sample: Callable[[int], Arrays]
    weights: Callable[[], Arrays] = dict
    opset: int = 17


def random(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


FLOW = """g (float[1,96,24] a, float[1,96,24] b) => (float[1,96,2] flow) <float s = {30}, float cells = {8}> {
    [turn] t = Transpose <perm = [0, 2, 1]> (b)  [correlation] c = MatMul (a, t)  [scale] l = Mul (c, s)
    [softmax] p = Softmax <axis = -1> (l)  [expected] to = MatMul (p, grid)  [displacement] d = Sub (to, grid)  [pixels] flow = Mul (d, cells) }"""


def matched(seed: int) -> Arrays:
    """Features of unit length; each cell's partner is the next one, mostly."""
    rng = random(seed)
    a = rng.standard_normal((1, 96, 24))
    a /= np.linalg.norm(a, axis=-1, keepdims=True)
    b = np.roll(a, int(rng.integers(1, 3)), axis=1) + 0.12 * rng.standard_normal(a.shape)
    return {"a": (3 * a).astype(np.float32), "b": (1.5 * b).astype(np.float32)}


def grid() -> Arrays:
    x, y = np.meshgrid(np.arange(48, dtype=np.float32) * 8, np.arange(2, dtype=np.float32) * 8)
    return {"grid": np.stack([x.reshape(-1), y.reshape(-1)], axis=1)[None]}


FORECAST = """g (float[1,48,7] load, int64[1,48] seconds) => (float[1,7] next, float[1,1] rate)
    <int64 day = {86400}, float turn = {0.0000727220521}, float eps = {0.00001}, int64[1] last = {-1}, float low = {-7}, int64[1] steps = {1}> {
    [mean] m = ReduceMean <axes = [1]> (load)  [centred] d = Sub (load, m)  [squares] q = Mul (d, d)  [variance] v = ReduceMean <axes = [1]> (q)
    [guard] e = Add (v, eps)  [deviation] s = Sqrt (e)  [normal] z = Div (d, s)
    [time] r = Mod (seconds, day)  [cast] f = Cast <to = 1> (r)  [angle] w = Mul (f, turn)  [sine] n = Sin (w)  [wide] u = Unsqueeze (n, last)
    [joined] y = Concat <axis = 2> (z, u)  [first] h = MatMul (y, w1)  [tanh] t = Tanh (h)  [pool] p = ReduceMean <axes = [1], keepdims = 0> (t)
    [head] o = MatMul (p, w2)  [front] k = Unsqueeze (o, steps)  [scaled] g1 = Mul (k, s)  [shifted] g2 = Add (g1, m)  [flat] next = Squeeze (g2, steps)
    [logit] c = MatMul (p, w3)  [offset] b = Add (c, low)  [sigmoid] rate = Sigmoid (b) }"""


def loads(seed: int) -> Arrays:
    rng = random(seed)
    t = 1_700_000_000 + int(rng.integers(0, 10**7)) + 3600 * np.arange(48)
    scale = 10 ** rng.uniform(2, 5.2, 7)
    x = scale * (1 + 0.2 * np.sin(2 * np.pi * t / 86400)[:, None] + 0.03 * rng.standard_normal((48, 7)))
    return {"load": x[None].astype(np.float32), "seconds": t[None].astype(np.int64)}


DURATIONS = """g (float[1,24,16] x) => (float[1,24] ends, float[1,24,512] y) <float rate = {2.5}, int64 axis = {1}, int64[1] last = {-1}, float third = {0.3}> {
    [hidden] h = MatMul (x, w1)  [relu] r = Relu (h)  [log] l = MatMul (r, w2)  [flat] f = Squeeze (l, last)  [size] e = Exp (f)
    [paced] p = Mul (e, rate)  [whole] c = Ceil (p)  [ends] ends = CumSum (c, axis)  [wave] g1 = MatMul (h, w3)  [scaled] s = Mul (g1, third)  [out] y = Tanh (s) }"""


KERAS = """g (float[1,12,32] x) => (float[1,12,32] y) <float top = {inf}, float floor = {1e-12}> {
    [f1] a = MatMul (x, w1)  [relu] r = Relu (a)  [f2] b = MatMul (r, w2)  [residual] s = Add (x, b)
    [mean] m = ReduceMean <axes = [-1]> (s)  [centred] c = Sub (s, m)  [squares] q = Mul (c, c)  [variance] v = ReduceMean <axes = [-1]> (q)
    [cap] l = Min (v, top)  [keep] e = Max (l, floor)  [root] d = Sqrt (e)  [divided] n = Div (c, d)  [gamma] g1 = Mul (n, g)  [beta] y = Add (g1, o) }"""


def wide_stream() -> Arrays:
    return {
        "w1": normal(32, 64, scale=0.2, seed=1),
        "w2": normal(64, 32, scale=0.1, seed=2),
        "g": 1 + normal(32, scale=0.1, seed=3),
        "o": normal(32, scale=0.1, seed=4),
    }


KINDS = {
    "flow": Kind(FLOW, matched, grid),
    "forecast": Kind(
        FORECAST,
        loads,
        lambda: {"w1": normal(8, 32, scale=0.6, seed=1), "w2": normal(32, 7, scale=0.2, seed=2), "w3": normal(32, 1, scale=1.5, seed=3)},
        13,
    ),
    "durations": Kind(
        DURATIONS,
        lambda seed: {"x": normal(1, 24, 16, seed=seed)},
        lambda: {
            "w1": normal(16, 32, scale=0.25, seed=1),
            "w2": normal(32, 1, scale=0.15, seed=2),
            "w3": normal(32, 512, scale=0.2, seed=3),
        },
    ),
    "keras": Kind(KERAS, lambda seed: {"x": normal(1, 12, 32, scale=400, seed=seed)}, wide_stream, 13),
}


def repaired(name: str, folder: Path) -> tuple[Outcome, float]:
    """What a repair of a kind says, and the worst of fresh samples."""
    kind = KINDS[name]
    made = proto(kind.text, kind.opset, check=False)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(values, key) for key, values in kind.weights().items())
    onnx.save(made, folder / "m.onnx")
    (folder / "in").mkdir()
    for seed in range(GIVEN):
        write_npz(folder / "in" / f"{seed}.npz", kind.sample(seed))
    config = Config(model=folder / "m.onnx", inputs=str(folder / "in"), output=folder / "out.onnx", keep_unverified=True)
    outcome = repair(config)
    fixed = load(outcome.files.get("onnx") or outcome.files["onnx (unverified)"], simplified=False, widened=False)
    fresh = [kind.sample(1000 + seed) for seed in range(FRESH)]
    with StrictOracle(load(folder / "m.onnx", simplified=False), fresh, Tolerance().of) as oracle:
        shown = worst(oracle.figures(fixed))
    assert shown is not None
    return outcome, shown.depth


EXPECTED = {
    "flow": (False, set(), "of the FLOPs would run in FP32"),
    "forecast": (True, {"mean", "centred", "angle", "sine"}, ""),
    "durations": (True, {"ends", "whole"}, ""),
    "keras": (True, set(), ""),
}
"""Whether it is verified, what must be wide at least, and why not."""


@pytest.mark.parametrize("name", KINDS)
def test_verified_holds_for_the_next_sample(name: str, tmp_path: Path) -> None:
    outcome, fresh_db = repaired(name, tmp_path)
    verified, wide, why = EXPECTED[name]
    assert fresh_db >= BOUND_DB - RELAXED_DB
    assert outcome.verified == verified
    assert any(why in reason for reason in outcome.verdict.reasons) == bool(why)
    assert wide <= set(outcome.recipe.wide)
    counts = outcome.counts
    assert (counts.flops_fp32 <= 0.5 * counts.flops_total) == verified, "what is counted is what the verdict is held to"
    assert ("layernorm" in {edit.by for edit in outcome.recipe.rewrites}) == (name == "keras")
