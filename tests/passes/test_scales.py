"""The assignment: healthy graphs are left alone, streams get one exponent, Muls stand only where a wall is, and limits are kept."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx_graphsurgeon as gs
import pytest
from scipy.optimize import milp

from fp16fix import half
from fp16fix.errors import ReplayError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.passes.rescale.fold import fold
from fp16fix.passes.rescale.program import printf_to_stderr
from fp16fix.passes.rescale.scales import ScaleOptions, Scaling, assign
from tests.ill.case import case
from tests.ill.net import Net
from tests.ill.strict_check import run, run_strict, worst_db
from tests.models import model
from tests.passes.ranges import ranges_of

RESCALABLE = (
    "rmsnorm-massive rmsnorm-div-mul-form residual-t5-ffn residual-vit-massive residual-swiglu-product vae-resnet-stream "
    "instancenorm-16-bit-image instancenorm-depth-written-out l2norm-overflow l2norm-underflow l2norm-cosine-head "
    "weights-conv-bn-tiny-variance weights-relu-bn-tiny-variance weights-huge-after-tiny weights-subnormal-first-conv "
    "layernorm-pow-opset13 layernorm-vanish-eps-1e-12 layernorm2d-channel-first attention-div-after-product longsum-squeeze-excite"
).split()


def weights(shape: tuple[int, ...], scale: float = 1.0, seed: int = 0) -> np.ndarray:
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def sample(scale: float = 1.0) -> list[dict[str, np.ndarray]]:
    return [{"x": weights((4, 8), scale, seed=9)}]


def scaling(found: Model, samples: list[dict[str, np.ndarray]] | None = None, **options: Any) -> Scaling:
    return assign(found, ranges_of(found, samples or sample()), ScaleOptions(**options))


@pytest.mark.parametrize("name", RESCALABLE)
def test_ill_models_fit_without_a_mul_inside(name: str) -> None:
    ill = case(name)
    original = model_from_proto(ill.build(), name)
    found = scaling(original, ill.samples())
    assert (found.unfit, found.muls, found.status) == ((), 0, "optimal")
    fold(original, found.exponents)
    held_out = (ill.held_out or ill.samples)()
    wide = tuple(t.name for t in original.graph.inputs if t.name in found.exponents)
    cured = run_strict(gs.export_onnx(original.graph), held_out, wide)
    assert worst_db(run(ill.build(), held_out), cured) > 50.0


def test_a_residual_stream_has_one_exponent() -> None:
    original = model_from_proto(case("residual-t5-ffn").build())
    found = scaling(original, case("residual-t5-ffn").samples())
    stream = {t.name for n in original.graph.nodes if n.op == "Add" and n.name.endswith("layer.1/Add") for t in (*n.inputs, *n.outputs)}
    assert len(stream) == 5
    assert len({found.exponents[name] for name in stream}) == 1


@pytest.mark.parametrize("name", ["layernorm-pow-opset13", "residual-vit-massive", "vae-resnet-stream", "l2norm-overflow"])
def test_a_healthy_twin_is_left_alone(name: str) -> None:
    witness = case(name).witness
    assert witness is not None
    found = scaling(model_from_proto(witness()), case(name).samples())
    assert (found.exponents, found.muls, found.cost, found.status) == ({}, 0, 0.0, "nothing to do")


def test_headroom_is_left_above_what_was_seen_twice_for_squares() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {3e4}, float[1] d = {3}>"
                     "{ a = Mul (x, c) b = Mul (a, a) z = Mul (b, d) y = Sign (z) }")  # fmt: skip
    seen = ranges_of(original, sample())
    for headroom in (0.0, 2.0, 3.0):
        found = assign(original, seen, ScaleOptions(headroom=headroom))
        e = found.exponents
        assert seen["a"].absmax * 2.0 ** (headroom - e["a"]) <= half.LARGEST
        assert seen["b"].absmax * 2.0 ** (2 * headroom - e["b"]) <= half.LARGEST < seen["b"].absmax * 2.0 ** (2 * headroom + 2 - e["b"])


def test_a_wall_costs_one_mul_for_all_its_readers() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e6}, float[1] d = {1e-6}>"
                     "{ a = Mul (x, c) s = Sin (a) t = Cos (a) u = Add (s, t) b = Mul (a, d) y = Add (u, b) }")  # fmt: skip
    found = scaling(original)
    assert found.exponents["a"] > 0
    assert found.muls == 1
    assert set(found.unfit) == {f"a→{node.name}#0" for node in original.graph.nodes if node.op in ("Sin", "Cos")}


def test_a_copy_that_saturates_may_overflow() -> None:
    original = model(
        "g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e6}> { a = Mul (x, c) s = Sigmoid (a) b = Mul (a, s) y = Sign (b) }"
    )
    found = scaling(original)
    assert (found.unfit, found.muls) == ((), 1)
    fold(original, found.exponents)
    assert worst_db(run(gs.export_onnx(original.graph), sample()), run_strict(gs.export_onnx(original.graph), sample())) > 50.0


def test_the_interface_is_left_at_zero_by_border_muls() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) { y = Relu (x) }")
    found = scaling(original, sample(1e5))
    assert found.exponents["x"] == found.exponents["y"] > 0
    assert (found.muls, found.border_muls, found.unfit) == (0, 2, ())


def test_vanishing_tensors_are_lifted() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e-5}, float eps = {1e-12}, int64[1] one = {1}>"
                     "{ a = Mul (x, c) b = Mul (a, a) s = ReduceSum (b, one) t = Add (s, eps) r = Sqrt (t) y = Div (a, r) }")  # fmt: skip
    found = scaling(original)
    assert (found.unfit, found.muls) == ((), 0)
    assert found.exponents["b"] == found.exponents["eps"] == 2 * found.exponents["a"] < 0
    fold(original, found.exponents)
    assert float(original.tensors()["eps"].values) >= 16 * half.SMALLEST


def shared_weight(width: int) -> Model:
    """One matrix that writes a stream past FP16 and is then read by itself: two exponents would be best."""
    net = Net("shared", opset=17)
    x = net.input("x", [4, width])
    weight = net.weight("w", weights((width, width), width**-0.5))
    huge = net.op("MatMul", net.op("Mul", x, 2.0**7), weight)
    squared = net.op("Mul", huge, huge)
    again = net.op("MatMul", net.op("Mul", net.op("Mul", squared, 2.0**-9), 2.0**-8), weight)
    net.output("y", again, [4, width])
    return model_from_proto(net.model())


@pytest.mark.parametrize("width", [32, 160])
def test_a_large_shared_weight_has_one_exponent(width: int) -> None:
    original = shared_weight(width)
    found = scaling(original, [{"x": weights((4, width), 8.0, seed=9)}])
    assert found.unfit == ()
    fold(original, found.exponents)
    copies = [t for t in original.tensors().values() if isinstance(t, gs.Constant) and t.values.nbytes > 4096 - 1]
    assert len(copies) <= (2 if width == 32 else 1)


def test_a_fixed_exponent_is_kept_or_refused() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {3}, float[1] d = {2}> { a = Mul (x, c) y = Mul (a, d) }")
    assert scaling(original, fixed={"a": 5}).exponents == {"a": 5, "c": 5, "d": -5}
    assert scaling(original, fixed={"a": 0}).exponents == {}
    with pytest.raises(ReplayError, match="contradict"):
        scaling(original, fixed={"a": 5, "c": 3, "x": 1})
    with pytest.raises(ReplayError, match="must keep exponent 0"):
        scaling(model("g (float[4,8] x) => (float[4,8] y) { a = Exp (x) y = Neg (a) }"), fixed={"a": 1})


def test_tensors_between_wide_nodes_may_overflow() -> None:
    original = model("g (float[4,8] x) => (float[4,8] y) <float[1] c = {1e9}> { a = Mul (x, c) y = Sin (a) }")
    names = frozenset(node.name for node in original.graph.nodes)
    assert [name.split("→")[0] for name in scaling(original).unfit] == ["a"]
    assert scaling(original, wide=names).unfit == ()


def test_an_overflow_behind_a_wall_is_unfit() -> None:
    found = scaling(model("g (float[4,8] x) => (float[4,8] y) { a = Exp (x) y = Log (a) }"), sample(10.0))
    assert "a" in found.unfit


EVERY = -1


def ill_chain() -> tuple[Model, list[dict[str, np.ndarray]]]:
    """Eighty layers, one of which writes values of 1e6."""
    net = Net("chain", opset=17)
    s = net.input("x", [4, 8])
    for index in range(80):
        scale = {9: 1e6, 10: 1e-6}.get(index, 1.0)
        s = net.op("Relu", net.op("MatMul", s, net.weight(f"w{index}", np.abs(weights((8, 8), 0.15 * scale, seed=index)))))
    net.output("y", s, [4, 8])
    return model_from_proto(net.model()), sample()


@pytest.mark.parametrize("failures", [1, EVERY])
def test_out_of_time_pieces_are_solved_and_failing_that_nothing_moves(monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    original, samples = ill_chain()
    calls: list[int] = []

    def slow(*arguments: Any, **options: Any) -> Any:
        calls.append(len(arguments[0]))
        return SimpleNamespace(x=None, fun=None, status=1) if failures == EVERY or len(calls) == 1 else milp(*arguments, **options)

    monkeypatch.setattr("scipy.optimize.milp", slow)
    found = scaling(original, samples)
    assert found.status == "time limit"
    assert calls[1] < calls[0]
    assert (found.unfit == ()) == (failures == 1)
    before = Session(original).run(samples[0])["y"]
    fold(original, found.exponents)
    np.testing.assert_array_equal(Session(original).run(samples[0])["y"], before)


def test_a_thousand_node_stream_is_solved_to_optimality() -> None:
    net = Net("deep", opset=17)
    s = net.op("MatMul", net.input("x", [4, 8]), net.weight("embed", weights((8, 8), 2.0**16)))
    for index in range(150):
        normed = net.op("LayerNormalization", s, net.weight(f"g{index}", np.ones(8)), axis=-1)
        gate = net.op("MatMul", normed, net.weight(f"u{index}", weights((8, 8), 0.4, index)))
        active = net.op("Mul", gate, net.op("Sigmoid", gate))
        s = net.op("Add", s, net.op("MatMul", active, net.weight(f"d{index}", weights((8, 8), 2.0**14, index))))
    net.output("y", net.op("LayerNormalization", s, net.weight("g", np.ones(8)), axis=-1), [4, 8])
    original = model_from_proto(net.model())
    assert len(original.graph.nodes) > 900
    found = scaling(original)
    assert (found.unfit, found.muls, found.border_muls, found.status) == ((), 0, 0, "optimal")
    stream = {found.exponents[node.outputs[0].name] for node in original.graph.nodes if node.op == "Add"}
    assert len(stream) == 1


def test_the_cost_is_what_the_program_minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    minima: list[float] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        minima.append(milp(*arguments, **options).fun)
        return milp(*arguments, **options)

    monkeypatch.setattr("scipy.optimize.milp", watched)
    for name in ("rmsnorm-massive", "mask-minus-1e9", "instancenorm-16-bit-image", "exponential-softplus-written-out"):
        minima.clear()
        original = model_from_proto(case(name).build())
        assert scaling(original, case(name).samples()).cost == pytest.approx(sum(minima), rel=1e-6)


def test_the_solver_leaves_standard_output_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with printf_to_stderr():
        os.write(1, b"from below")
    os.write(1, b"from above")
    assert capfd.readouterr() == ("from above", "from below")


def test_the_same_model_gives_the_same_answer() -> None:
    original, samples = ill_chain()
    seen = ranges_of(original, samples)
    assert assign(original, seen) == assign(original, seen)


def test_no_mul_stands_behind_a_dequantiser() -> None:
    """What a Softmax reads has exponent 0: scales of 3e-8 stay as they are, for a Mul would come between."""
    values = ",".join(str(k) for k in range(-16, 16))
    text = f"""g (float[4,8] x) => (float[4,8] y) <int8[4,8] q = {{{values}}}, float s = {{0.00000003}}, int8 z = {{0}}> {{
        d = DequantizeLinear (q, s, z) p = Softmax (d) y = Mul (p, x) }}"""
    found = scaling(model(text, opset=19))
    assert "d" not in found.exponents
    assert found.muls == 0
    lifted = scaling(model(text.replace("Softmax", "Neg"), opset=19))
    assert lifted.exponents["d"] < 0
    assert lifted.exponents["s"] == lifted.exponents["d"], "the scale takes it"
    assert lifted.muls == 0
