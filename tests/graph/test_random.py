"""Operators that draw: named, and equal draws wherever the same samples run in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.random import random_nodes, warnings_of
from fp16fix.graph.save import save_model
from fp16fix.graph.session import Session
from fp16fix.strict.emulate import emulate
from fp16fix.trace.shadow import shadow
from tests.models import model, proto

NOISE = "g (float[2,64] x) => (float[2,64] y) { n = RandomNormalLike (x)  y = Add (x, n) }"
X = {"x": np.full((2, 64), 0.5, np.float32)}

DRAWING = [
    ("float[2,64] y", "n = RandomNormal <shape = [2, 64]> ()  y = Add (x, n)"),
    ("float[2,64] y", "n = RandomNormalLike (x)  y = Add (x, n)"),
    ("float[2,64] y", "n = RandomUniform <shape = [2, 64]> ()  y = Add (x, n)"),
    ("float[2,64] y", "n = RandomUniformLike (x)  y = Add (x, n)"),
    ("float[2,64] y", "y = Bernoulli (x)"),
    ("int32[2,8] y", "y = Multinomial <sample_size = 8> (x)"),
    ("float[2,64] y", "y = Dropout (x, r, t)"),
]
WEIGHTS = "<float r = {0.5}, bool t = {1}, bool f = {0}>"


@pytest.mark.parametrize(("output", "body"), DRAWING)
def test_two_sessions_draw_the_same_and_two_runs_do_not(output: str, body: str) -> None:
    subject = model(f"g (float[2,64] x) => ({output}) {WEIGHTS} {{ {body} }}")
    one, other = Session(subject), Session(subject)
    first, second = one.run(X)["y"], one.run(X)["y"]
    assert (other.run(X)["y"] == first).all()
    assert (other.run(X)["y"] == second).all()
    assert (first != second).any()
    assert [node.name for node in random_nodes(subject)] == [subject.graph.nodes[0].name]


def test_two_nodes_draw_different_numbers() -> None:
    subject = model("g (float[2,64] x) => (float[2,64] y) { n = RandomNormalLike (x)  m = RandomNormalLike (x)  y = Sub (n, m) }")
    assert np.abs(Session(subject).run(X)["y"]).max() > 0.1


def test_strict_emulation_draws_what_fp32_draws() -> None:
    subject = model(NOISE)
    strict = Session(emulate(lower(subject, {})))
    np.testing.assert_allclose(strict.run(X)["y"], Session(subject).run(X)["y"], atol=4e-3)


def test_twins_in_one_graph_draw_the_same() -> None:
    subject = model(NOISE)
    found = shadow(subject, lower(subject, {}), [X, X])
    assert found["n"].sqnr_db > 60.0


def test_a_seed_of_the_model_stays() -> None:
    seeded, bare = (
        model(f"g (float[2,64] x) => (float[2,64] y) {{ n = RandomNormalLike {seed} (x)  y = Add (x, n) }}")
        for seed in ("<seed = 7.0>", "")
    )
    assert (Session(seeded).run(X)["y"] != Session(bare).run(X)["y"]).any()
    assert seeded.graph.nodes[0].attrs["seed"] == 7.0


def test_measuring_leaves_no_seed_behind(tmp_path: Path) -> None:
    onnx.save(proto(NOISE), tmp_path / "m.onnx")
    subject = load(tmp_path / "m.onnx")
    typed = lower(subject, {})
    Session(subject)
    Session(emulate(typed))
    shadow(subject, typed, [X])
    for each in (subject, typed):
        save_model(each, tmp_path / "out.onnx")
        (drawing,) = (node for node in onnx.load(tmp_path / "out.onnx").graph.node if node.op_type == "RandomNormalLike")
        assert "seed" not in {attribute.name for attribute in drawing.attribute}


@pytest.mark.parametrize(("flag", "named"), [("t", True), ("f", False)])
def test_a_dropout_draws_in_training_only(flag: str, named: bool) -> None:
    subject = model(f"g (float[2,64] x) => (float[2,64] y) {WEIGHTS} {{ y = Dropout (x, r, {flag}) }}")
    assert bool(warnings_of(subject)) is named


def test_the_warning_names_the_nodes() -> None:
    (said,) = warnings_of(model(NOISE))
    assert "(RandomNormalLike) draws random numbers" in said
    assert warnings_of(model("g (float[2] x) => (float[2] y) { y = Tanh (x) }")) == ()
