"""One more octave on a stream comes before a pin; squares that are read for their mean alone do not hold it back."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.inputs.files import write_npz
from fp16fix.passes.rescale.classes import Class, Classes
from fp16fix.passes.rescale.program import MARGIN, Program, cost, solve_part
from fp16fix.passes.rescale.scales import assign
from fp16fix.passes.rescale.solver import solve
from fp16fix.passes.rescale.traits import averaged
from fp16fix.passes.rescale.windows import WIDEST, Window
from fp16fix.ranges.measure import measure
from fp16fix.strict.emulate import emulate
from fp16fix.tasks.repair import repair
from tests.models import model, normal, proto, sqnr_db

NORM = """g (float[1,16,64] z, float[64,64] w, float[64,64] u, float[64] gain) => (float[1,16,64] y) <float e = {0.000001}> {
    x = Identity (z) p = Mul (x, x) m = ReduceMean <axes = [2]> (p) v = Add (m, e) r = Sqrt (v) d = Div (x, r) g = Mul (d, gain)
    h = MatMul (g, w) a = Relu (h) o = MatMul (a, u) s = Add (x, o)
    p2 = Mul (s, s) m2 = ReduceMean <axes = [2]> (p2) v2 = Add (m2, e) r2 = Sqrt (v2) d2 = Div (s, r2) y = Mul (d2, gain) }"""
"""A residual block behind a norm written out, and one more norm."""


def sample(seed: int, peak: float) -> dict[str, np.ndarray]:
    """One massive channel, of one sign; the gains of the others make up for it, as trained ones do."""
    values, gain = normal(1, 16, 64, seed=seed), np.full(64, peak / 64, np.float32)
    values[..., 0] = peak * np.linspace(0.5, 1.0, 16)
    gain[0] = 1.0
    return {"z": values, "gain": gain, "w": normal(64, 64, scale=0.12, seed=1), "u": normal(64, 64, scale=0.12, seed=2)}


@pytest.mark.parametrize("peak", [2e5, 3e5, 5e5])
def test_the_squares_of_a_massive_channel_get_the_head_room_asked_for(peak: float) -> None:
    fp32 = model(NORM)
    ranges = measure(fp32, [sample(seed, peak) for seed in range(3)])
    exponents = assign(fp32, ranges).exponents
    for square in ("p", "p2"):
        assert ranges[square].headroom + exponents[square] >= 2.0


def test_it_costs_no_pin_and_every_channel_is_right(tmp_path: Path) -> None:
    path, inputs = tmp_path / "m.onnx", tmp_path / "samples"
    onnx.save(proto(NORM), path)
    inputs.mkdir()
    for number in range(4):
        write_npz(inputs / f"{number}.npz", sample(number, 3e5))
    outcome = repair(Config(model=path, inputs=str(inputs), output=tmp_path / "out.onnx"))
    assert outcome.counts.fp32_nodes == 0
    exact, fixed = Session(load(path, simplified=False)), Session(emulate(load(tmp_path / "out.onnx", simplified=False, widened=False)))
    for seed in range(10, 20):
        reference, found = exact.run(sample(seed, 3e5))["y"], fixed.run(sample(seed, 3e5))["y"]
        assert min(sqnr_db(reference[..., k], found[..., k]) for k in range(64)) > 50.0


def test_only_what_is_read_for_its_mean_alone_is_so() -> None:
    text = """g (float[4,8] x) => (float[4,1] y, float[4,8] q) {
        a = Mul (x, x) b = ReduceMean <axes = [1]> (a) c = Mul (b, b) d = Neg (x) e = ReduceMean <axes = [1]> (d) f = Mul (d, x)
        s = Mul (x, x) t = ReduceSum <keepdims = 0> (s) u = Add (t, e) v = Add (c, u) q = Neg (f) z = Abs (q) w = ReduceMean <axes = [1]> (z) y = Add (v, w) }"""
    assert averaged(model(text)) == {"a", "z"}


QUIET = """g (float[40,64] x, float[64,16] m) => (float[40,16] y) <float e = {1e-10}> {
    p = Mul (x, x) b = MatMul (p, m) g = Add (b, e) y = Log (g) }"""


def speech(seed: int, amplitude: float) -> dict[str, np.ndarray]:
    return {"x": normal(40, 64, scale=amplitude, seed=seed), "m": np.abs(normal(64, 16, scale=0.05))}


@pytest.mark.parametrize(("down", "right"), [(2.0, True), (0.0, False)])
def test_a_quarter_of_the_amplitude_is_right_where_asked_for(down: float, right: bool, tmp_path: Path) -> None:
    path, inputs = tmp_path / "m.onnx", tmp_path / "samples"
    onnx.save(proto(QUIET), path)
    inputs.mkdir()
    for number in range(4):
        write_npz(inputs / f"{number}.npz", speech(number, 0.01))
    outcome = repair(Config(model=path, inputs=str(inputs), output=tmp_path / "out.onnx", headroom_down=down))
    assert outcome.counts.fp32_nodes == 0
    exact, fixed = Session(load(path, simplified=False)), Session(emulate(load(tmp_path / "out.onnx", simplified=False, widened=False)))
    quiet = [speech(seed, 0.01 / 4) for seed in range(10, 20)]
    figures = [sqnr_db(exact.run(each)["y"], fixed.run(each)["y"]) for each in quiet]
    assert (min(figures) > 60.0) == right, figures


def stream(tensors: int) -> Classes:
    """Tensors that lose a bit with each octave past 2, beside one that lacks an octave of head-room there."""
    windows = {f"t{k}": (Window(1, 1, 2), 64.0) for k in range(tensors)} | {"square": (Window(1, 3, WIDEST, roomy=3), 64.0)}
    return Classes({"s": Class(windows, runtime=True)}, [], {}, ())


@pytest.mark.parametrize(("tensors", "chosen"), [(10, 3), (100, 2)])
def test_a_pin_weighs_as_much_as_a_bit_in_fifty_tensors(tensors: int, chosen: int) -> None:
    classes = stream(tensors)
    assert tensors > MARGIN, "the missing octave alone would not be worth it"
    found, proven = solve_part(classes, ["s"], {}, 5.0, {})
    assert (found, proven) == ({"s": chosen}, True)
    assert chosen == min(range(-4, 8), key=lambda e: cost(classes.by_root["s"], e))


def test_what_keeps_exponent_0_is_not_pinned_for_its_head_room() -> None:
    windows = {f"t{k}": (Window(-2, -2, 0), 64.0) for k in range(10)} | {"x": (Window(-1, 1, WIDEST, roomy=1), 64.0)}
    classes = Classes({"s": Class(windows, runtime=True)}, [], {}, ())
    assert solve_part(classes, ["s"], {}, 5.0, {}) == ({"s": 0}, True)


def repeated(limits: list[int]) -> Classes:
    """Tensors past the end of FP16 by so many octaves, each on its own."""
    by_root = {f"s{k}": Class({f"t{k}": (Window(each, each + 2, WIDEST), 64.0)}, runtime=True) for k, each in enumerate(limits)}
    return Classes(by_root, [], {}, ())


def test_what_repeats_in_a_model_is_solved_once_and_what_differs_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[Program] = []
    plain = Program.solve

    def solve_it(self: Program, limit_s: float) -> tuple[np.ndarray | None, bool]:
        solved.append(self)
        return plain(self, limit_s)

    monkeypatch.setattr(Program, "solve", solve_it)
    found = solve(repeated([3, 5, 3, 5, 3]), 10.0)
    assert dict(found.exponents) == {"s0": 5, "s1": 7, "s2": 5, "s3": 7, "s4": 5}
    assert len(solved) == 2
    assert len({each.key for each in solved}) == 2


def test_an_answer_that_is_not_proven_is_no_answer_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Program, "solve", lambda *_: (np.zeros(2), False))
    known: dict[Hashable, np.ndarray] = {}
    solve_part(repeated([3]), ["s0"], {}, 5.0, known)
    assert not known
