"""Acquittals: an error that the next operators absorb costs nothing; each guard alone keeps one that matters from being acquitted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model, Tensor
from fp16fix.graph.session import Session
from fp16fix.graph.splice import splice
from fp16fix.hazards import diagnose
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.ranges.measure import measure
from fp16fix.strict.emulate import emulate
from fp16fix.trace import harmless as harmless_module
from fp16fix.trace.harmless import HEALED_DB, Acquittal, harmless
from fp16fix.trace.outside import compare
from fp16fix.trace.shadow import compare_in_graph, shadow
from tests.models import filled, model, normal, sqnr_db

Sample = dict[str, np.ndarray]
WITH_300 = np.where(np.arange(32).reshape(4, 8) % 8 == 0, 300.0, 19.0).astype(np.float32)
"""300 in the first channel, whose square FP16 does not hold; 19 in the others."""


def acquitted(text: str, sample: Sample) -> tuple[list[Hazard], dict[Hazard, Acquittal]]:
    """The hazards of a model, and those that are acquitted: the same by NumPy and in the graph."""
    fp32 = model(text)
    ranges = measure(fp32, [sample])
    found = list(diagnose(fp32, ranges))
    in_graph, outside = harmless(fp32, found, [sample]), harmless(fp32, found, [sample], ranges=ranges)
    assert {hazard: proof.healed_at for hazard, proof in outside.items()} == {hazard: proof.healed_at for hazard, proof in in_graph.items()}
    assert all(proof.worst_db == pytest.approx(in_graph[hazard].worst_db, abs=0.1) for hazard, proof in outside.items())
    return found, outside


def accused(found: list[Hazard]) -> set[tuple[str, Kind]]:
    return {(hazard.node, hazard.kind) for hazard in found}


def test_a_square_that_tanh_absorbs_after_four_operators() -> None:
    text = """g (float[4,8] x) => (float[4,8] y) <float k = {0.5}, float one = {1}> {
        p = Mul (x, x) a = Mul (p, k) b = Add (a, one) c = Sqrt (b) y = Tanh (c) }"""
    found, proofs = acquitted(text, {"x": normal(4, 8, scale=1000.0)})
    assert accused(found) >= {("Mul_p", Kind.OVERFLOW)}
    assert set(proofs) == set(found)
    assert {proof.healed_at for proof in proofs.values()} == {("y",)}
    assert all(proof.worst_db >= HEALED_DB and "gone at y" in proof.why for proof in proofs.values())


def test_an_error_in_every_element_matters_though_none_is_far_off() -> None:
    """A bulk of subnormals: 1 % everywhere, 42 dB."""
    text = """g (float[4,8] x) => (float[4,8] y) <float k = {0.000003814697265625}, float u = {512}> {
        a = Mul (x, k) b = Mul (a, u) y = Mul (b, u) }"""
    sample = {"x": np.linspace(0.5, 1.0, 32, dtype=np.float32).reshape(4, 8)}
    found, proofs = acquitted(text, sample)
    assert ("Mul_a", Kind.VANISH) in accused(found)
    assert 35.0 < figure(text, sample) < HEALED_DB
    assert proofs == {}


def test_an_error_beside_a_massive_channel_matters_though_decibels_do_not_show_it() -> None:
    """1/90000 becomes 0 in every channel but the massive one, beside which that is nothing."""
    massive = ", ".join(["100", *(["0"] * 1023)])
    text = f"""g (float[4,1024] x) => (float[4,1024] y) <float[1024] massive = {{{massive}}}> {{
        p = Mul (x, x) r = Reciprocal (p) y = Add (r, massive) }}"""
    sample = {"x": np.full((4, 1024), 300.0, np.float32)}
    found, proofs = acquitted(text, sample)
    assert ("Mul_p", Kind.OVERFLOW) in accused(found)
    assert figure(text, sample) > HEALED_DB
    assert proofs == {}


def test_an_error_that_grows_again_matters_though_it_had_healed() -> None:
    """A zero where 0.004 was is nothing beside ones, until it is multiplied by 2000."""
    text = """g (float[4,8] x) => (float[4,8] y) <float k = {360}, float[8] w = {2000, 1, 1, 1, 1, 1, 1, 1}> {
        p = Mul (x, x) d = Div (k, p) y = Mul (d, w) }"""
    sample = {"x": WITH_300}
    found, proofs = acquitted(text, sample)
    assert accused(found) == {("Mul_p", Kind.OVERFLOW)}
    fp32 = model(text)
    errors = shadow(fp32, lower(fp32, {}), [sample])
    assert errors["d"].damage_db > HEALED_DB > errors["y"].damage_db
    assert proofs == {}


def test_an_error_that_reaches_an_output_matters_though_another_path_heals() -> None:
    text = "g (float[4,8] x) => (float[4,8] y, float[4,8] z) <float k = {0.001}> { p = Mul (x, x) y = Tanh (p) z = Mul (p, k) }"
    found, proofs = acquitted(text, {"x": WITH_300})
    assert accused(found) == {("Mul_p", Kind.OVERFLOW)}
    assert proofs == {}


def test_an_error_that_is_read_by_a_comparison_is_not_followed() -> None:
    text = """g (float[4,8] x) => (bool[4,8] y) <float k = {70000}> { p = Mul (x, x) y = Greater (p, k) }"""
    _, proofs = acquitted(text, {"x": WITH_300})
    assert proofs == {}


def test_what_another_hazard_does_behind_it_is_not_its_fault() -> None:
    text = """g (float[4,8] x) => (float[4,8] y) <float k = {300}, float c = {0.001}> {
        p = Mul (x, x) t = Tanh (p) q = Mul (t, k) s = Mul (q, q) y = Mul (s, c) }"""
    found, proofs = acquitted(text, {"x": WITH_300})
    assert accused(found) == {("Mul_p", Kind.OVERFLOW), ("Mul_s", Kind.OVERFLOW)}
    assert {hazard.node for hazard in proofs} == {"Mul_p"}


def test_positions_are_not_acquitted_by_samples_of_one_length() -> None:
    text = """g (float[64] x) => (float[64] y) <float a = {0}, float b = {64}, float d = {1}, float k = {0.25}> {
        r = Range (a, b, d) p = Mul (r, k) y = Add (x, p) }"""
    sample = {"x": normal(64)}
    found, proofs = acquitted(text, sample)
    assert ("Mul_p", Kind.SWAMP) in accused(found)
    assert figure(text, sample) > HEALED_DB, "nothing goes wrong at this length"
    assert proofs == {}


@pytest.mark.parametrize("count", [1, 60])
def test_many_proofs_are_made_together(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than run at once, each acquitted on its own."""
    monkeypatch.setattr("fp16fix.trace.harmless.AT_ONCE", 100)
    body = " ".join(f"p{k} = Mul (x, x) t{k} = Tanh (p{k})" for k in range(count))
    text = f"g (float[4,8] x) => (float[4,8] y) {{ {body} y = Sum ({', '.join(f't{k}' for k in range(count))}) }}"
    found, proofs = acquitted(text, {"x": WITH_300})
    assert len(found) == len(proofs) == count
    assert [proofs[hazard].healed_at for hazard in found] == [(hazard.tensor.replace("p", "t"),) for hazard in found]


@pytest.mark.parametrize(("ends", "tried", "proven"), [("Sqrt", 4, 0), ("Tanh", 40, 40)])
def test_of_many_that_are_alike_all_are_tried_only_if_some_are_harmless(
    ends: str, tried: int, proven: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spliced: list[str] = []

    def counted(host: Model, guest: Model, prefix: str) -> dict[str, Tensor]:
        spliced.append(prefix)
        return splice(host, guest, prefix)

    monkeypatch.setattr(harmless_module, "splice", counted)
    body = " ".join(f"p{k} = Mul (x, x) t{k} = {ends} (p{k})" for k in range(40))
    text = f"g (float[4,8] x) => (float[4,8] y) {{ {body} y = Sum ({', '.join(f't{k}' for k in range(40))}) }}"
    fp32, samples = model(text), [{"x": WITH_300}]
    ranges = measure(fp32, samples)
    found = diagnose(fp32, ranges)
    proofs = harmless(fp32, found, samples, ranges=ranges)
    assert len(spliced) == tried
    assert len(proofs) == proven
    assert len([hazard for hazard in found if hazard.kind is Kind.OVERFLOW and hazard.node.startswith("Mul")]) == 40


def figure(text: str, sample: Sample) -> float:
    """The output's SQNR in all-FP16."""
    fp32 = model(text)
    return sqnr_db(Session(fp32).run(sample)["y"], Session(emulate(lower(fp32, {}))).run(sample)["y"])


def watched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which ways of comparing are taken, in order."""
    asked: list[str] = []

    def watch(name: str, plain: Callable[..., Any]) -> None:
        def told(*given: Any, **more: Any) -> Any:
            asked.append(name)
            return plain(*given, **more)

        monkeypatch.setattr(harmless_module, name, told)

    watch("compare", compare)
    watch("compare_in_graph", compare_in_graph)
    return asked


@pytest.mark.parametrize("held", [0, 1 << 26])
def test_few_values_are_compared_outside_and_many_in_the_graph(held: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = watched(monkeypatch)
    monkeypatch.setattr(harmless_module, "HELD", held)
    fp32, samples = model("g (float[4,8] x) => (float[4,8] y) { p = Mul (x, x) y = Tanh (p) }"), [{"x": WITH_300}]
    ranges = measure(fp32, samples)
    assert harmless(fp32, diagnose(fp32, ranges), samples, ranges=ranges)
    assert asked == (["compare"] if held else ["compare_in_graph"])


def test_a_twin_that_fails_outside_is_judged_in_the_graph(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its index leaves the table: it is damaged, and that is all."""
    text = """g (float[4] x, float[4000] w) => (float[4] y) <float k = {0.5}> {
        p = Mul (x, x) i = Cast <to = 7> (p) t = Gather (w, i) z = Mul (t, k) q = Tanh (p) y = Add (z, q) }"""
    asked = watched(monkeypatch)
    fp32, samples = filled(text, {"w": np.ones(4000, np.float32)}), [{"x": np.full(4, np.sqrt(3999.5), np.float32)}]
    hazard = Hazard("Mul_p", Kind.OVERFLOW, "p", "Mul", 0.0, 4000.0, 1.0, 1.0, "made up")
    found = harmless(fp32, [hazard], samples, ranges=measure(fp32, samples))
    assert asked == ["compare", "compare_in_graph"]
    assert found == harmless(fp32, [hazard], samples)
