"""What a verdict is worth: searched on some samples, judged on all, with a margin, and never by making everything FP32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.hazards.hazard import Kind
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Silent, Stages
from fp16fix.search.answer import Answer, settle_on
from fp16fix.search.draft import design
from fp16fix.search.trials import trials
from fp16fix.trace.harmless import PASSES
from fp16fix.verdict.verdict import parts
from tests.models import normal
from tests.search.test_leave_out import HEAD, STREAM, given, wave

HEALTHY = HEAD + "g (float[4,8] x) => (float[4,8] y) <float k = {3.3}> { a = Mul (x, k)  b = Tanh (a)  y = Add (b, x) }"
STEPS = 40
NOISY = (
    HEAD
    + f"g (float[64,64] x) => (float[64,64] y) <float k = {{1.1}}, int64[64] order = {{{', '.join(map(str, range(63, -1, -1)))}}}> {{"
    + " ".join(f"u{n} = Mul ({'x' if n == 0 else f't{n}'}, k)  t{n + 1} = Gather (u{n}, order)" for n in range(STEPS - 1))
    + f" y = Mul (t{STEPS - 1}, k) }}"
)
"""Every step adds the same noise, so each pin helps a little: 57 dB in FP16. What is between them is no kernel that could be wide inside."""
SQUARES = (
    HEAD
    + """g (float[32,64] x) => (float[32,64] y) <float[64,64] w = {W}> {
    [first] a = MatMul (x, w)  [minus] b = Sub (a, x)  [second] c = MatMul (b, w)  [third] y = MatMul (c, w) }"""
).replace("W", ", ".join(f"{value:.6f}" for value in np.random.default_rng(1).standard_normal(64 * 64)))


def settled(found: Evidence) -> Answer:
    with trials(found, Stages(Silent())) as tried:
        return settle_on(tried, Stages(Silent()))


def test_plain_fp16_that_passes_with_margin_is_left_alone(tmp_path: Path) -> None:
    found = given(tmp_path, HEALTHY, *({"x": normal(4, 8, seed=seed)} for seed in range(4)))
    answer = settled(found)
    assert answer.recipe == found.plain
    assert answer.verdict.verified
    assert [trial.search for trial in answer.derivation] == ["plain", "draft", "all samples"]
    assert len(answer.verdict.stressed) == found.config.jitter + 1 == 4
    assert answer.verdict.stressed[0].samples == found.config.blends == 16, "half of calibration samples, half of all"


def test_no_proof_is_made_where_all_fp16_passes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """x² past 65504 is infinite, and tanh of it 1, as it should be; a softmax that reads a mask is right, too."""
    text = HEAD + (
        "g (float[4,8] x, float[4,8] m) => (float[4,8] y) <float k = {1000}, float big = {60000}, float steep = {30}, float one = {1}> "
        "{ [large] a = Mul (x, k)  [square] b = Mul (a, a)  t = Tanh (b)  [over] n = Mul (m, big)  [mask] s = Sub (t, n)  p = Softmax (s) "
        "c = Mul (x, steep)  [exp] e = Exp (c)  o = Add (e, one)  r = Reciprocal (o)  y = Add (p, r) }"
    )
    mask = np.float32(5) * (np.arange(32) % 8 > 5).reshape(4, 8).astype(np.float32)
    found = given(
        tmp_path,
        text,
        *({"x": np.sign(normal(4, 8, seed=seed)) + np.float32(0.01) * normal(4, 8, seed=seed), "m": mask} for seed in range(4)),
    )
    assert {hazard.node for hazard in found.hazards} >= {"square", "over", "mask"}
    assert {hazard.kind for hazard in found.hazards if hazard.node == "exp"} == {Kind.OVERFLOW, Kind.COARSE}
    monkeypatch.setattr("fp16fix.passes.evidence.harmless", None)
    answer = settled(found)
    assert answer.verdict.verified
    assert not answer.recipe.wide
    assert set(answer.draft.proofs) == set(found.hazards)
    assert set(answer.draft.proofs.values()) == {PASSES}


def test_head_room_alone_is_no_reason_to_change_anything(tmp_path: Path) -> None:
    """Within an octave of 65504: a draft rescales it, and all FP16 is right without."""
    text = (
        HEAD
        + "g (float[4,8] x) => (float[4,8] y) <float k = {40000}, float v = {0.000025}> { a = Mul (x, k)  b = Abs (a)  y = Mul (b, v) }"
    )
    found = given(tmp_path, text, *({"x": wave(1.0 + 0.01 * index)} for index in range(4)))
    assert design(found, Stages(Silent())).recipe.exponents
    answer = settled(found)
    assert answer.recipe == found.plain
    assert answer.verdict.spare_db > found.config.search.margin_db


def test_but_a_literal_that_guards_what_no_sample_shows_is_mended(tmp_path: Path) -> None:
    """A row that is masked throughout: -inf − (−inf) is NaN, and no sample has one."""
    text = HEAD + (
        "g (float[4,8] x, float[4,8] m) => (float[4,8] y) <float one = {1}, float big = {-3.4e38}> "
        "{ [not] n = Sub (one, m)  [mask] b = Mul (n, big)  [add] s = Add (x, b)  [softmax] y = Softmax <axis = -1> (s) }"
    )
    mask = np.ones((4, 8), np.float32)
    mask[:, -1] = 0.0
    answer = settled(given(tmp_path, text, *({"x": normal(4, 8, seed=seed), "m": mask} for seed in range(4))))
    assert {edit.by for edit in answer.recipe.rewrites} == {"mask-literal"}
    assert answer.recipe.wide == {}


def test_held_out_samples_are_asked_once_and_join_the_search_only_if_they_fail(tmp_path: Path) -> None:
    calm = [{"x": wave(scale)} for scale in (1.0, 0.9, 1.1)]
    good = settled(given(tmp_path / "good", STREAM, *calm, {"x": wave(0.95)}))
    assert good.independent
    assert good.verdict.samples == 4
    assert good.recipe.wide == {}
    assert [trial.search for trial in good.derivation].count("all samples") == 1
    bad = settled(given(tmp_path / "bad", STREAM, *calm, {"x": wave(1e-9)}))
    assert not bad.independent
    assert bad.verdict.verified
    assert bad.recipe.wide
    found = parts(bad.verdict, 2, 2)
    assert [(each.name, each.samples) for each in found] == [("calibration", 2), ("held out", 2)]
    assert min(each.sqnr_db for each in found) == bad.verdict.outputs[0].sqnr_db
    assert found[1].sample in {"1", "3"}


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_the_order_of_samples_changes_no_verdict(tmp_path: Path, place: int) -> None:
    samples = [{"x": wave(1.0 + 0.1 * index)} for index in range(4)]
    samples[place] = {"x": wave(1e-9)}
    answer = settled(given(tmp_path, STREAM, *samples, allow=["*"]))
    assert not answer.verdict.verified
    assert answer.verdict.worst is not None
    assert answer.verdict.worst.sample == str(place)


def noisy(folder: Path, **keys: object) -> Answer:
    return settled(given(folder, NOISY, *({"x": normal(64, 64, seed=seed)} for seed in range(4)), tolerance={"sqnr_db": 60.0}, **keys))


def test_a_search_aims_higher_than_the_bound(tmp_path: Path) -> None:
    with_margin, without = noisy(tmp_path / "m"), noisy(tmp_path / "n", search={"margin_db": 0.0})
    assert with_margin.verdict.verified
    assert without.verdict.verified
    assert with_margin.verdict.spare_db > 5.0 > without.verdict.spare_db
    assert len(without.recipe.wide) < len(with_margin.recipe.wide)


def test_a_margin_that_nothing_reaches_is_done_without(tmp_path: Path) -> None:
    answer = noisy(tmp_path, search={"margin_db": 200.0}, io="fp16")
    assert answer.verdict.verified
    assert answer.verdict.spare_db < 5.0


def test_mostly_fp32_is_no_repair(tmp_path: Path) -> None:
    samples = [{"x": normal(32, 64, seed=seed)} for seed in range(4)]
    strict = {"tolerance": {"sqnr_db": 90.0}, "io": "fp32"}
    refused = settled(given(tmp_path / "r", SQUARES, *samples, **strict))
    assert not refused.verdict.verified
    (said,) = [reason for reason in refused.verdict.reasons if "max_fp32_share" in reason]
    assert said.startswith("100% of the FLOPs would run in FP32")
    allowed = settled(given(tmp_path / "a", SQUARES, *samples, max_fp32_share=1.0, **strict))
    assert allowed.verdict.verified
    assert {"first", "second", "third"} <= set(allowed.recipe.wide)
