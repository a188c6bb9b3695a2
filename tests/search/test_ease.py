"""Insides of kernels in FP32, before anything that a plan pays for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.config import merged
from fp16fix.engines.backend import RTX
from fp16fix.oracles.emulator import Emulator
from fp16fix.oracles.oracle import Probe, Score
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.place.price import Price
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.search import answer as answers
from fp16fix.search.answer import Answer, designed, passing, settle_on
from fp16fix.search.ease import EASE_CALLS
from fp16fix.search.trials import Trials, trials
from fp16fix.tasks.repair import repair
from tests.models import normal
from tests.search.test_leave_out import HEAD, given


def taken_back(blocks: int, bias: float) -> str:
    """Norms whose bias the next node takes back: with 25, 47 dB where the sum is stored in FP16, 66 where it never leaves its kernel."""

    def block(n: int, read: str) -> str:
        return f"""[first{n}] a{n} = MatMul ({read}, w)  [mean{n}] m{n} = ReduceMean <axes = [-1]> (a{n})  [centre{n}] c{n} = Sub (a{n}, m{n})
            [square{n}] s{n} = Pow (c{n}, two)  [variance{n}] t{n} = ReduceMean <axes = [-1]> (s{n})  [safe{n}] e{n} = Add (t{n}, eps)
            [root{n}] r{n} = Sqrt (e{n})  [norm{n}] n{n} = Div (c{n}, r{n})  [shift{n}] h{n} = Add (n{n}, bias)  [back{n}] d{n} = Sub (h{n}, bias)"""

    weights = ", ".join(f"{value:.6f}" for value in np.random.default_rng(1).standard_normal(64 * 64))
    body = " ".join(block(n, f"d{n - 1}" if n else "x") for n in range(blocks))
    head = f"g (float[8,64] x) => (float[8,64] y) <float[64,64] w = {{{weights}}}, float two = {{2}}, float eps = {{0.00001}}, "
    return HEAD + head + f"float bias = {{{bias}}}> {{ {body} [last] y = MatMul (d{blocks - 1}, w) }}"


SAMPLES = [{"x": normal(8, 64, seed=seed)} for seed in range(4)]


def settled(found: Evidence) -> Answer:
    with trials(found, Stages(Silent())) as tried:
        return settle_on(tried, Stages(Silent()))


@pytest.mark.parametrize("bound_db", [50.0, 44.0], ids=["fails", "lacks margin"])
def test_what_costs_nothing_is_tried_first_and_suffices(tmp_path: Path, bound_db: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "refined", lambda *_: pytest.fail("asked for pins that cost"))
    answer = settled(given(tmp_path, taken_back(1, 25.0), *SAMPLES, tolerance={"sqnr_db": bound_db}))
    assert answer.verdict.spare_db > 10.0
    assert len(answer.recipe.wide) == 2
    assert "back0" in answer.recipe.wide
    assert Price(answer.draft.model, answer.draft.ranges).of(answer.recipe.wide) == 0
    assert [trial.search for trial in answer.derivation].count("ease") <= EASE_CALLS


def test_as_many_kernels_as_the_margin_wants(tmp_path: Path) -> None:
    answer = settled(given(tmp_path, taken_back(2, 12.0), *SAMPLES, tolerance={"sqnr_db": 51.5}))
    tried = [trial.figure for trial in answer.derivation if trial.search in {"draft", "ease"} and trial.wide in {0, 2}]
    assert min(tried) < 51.5 < max(tried), "one kernel is enough for the verdict"
    assert answer.verdict.spare_db > 6.0
    assert {"back0", "back1"} <= set(answer.recipe.wide)


@pytest.mark.parametrize(("bound_db", "calls", "wide"), [(40.0, 0, 0), (40.0, 1, 4), (56.0, 1, 4)])
def test_ctrl_c_keeps_what_there_is(tmp_path: Path, bound_db: float, calls: int, wide: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The draft where that passes, or both kernels, wherever the search is stopped."""
    found, stages = given(tmp_path, taken_back(2, 25.0), *SAMPLES, tolerance={"sqnr_db": bound_db}), Stages(Silent())
    with trials(found, stages) as tried:
        draft = designed(tried, stages)
        measure = Trials.measure

        def stopping(self: Trials, recipe: Recipe) -> Score:
            if self.judge.calls > calls:
                raise KeyboardInterrupt
            return measure(self, recipe)

        def probing(self: Emulator, recipe: Recipe, which: Probe) -> Score:
            if tried.judge.calls > calls:
                raise KeyboardInterrupt
            return probe(self, recipe, which)

        probe = Emulator.probe
        monkeypatch.setattr(Trials, "measure", stopping)
        monkeypatch.setattr(Emulator, "probe", probing)
        tried.begin("calibration samples")
        candidate = passing(tried, draft, stages)
    assert candidate.stopped == "interrupted"
    assert len(candidate.recipe.wide) == wide
    assert candidate.score.good


def test_ctrl_c_before_anything_passes_ends_the_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "eased", lambda *_: (None, "interrupted"))
    with pytest.raises(KeyboardInterrupt):
        settled(given(tmp_path, taken_back(1, 25.0), *SAMPLES))


def test_what_does_not_help_is_left_alone(tmp_path: Path) -> None:
    """With the border wide and nothing else, the products' own rounding is what is left."""
    found = given(tmp_path, taken_back(1, 0.01), *SAMPLES, tolerance={"sqnr_db": 62.0})
    answer = settled(found)
    assert 0.0 <= answer.verdict.spare_db < found.config.search.margin_db
    assert answer.recipe.wide == {}
    (asked,) = (trial for trial in answer.derivation if trial.search == "ease")
    assert asked.good, "passes, and gains too little"
    assert asked.tried.endswith("on the samples alone"), "stress can only take from it"


@pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")
def test_the_plan_pays_nothing_for_it(tmp_path: Path) -> None:
    config = given(tmp_path, taken_back(1, 25.0), *SAMPLES).config
    outcome = repair(merged(config, {"output": str(tmp_path / "x.plan"), "build.compare": True, "tolerance.sqnr_db": 56.0}))
    became, (repaired, half, _) = outcome.engine.compiled, outcome.engine.costs
    assert outcome.verified
    assert became is not None
    assert (became.source, became.float_products, became.narrowed) == ("plan", (), ())
    assert {node.computed for node in became.nodes if node.node in outcome.recipe.wide} == {"fp32"}
    assert repaired.bytes <= 1.03 * half.bytes
