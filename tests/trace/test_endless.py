"""A Loop that ends in FP32 and not in FP16 is a hazard that is named, said and answered; no other Loop is."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from fp16fix.config import Config
from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.loops import deciders
from fp16fix.graph.save import save_model
from fp16fix.hazards.hazard import Kind
from fp16fix.inputs.files import write_npz
from fp16fix.passes.apply import apply
from fp16fix.passes.recipe import plain
from fp16fix.tasks.diagnose import diagnose
from fp16fix.tasks.repair import repair
from fp16fix.tasks.verify import verify
from tests.models import model
from tests.odd.graphs import endless, settling, small


@pytest.fixture
def config(tmp_path: Path) -> Config:
    (tmp_path / "samples").mkdir()
    for seed in range(4):
        write_npz(tmp_path / "samples" / f"{seed}.npz", small(4)(seed))
    onnx.save(endless(), tmp_path / "model.onnx")
    return Config(model=tmp_path / "model.onnx", inputs=str(tmp_path / "samples"), output=tmp_path / "fixed.onnx", threads=1)


def test_it_is_named_with_its_rounds(config: Config) -> None:
    (found,) = [each for each in diagnose(config).hazards if each.kind is Kind.ENDLESS]
    assert (found.node, found.tensor, found.bits) == ("Loop_z", "d", 2.0)
    assert "after 6,144 rounds at most in FP32 and had not after 24,576 in FP16" in found.why


def test_what_was_done_is_said(config: Config) -> None:
    outcome = repair(config)
    (found,) = [each for each in outcome.hazards if each.hazard.kind is Kind.ENDLESS]
    assert outcome.verified
    assert (found.end, found.by) == ("pinned", "what decides when it ends is computed in FP32: Less_1")
    assert "endless" in (config.output or Path()).with_name("fixed.report.html").read_text()


def test_a_candidate_that_never_ends_is_not_verified(config: Config, tmp_path: Path) -> None:
    save_model(apply(load(tmp_path / "model.onnx"), plain({})), tmp_path / "half.onnx")
    found = verify(config, tmp_path / "half.onnx")
    assert not found.verified
    assert any("'Loop_z' never ends: 24,576 rounds and more" in reason for reason in found.reasons)


def test_what_settles_in_fp16_is_no_hazard(config: Config, tmp_path: Path) -> None:
    onnx.save(settling(), tmp_path / "model.onnx")
    assert not [each for each in diagnose(config).hazards if each.kind is Kind.ENDLESS]


COUNTED = """g (float[4] x) => (float[4] y) <int64 n = {5}, bool go = {1}> {
  y = Loop (n, go, x) <body = b (int64 i, bool c, float[4] v) => (bool d, float[4] w) { d = Identity (c) w = Exp (v) s = Shape (w) }> }"""


def test_only_decisions_on_floats_end_a_loop_otherwise() -> None:
    def found(proto: onnx.ModelProto) -> list[str]:
        return [node.name for loop in model_from_proto(proto).nodes() if loop.op == "Loop" for node in deciders(loop)]

    assert found(endless()) == ["Less_d"]
    assert [deciders(node) for node in model(COUNTED).nodes() if node.op == "Loop"] == [[]]
