from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.diagnose.hazard import Kind
from fp16fix.errors import SampleError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model
from fp16fix.search.triage import Evidence, Fault, against_references, read_references, triage
from fp16fix.verify.verdict import Figures, Verdict

from .test_locate import floor

GOOD = Figures("boxes", 61.0, 0.01, 0.001, 1.0, 0)
COARSE = Figures("boxes", 21.0, 3.0, 0.1, 0.99, 0)
LOST = Figures("boxes", 21.0, 3.0, 0.1, 0.99, 5)


def verdict(figures: Figures, oracle: str = "strict") -> Verdict:
    fine = figures is GOOD
    return Verdict(fine, oracle, "engine", (figures,), 2, () if fine else (f"boxes: {figures.sqnr_db} dB, wanted 50 dB",))


CASES = [
    (
        Evidence(verdict(LOST), reference=verdict(COARSE, "reference")),
        {Kind.OVERFLOW: 1.0},
        Fault.REFERENCE,
        "export and the preprocessing",
    ),
    (Evidence(verdict(LOST)), {Kind.CANCEL: 1.0}, Fault.RANGE, "range fault"),
    (Evidence(verdict(COARSE)), {Kind.OVERFLOW: 0.9, Kind.CANCEL: 0.1}, Fault.RANGE, "mostly by overflow"),
    (Evidence(verdict(COARSE)), {Kind.CANCEL: 0.7, Kind.VANISH: 0.3}, Fault.PRECISION, "mostly by cancel"),
    (Evidence(verdict(COARSE)), {}, Fault.PRECISION, "not one of range"),
    (Evidence(verdict(GOOD), pessimistic=verdict(LOST)), {}, Fault.SUMS, "accumulate in FP32"),
    (Evidence(verdict(GOOD), pessimistic=verdict(GOOD)), {}, Fault.ELSEWHERE, "compiler bug"),
]


@pytest.mark.parametrize(("evidence", "kinds", "fault", "words"), CASES)
def test_verdict_is_one_sentence_that_names_its_figure(evidence: Evidence, kinds: dict[Kind, float], fault: Fault, words: str) -> None:
    found = triage(evidence, kinds)
    assert found.fault is fault
    assert words in found.verdict
    assert "dB" in found.verdict
    assert "\n" not in found.verdict
    assert found.verdict.endswith(".")


def test_evidence_has_a_sentence_for_everything_measured() -> None:
    said = triage(Evidence(verdict(LOST), reference=verdict(GOOD, "reference"), autocast=(GOOD,)), {}).evidence
    assert said == (
        "FP32 agrees with the reference outputs: boxes 61.0 dB",
        "PyTorch autocast to FP16 against PyTorch FP32: boxes 61.0 dB",
        "all-FP16, strictly emulated, against FP32: boxes 21.0 dB, 5 values lost",
    )


@pytest.fixture
def model() -> Model:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[3] x) => (float[3] y, float[3] z) { y = Abs (x) z = Neg (x) }"""
    return model_from_proto(onnx.parser.parse_model(text))


SAMPLES = [{"x": np.asarray([1.0, -2.0, 3.0], np.float32)}, {"x": np.asarray([4.0, 5.0, -6.0], np.float32)}]


def written(folder: Path, names: tuple[str, ...], *, factor: float = 1.0) -> Path:
    for name, sample in zip(names, SAMPLES, strict=False):
        np.savez(folder / f"{name}.npz", y=factor * np.abs(sample["x"]))
    return folder


def test_references_are_matched_by_name_or_else_by_order(model: Model, tmp_path: Path) -> None:
    for number, names in enumerate((("b", "a"), ("0", "1"))):
        folder = tmp_path / str(number)
        folder.mkdir()
        references = read_references(written(folder, names), ["b", "a"])
        assert against_references(model, SAMPLES, references, floor).verified
    wrong = read_references(written(tmp_path / "0", ("b", "a"), factor=1.1), ["b", "a"])
    found = against_references(model, SAMPLES, wrong, floor)
    assert not found.verified
    assert found.samples == 2


def test_references_that_do_not_fit_are_errors(model: Model, tmp_path: Path) -> None:
    with pytest.raises(SampleError, match=r"1 \.npz files for 2 samples"):
        read_references(written(tmp_path, ("only",)), ["a", "b"])
    with pytest.raises(SampleError, match=r"0 \.npz files"):
        read_references(tmp_path / "missing", ["a"])
    for reference, words in (({"w": np.zeros(3)}, "no output"), ({"y": np.zeros(4)}, "shape")):
        with pytest.raises(SampleError, match=words):
            against_references(model, SAMPLES[:1], [reference], floor)
    with pytest.raises(SampleError, match="not one reference for each"):
        against_references(model, SAMPLES, [{"y": np.abs(SAMPLES[0]["x"])}], floor)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.npz").write_bytes(b"nothing")
    with pytest.raises(SampleError, match="cannot be read"):
        list(read_references(tmp_path / "bad", ["a"]))
