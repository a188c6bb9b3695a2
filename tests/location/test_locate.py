from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.location.locate import Location, locate
from fp16fix.location.triage import Fault
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.oracles.oracle import Score
from fp16fix.passes.apply import apply
from fp16fix.passes.design import Draft
from fp16fix.passes.recipe import Edit, Promise, Recipe, Refusal
from fp16fix.search.judge import Judge
from fp16fix.search.shrink import best, shrink
from fp16fix.strict.emulate import emulate
from fp16fix.trace.births import Source, births
from fp16fix.trace.share import shares
from tests.recipes import exponents, pins, rewrites

from ..demo.test_detector import CULPRITS
from ..ill.case import case

DEMO = Path(__file__).parent.parent / "demo"
Samples = list[dict[str, np.ndarray]]


@dataclass(frozen=True)
class Floor:
    sqnr_db: float | None = 50.0
    max_abs: float | None = None
    max_rel: float | None = None
    cosine: float | None = None


def floor(_: str) -> Floor:
    return Floor()


def given(name: str) -> tuple[Model, Samples]:
    ill = case(name)
    return model_from_proto(ill.build()), ill.samples()


def located(name: str, **keywords: Any) -> Location:
    model, samples = given(name)
    return locate(model, samples, floor, **keywords)


TOP = {
    "layernorm-pow-opset13": ("/layers.0/norm1/Pow", "overflow"),
    "attention-einsum": ("/attn/Einsum", "overflow"),
    "longsum-squeeze-excite": ("/features.0/block/avgpool/ReduceSum", "overflow"),
    "eps-log-mel": ("/frontend/Log", "vanish"),
    "l2norm-underflow": ("/embedder/normalize/Pow", "vanish"),
    "weights-conv-bn-tiny-variance": ("/layer1.0/bn1/BatchNormalization", "constant"),
    "angles-fourier-features": ("/encoding/Sin", "coarse"),
    "cancellation-pairwise-distance": ("/knn/Add_1", "cancel"),
    "subgraph-if-layernorm": ("/block/then_branch/norm/Pow", "overflow"),
    "subgraph-scan-power": ("/agc/body/Mul", "overflow"),
}
"""The node where each is ill, by construction."""


@pytest.mark.parametrize("name", TOP)
def test_the_worst_culprit_is_the_one_planted(name: str) -> None:
    location = located(name)
    node, kind = TOP[name]
    assert (location.culprits[0].node, location.culprits[0].kind) == (node, kind)
    assert sum(culprit.share for culprit in (*location.culprits, *location.minor)) == pytest.approx(1.0)
    assert [c.share for c in location.culprits] == sorted((c.share for c in location.culprits), reverse=True)
    assert location.triage.fault is (Fault.PRECISION if kind in {"swamp", "cancel", "coarse"} else Fault.RANGE)


def test_demo_detector_names_every_true_culprit_at_the_top() -> None:
    """Squares past FP16 in five norms and in the size head, and the pointer's weights that vanish; errors elsewhere are only carried."""
    model = load(DEMO / "detector.onnx")
    samples = [dict(np.load(file)) for file in sorted((DEMO / "samples").glob("*.npz"))[:2]]
    location = locate(model, samples, floor, hazards=())
    true = {name for names in CULPRITS.values() for name in names if name.endswith(("Pow", "/Mul_1"))}
    found = [culprit.node for culprit in location.culprits if culprit.share > 1e-5]
    assert true <= set(found), "none missing"
    assert set(found[:3]) <= true
    assert set(found) - true <= {"/decoder/pointer/Div"}, "it divides what vanished by what vanished"
    assert location.explained > 0.9
    assert location.carried
    assert not true & set(location.carried)


def test_a_fault_behind_a_flood_of_nan_is_seen() -> None:
    """The embedding overflows, so every visit of the loop reads NaN; what overflows inside it, and behind it, all the same is named there."""
    location = located("subgraph-loop-residual")
    nodes = {culprit.node: culprit for culprit in location.culprits}
    squares = {"/refiner/body/norm/Pow", "/refiner/final_norm/Pow"}
    assert {"/refiner/embed/MatMul", "/refiner/body/wo/MatMul", *squares} == nodes.keys(), (
        "squares of what is past 65504 need their own answer"
    )
    inner = nodes["/refiner/body/wo/MatMul"]
    assert inner.within == "/refiner/Loop"
    assert "/refiner/Loop" in inner.pins, "its state leaves the body"
    assert all(each.share > 0.05 for each in nodes.values())
    assert next(step for step in location.along if step.node == "/refiner/Loop").born


@pytest.mark.parametrize(
    "name",
    [
        "residual-vit-massive",
        "l2norm-cosine-head",
        "weights-huge-after-tiny",
        "vae-resnet-stream",
        "subgraph-loop-residual",
        "subgraph-if-layernorm",
        "subgraph-scan-power",
    ],
)
def test_pins_of_the_culprits_cure(name: str) -> None:
    model, samples = given(name)
    location = locate(model, samples, floor)
    pins = {pin for culprit in location.culprits for pin in culprit.pins}
    with StrictOracle(model, samples, floor) as oracle:
        assert oracle.verdict(lower(model, dict.fromkeys(pins, "fp32"))).verified


@pytest.mark.parametrize("name", ["cancellation-statistics-pooling", "constants-tiny-negative-floor", "l2norm-cosine-head"])
def test_a_search_by_the_ranking_ends_in_a_small_cure(name: str) -> None:
    model, samples = given(name)
    location = locate(model, samples, floor)
    elements = [node.name for node in model.graph.nodes]
    with StrictOracle(model, samples, floor) as oracle:
        judge = Judge(lambda recipe: Score(oracle.verdict(apply(model, recipe)).verified))
        found = best(shrink(elements, lambda names: judge.good(pins(*names)), ranking=location.ranking))
        assert found.best is not None
        assert judge.calls <= 30
        assert not any(judge.good(pins(*(found.best - {name}))) for name in found.best)


@pytest.mark.parametrize("name", ["harmless-tanh-gelu-cube", "harmless-mish"])
def test_harmless_overflow_is_no_fault(name: str) -> None:
    location = located(name)
    assert location.triage.fault in {Fault.ELSEWHERE, Fault.SUMS}
    assert "strict FP16" in location.triage.verdict or "Strict FP16" in location.triage.verdict


def test_births_say_what_comes_in_and_out() -> None:
    model, samples = given("eps-log-mel")
    (birth,) = births(model, lower(model, {}), samples)
    assert (birth.node, birth.op, birth.source) == ("/frontend/Log", "Log", Source.OPERANDS)
    assert birth.sqnr_in_db == 70.0
    assert birth.is_lost
    assert birth.operands
    assert births(model, lower(model, {node.name: "fp32" for node in model.graph.nodes}), samples) == []


def test_alone_is_what_one_strict_node_does() -> None:
    """The switch of one node gives the very outputs of a graph in which all others are pinned."""
    model, samples = given("residual-t5-ffn")
    node = "/encoder/embed_tokens/MatMul"
    typed = lower(model, {})
    found = shares(model, typed, [node, "/encoder/block.1/layer.1/DenseReluDense/wo/MatMul"], samples[:1])
    others = {each.name: "fp32" for each in model.graph.nodes if each.name != node}
    alone = next(iter(Session(emulate(lower(model, others))).run(samples[0]).values()))
    exact = next(iter(Session(model).run(samples[0]).values()))
    lost = ~np.isfinite(alone)
    assert lost.any()
    missed = np.where(lost, exact, exact - np.where(lost, 0, alone)).astype(np.float64)
    expected = min(1.0, float((missed**2).sum() / (exact.astype(np.float64) ** 2).sum()))
    assert found.alone[node] == pytest.approx(expected, rel=0.02)
    assert sum(found.share(name) for name in found.alone) == pytest.approx(1.0)
    assert found.together <= 1.0
    assert found.everything == 1.0
    assert shares(model, typed, [], samples[:1]).share("any") == 0.0


def draft(recipe: Recipe, refusals: tuple[Refusal, ...] = ()) -> Draft:
    return Draft(recipe, refusals, None, None, ())  # type: ignore[arg-type]


NODE = "/attn/Einsum"


@pytest.mark.parametrize(
    ("recipe", "refusals", "answer"),
    [
        (rewrites(Edit("attention-scale", "/attn/Mul", Promise.EXACT, covers=(NODE,))), (), "attention-scale"),
        (rewrites(Edit("eps-raised", NODE, Promise.ALTERED)), (), "eps-raised"),
        (exponents(OUT=4), (), "exponent +4"),
        (pins(NODE, format_="bf16"), (), "pin bf16"),
        (Recipe(), (Refusal(NODE, "strict", "heals", harmless=True),), "none: harmless"),
        (Recipe(), (Refusal(NODE, "rule", "no room"),), "none: no room"),
        (Recipe(), (), "none needed"),
    ],
)
def test_repair_is_what_the_draft_does(recipe: Recipe, refusals: tuple[Refusal, ...], answer: str) -> None:
    model, samples = given("attention-einsum")
    output = next(node.outputs[0].name for node in model.graph.nodes if node.name == NODE)
    recipe = exponents(**{output: 4}) if recipe.exponents else recipe
    hazard = Hazard(NODE, Kind.OVERFLOW, output, "Einsum", 0.0, 1e5, 0.0, 1.0, "too large")
    location = locate(model, samples[:1], floor, hazards=(hazard,), draft=draft(recipe, refusals))
    assert location.culprits[0].repair == answer
    assert location.culprits[0].why == "too large"
