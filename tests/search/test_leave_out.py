"""A design that fails its verdict on held-out samples is not the end: what does harm is found and left out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config
from fp16fix.inputs.files import write_npz
from fp16fix.passes.design import LEFT_OUT, Draft
from fp16fix.passes.evidence import Evidence, gather
from fp16fix.passes.recipe import RESCALE
from fp16fix.progress import Silent, Stages
from fp16fix.search import answer as answer_module
from fp16fix.search import answer as answers
from fp16fix.search.answer import settle_on
from fp16fix.search.draft import design
from fp16fix.search.leave_out import suspects
from fp16fix.search.shrink import Names
from fp16fix.search.trials import trials

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '
STREAM = (
    HEAD
    + """g (float[4,8] x) => (float[4,8] y) <float w = {1048576.0}, float v = {0.00000095367431640625}> {
    a = Mul (x, w)  b = Abs (a)  c = Add (a, b)  d = Mul (c, v)  y = Log (d) }"""
)
"""A stream that calibration sees at 1e6 and held-out samples at 1, and its logarithm, in which both count alike."""
LOG = HEAD + "g (float[4,8] x) => (float[4,8] y) <float eps = {1e-10}> { a = Add (x, eps)  y = Log (a) }"
"""An eps that nobody misses beside 0.1, and everybody beside 1e-9."""
BOTH = (
    HEAD
    + """g (float[4,8] x, float[4,8] p) => (float[4,8] y, float[4,8] z)
    <float w = {1048576.0}, float v = {0.00000095367431640625}, float eps = {1e-10}> {
    a = Mul (x, w)  b = Abs (a)  c = Add (a, b)  y = Mul (c, v)  d = Add (p, eps)  z = Log (d) }"""
)


def given(tmp_path: Path, text: str, *samples: dict[str, np.ndarray], **keys_: object) -> Evidence:
    """The first half of the samples is for calibration, the second for the verdict."""
    tmp_path.mkdir(exist_ok=True)
    onnx.save(onnx.parser.parse_model(text), tmp_path / "m.onnx")
    (tmp_path / "samples").mkdir()
    for index, sample in enumerate(samples):
        write_npz(tmp_path / "samples" / f"{index}.npz", sample)
    config = Config(model=tmp_path / "m.onnx", inputs=str(tmp_path / "samples"), **keys_)  # type: ignore[arg-type]
    return gather(config, Stages(Silent()))


def wave(scale: float, shift: float = 0.0) -> np.ndarray:
    return (scale * np.linspace(0.5, 1.0, 32, dtype=np.float32) + np.float32(shift)).reshape(4, 8)


def named(draft: Draft) -> list[str]:
    return suspects(draft.recipe)


def settled(found: Evidence) -> tuple[Draft, Draft, bool]:
    """The whole design, the one settled on, and whether that is verified."""
    stages = Stages(Silent())
    with trials(found, stages) as tried:
        answer = settle_on(tried, stages)
    return design(found, stages), answer.draft, answer.verdict.verified


def test_what_exponents_push_into_subnormals_is_pinned(tmp_path: Path) -> None:
    """Held-out values a million times smaller than calibration's: pins on top of the exponents hold them."""
    found = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-8)})
    stages = Stages(Silent())
    with trials(found, stages) as tried:
        answer = settle_on(tried, stages)
        without = tried.score(answer.draft.pinned({}), "test", "without pins")
    assert answer.recipe.exponents
    assert answer.verdict.verified
    assert answer.recipe.wide
    assert not without.good


def test_only_the_repair_that_does_harm_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The eps raised for the calibration's 0.1 moves a held-out 1e-9; the stream's exponents do no harm and stay."""
    # As if the held-out samples had nothing to tell the rules: with their ranges, the eps is not raised in the first place.
    monkeypatch.setattr(answers, "with_held_out", lambda found, _: found)
    calm = {"x": wave(1.0), "p": wave(0.1, 0.1)}
    found = given(tmp_path, BOTH, calm, {"x": wave(1.0), "p": wave(1e-9)})
    whole, draft, verified = settled(found)
    altered = [key for key in named(whole) if key != RESCALE]
    assert altered
    assert RESCALE in named(whole)
    assert named(draft) == [RESCALE]
    assert verified
    assert [each.why for each in draft.refusals if each.node in "d z".split() or each.why == LEFT_OUT]


def test_nothing_is_tried_where_nothing_can_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FP16 weights and interface alone miss the bound: one bare attempt shows it, and no set of repairs is searched."""
    found = given(tmp_path, LOG, {"x": wave(1.0)}, {"x": wave(1.0)}, io="fp16", tolerance={"sqnr_db": 140.0})
    asked: list[Names] = []

    def counted(found: Evidence, stages: Stages, without: Names = frozenset(), *, calm: bool = False) -> Draft:
        asked.append(without)
        return design(found, stages, without, calm=calm)

    monkeypatch.setattr(answer_module, "design", counted)
    stages = Stages(Silent())
    with trials(found, stages) as tried:
        assert not settle_on(tried, stages).verdict.verified
    assert [len(without) for without in asked] == [0, 1], "whole, then bare"
