"""``light``: weights are lent, and the model keeps them."""

from __future__ import annotations

import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from fp16fix.errors import ModelError
from fp16fix.graph import session
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model, magnitude
from fp16fix.graph.session import EMBEDDED, Session, light, parted, proto_of, tables
from fp16fix.half import FP16
from fp16fix.passes.rewrite.rules.masks import outside
from fp16fix.strict.emulate import emulate
from tests.models import filled, model, normal

TEXT = "g (float[4,8] x) => (float[4,8] y) { z = Relu (x) y = Mul (z, z) }"
BIG = np.arange(EMBEDDED, dtype=np.float32).reshape(-1, 8)


def weighted() -> Model:
    found = model(TEXT)
    mul = found.graph.nodes[-1]
    mul.inputs[1] = gs.Constant("w", np.asfortranarray(BIG))
    mul.inputs[0] = gs.Constant("small", np.ones(8, np.float32))
    return found


def test_big_weights_are_left_out_and_the_model_keeps_them() -> None:
    found = weighted()
    values, before = found.tensors()["w"].values, proto_of(found).SerializeToString()
    proto, held = light(found)
    assert [(tensor.name, tensor.data_location, len(tensor.raw_data)) for tensor in proto.graph.initializer if tensor.name == "w"] == [
        ("w", 1, 0)
    ]
    assert list(held) == ["w"]
    assert held["w"].flags.c_contiguous
    np.testing.assert_array_equal(held["w"], BIG)
    assert found.tensors()["w"].values is values
    assert proto_of(found).SerializeToString() == before


def test_the_model_keeps_its_weights_when_export_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    found = weighted()
    values = found.tensors()["w"].values

    def fails(*_: object, **__: object) -> None:
        raise ValueError

    monkeypatch.setattr(session, "exported", fails)
    with pytest.raises(ValueError):
        parted(found)
    assert found.tensors()["w"].values is values


SQUARE = "g (float[2,64] x, float[64,64] w) => (float[2,64] y) { t = Transpose <perm = [1, 0]> (w) y = MatMul (x, t) }"


def squared() -> Model:
    found = model(SQUARE)
    found.graph.inputs[1].to_constant(normal(64, 64))
    del found.graph.inputs[1]
    return found


@pytest.mark.parametrize("element", [np.float32, np.float16])
def test_a_heavy_session_uses_weights_where_they_lie_and_computes_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, element: type[np.generic]
) -> None:
    """A weight that is changed afterwards changes what the session computes: it is no copy. Optimisers must not read what stands for it."""
    found, x = squared(), {"x": normal(2, 64, seed=1)}
    wide = found.tensors()["w"].values
    if element is np.float16:
        found = emulate(lower(found, {}))
    light_result = Session(found).run(x)["y"]
    monkeypatch.setattr(session, "HEAVY", 0)
    monkeypatch.chdir(tmp_path)
    heavy = Session(found)
    np.testing.assert_array_equal(heavy.run(x)["y"], light_result)
    assert not list(tmp_path.iterdir())
    (held,) = (array for array in heavy._parts[0]._weights.values() if array.shape == wide.shape)
    held *= 2
    np.testing.assert_array_equal(heavy.run(x)["y"], 2 * light_result)


@pytest.mark.parametrize(("element", "lent"), [(np.int8, True), (np.int64, True), (np.float64, True), (np.bool_, False)])
def test_whatever_is_big_is_lent(element: type[np.generic], lent: bool) -> None:
    found = weighted()
    names = {}
    for name, size in (("big", (1 << 20) // np.dtype(element).itemsize + 1), ("few", (1 << 20) // np.dtype(element).itemsize)):
        names[name] = gs.Constant(name, np.ones(size, element))
        found.graph.nodes.append(gs.Node("Identity", name, inputs=[names[name]], outputs=[gs.Variable(f"{name}/out", element)]))
    assert ("big" in light(found)[1]) is lent
    assert "few" not in light(found)[1]


def test_an_identity_that_an_optimiser_loses_is_kept() -> None:
    """x / rms(x) as a Mul by the reciprocal, FP32 behind an FP16 square: ONNX Runtime 1.32 takes the Identity away and reads it still."""
    text = """g (float[2,4,8] x) => (float[2,4,8] y, float[2,4,8] u) <float two = {2}, float one = {1}, float eps = {0.000001}> {
        a = Add (x, x) p = Pow (a, two) [mean] m = ReduceMean <axes = [-1]> (p) [safe] e = Add (m, eps) [root] s = Sqrt (e)
        [over] d = Div (one, s) [norm] y = Mul (a, d) u = Add (a, x) }"""
    found = emulate(lower(model(text), dict.fromkeys(("mean", "safe", "root", "over", "norm"), "fp32")))
    x = normal(2, 4, 8)
    y = Session(found).run({"x": x})["y"]
    np.testing.assert_allclose(y, Session(found, optimise=False).run({"x": x})["y"], rtol=1e-3)


@pytest.mark.parametrize(
    ("text", "shared"),
    [
        ("y = Gather (w, i)", True),
        ("j = Unsqueeze (i, z) y = GatherND (w, j)", True),
        ("j = Identity (k) y = Gather (w, k)", False),
        ("y = Gather (w, i) m = MatMul (x, w)", False),
        ("y = Gather (w, i) u = If (c) <then_branch = a () => (float[3,8] t) { t = Gather (w, i) }, else_branch = BRANCH>", False),
    ],
)
def test_a_table_is_shared_where_nothing_but_lookups_reads_it(text: str, shared: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "TABLE", 1 << 10)
    given = {"w": normal(512, 8), "z": np.asarray([-1], np.int64), "k": np.asarray([3, 0, 7], np.int64)}
    body = text.replace("BRANCH", "b () => (float[3,8] s) { n = Gather (w, i) s = Neg (n) }")
    head = "g (int64[3] i, float[4,512] x, bool c, float[512,8] w, int64[1] z, int64[3] k) => (float[3,8] y, float[4,512] v)"
    found = filled(f"{head} {{ {body} v = Neg (x) }}", given)
    proto, held = light(found)
    assert tables(proto, held) == ({"w"} if shared else set())
    picked = {"i": np.asarray([3, 0, 7], np.int64), "x": normal(4, 512), "c": np.asarray(True)}
    np.testing.assert_array_equal(Session(found).run(picked)["y"], given["w"][[3, 0, 7]])


def test_the_largest_magnitude_of_a_table_is_found_without_a_copy_of_it() -> None:
    values = normal(1 << 11, 1 << 11)
    values[5, 5] = -9.0
    tracemalloc.start()
    try:
        assert magnitude(values) == 9.0
        assert not outside(values, FP16)
        assert tracemalloc.get_traced_memory()[1] < values.nbytes / 8
    finally:
        tracemalloc.stop()
    values[7, 7] = np.nan
    assert np.isnan(magnitude(values))
    assert magnitude(values[:0]) == 0.0


def test_a_session_gives_its_outputs_and_of_the_whole_what_is_inner_too() -> None:
    found = model("g (float[2] x) => (float[2] y) { a = Neg (x) b = Abs (a) y = Relu (b) }")
    session, x = Session(found, inner=["a", "b", "y"]), np.asarray([1.0, -2.0], np.float32)
    assert (session.outputs, session.inner) == (("y",), ("a", "b"))
    assert list(session.run({"x": x})) == ["y"]
    whole = session.run({"x": x}, whole=True)
    assert {name: value.tolist() for name, value in whole.items()} == {"y": [1, 2], "a": [-1, 2], "b": [1, 2]}
    assert [tensor.name for tensor in found.graph.outputs] == ["y"], "the model hands out what it did"


class TestParts:
    """Long graphs are opened in stretches; what comes out is the same, bit for bit."""

    TEXT = """g (float[4,8] x, bool c, float[4,8] z) => (float[4,8] y, float[4,8] z, float[4,8] b, float[8] k) <float[8] k, int64 n = {3}, bool go = {1}> {
        a = Mul (x, k) b = Exp (a) d = Neg (b) e = Add (d, a) f = Cast <to = 6> (e) h = Cast <to = 1> (f)
        i = If (c) < then_branch = t () => (float[4,8] p) { p = Mul (b, h) }, else_branch = s () => (float[4,8] q) { q = Add (e, x) }>
        j = Tanh (i) l = Loop (n, go, j) <body = r (int64 v, bool o, float[4,8] w) => (bool u, float[4,8] m) { u = Identity (o) m = Mul (w, d) }>
        y = Add (l, a) }"""

    @pytest.fixture(autouse=True)
    def short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(session, "WINDOW", 1)
        self.monkeypatch = monkeypatch

    def both(self, found: Model, long: int, inner: Sequence[str] = ()) -> tuple[Session, Session]:
        whole = Session(found, inner=inner)
        self.monkeypatch.setattr(session, "LONG", long)
        return whole, Session(found, inner=inner)

    def test_what_comes_out_is_the_same(self) -> None:
        found = filled(
            self.TEXT.replace("float[4,8] z) =>", "float[4,8] z, float[8] k) =>").replace("<float[8] k, ", "<"), {"k": normal(8)}
        )
        sample = {"x": normal(4, 8), "z": normal(4, 8, seed=1)}
        for long in (2, 3, 5):
            whole, apart = self.both(found, long, ["h", "j", "y"])
            assert (len(whole._parts), len(apart._parts)) == (1, -(-len(found.graph.nodes) // long)) or len(apart._parts) > 2
            for c in (True, False, True):
                for asked in (False, True):
                    one, other = (each.run({**sample, "c": np.array(c)}, whole=asked) for each in (whole, apart))
                    assert list(one) == list(other) == ["y", "z", "b", "k", *(["h", "j"] if asked else [])]
                    for name in one:
                        np.testing.assert_array_equal(one[name], other[name], strict=True)
            self.monkeypatch.setattr(session, "LONG", 8000)

    STEPS = "a = Exp (x) b = Neg (a) c = Exp (b) d = Neg (c) e = Exp (d) y = Neg (e)"

    def test_sizes_that_are_declared_may_be_stale(self) -> None:
        found = model(f"g (float[n,4] x) => (float[n,4] y) {{ {self.STEPS} }}")
        for tensor in found.graph.tensors().values():
            tensor.shape = [3, 4] if tensor.name in "abcde" else tensor.shape
        whole, apart = self.both(found, 2)
        assert len(apart._parts) == 3
        np.testing.assert_array_equal(whole.run({"x": normal(5, 4)})["y"], apart.run({"x": normal(5, 4)})["y"])
        assert len(apart._parts) == 3

    def test_ranks_that_are_stale_are_survived_as_one(self) -> None:
        found = model(f"g (float[n,4] x) => (float[n,4] y) {{ {self.STEPS} }}")
        found.tensors()["b"].shape = [4]
        whole, apart = self.both(found, 2)
        np.testing.assert_array_equal(whole.run({"x": normal(5, 4)})["y"], apart.run({"x": normal(5, 4)})["y"])
        assert len(apart._parts) == 1

    def test_what_fails_says_what_it_said(self) -> None:
        found = model(
            "g (float[4] x, int64[2] i) => (float[2] y) { a = Exp (x) b = Neg (a) [pick] c = Gather (b, i) d = Neg (c) y = Exp (d) }"
        )
        said = []
        for each in self.both(found, 2):
            with pytest.raises(ModelError) as error:
                each.run({"x": normal(4), "i": np.array([1, 9])})
            said.append(str(error.value))
        assert said[0] == said[1]
        assert "pick" in said[0]

    @pytest.mark.parametrize(
        "text",
        [
            "g (float[4] x) => (float[4] y) { a = Exp (x) b = RandomNormalLike (a) c = Add (a, b) d = Neg (c) y = Exp (d) }",
            "g (float[4] x) => (float[4] y) { a = Exp (x) b = SequenceConstruct (a, x) c = ConcatFromSequence <axis = 0> (b) d = Neg (c) y = Exp (d) }",
        ],
    )
    def test_what_draws_and_what_numpy_does_not_hold_stays_as_one(self, text: str) -> None:
        self.monkeypatch.setattr(session, "WINDOW", 0)
        assert len(self.both(model(text), 1)[1]._parts) == 1

    def test_what_hangs_together_by_many_tensors_stays_as_one(self) -> None:
        many = " ".join(f"a{n} = Mul (x, x)" for n in range(6))
        found = model(f"g (float[4] x) => (float[4] y) {{ {many} y = Sum ({', '.join(f'a{n}' for n in range(6))}) }}")
        assert len(self.both(found, 2)[1]._parts) > 1
        self.monkeypatch.setattr(session, "CROSSING", 0)
        assert len(Session(found)._parts) == 1

    def test_what_is_heavy_stays_as_one(self) -> None:
        self.monkeypatch.setattr(session, "HEAVY", -1)
        assert len(self.both(model(f"g (float[4] x) => (float[4] y) {{ {self.STEPS} }}"), 2)[1]._parts) == 1

    @pytest.mark.parametrize(("asked", "given"), [(0, 4), (2, 2), (9, 4)])
    def test_parts_have_few_threads_each(self, asked: int, given: int) -> None:
        self.monkeypatch.setattr(session, "cores", lambda: 64)
        self.monkeypatch.setattr(session, "LONG", 2)
        found = Session(model(f"g (float[4] x) => (float[4] y) {{ {self.STEPS} }}"), threads=asked)
        assert [part._session.get_session_options().intra_op_num_threads for part in found._parts] == [given] * 3
