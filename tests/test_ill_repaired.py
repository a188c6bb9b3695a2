"""Every ill model through the real pipeline, from a file and a folder of samples, judged on what it saw and on what it never saw."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

import onnx
import pytest

from fp16fix.engines import BuildOptions, OptimizationProfile, check_pins
from fp16fix.engines.backend import RTX
from fp16fix.tasks.replay import replay
from tests.ill.case import Feeds
from tools.bench.row import Row, row
from tools.bench.subjects import Subject, subjects

RIGHT_DB, EQUAL = 50.0, 1e-5
SLOW = frozenset({"architecture-llama", "architecture-t5-encoder", "architecture-sdxl-vae"})
"""Their exponents take the solver tens of seconds; they are rows of ``notes/ill-table.md``."""
CHOSEN = [subject for subject in subjects() if subject.name not in SLOW]


@cache
def parsed_by_tensorrt() -> frozenset[str]:
    """One subject for every failure class, the first of each."""
    first: dict[int, str] = {}
    for subject in CHOSEN:
        for number in subject.classes:
            first.setdefault(number, subject.name)
    return frozenset(first.values())


@pytest.mark.parametrize("subject", CHOSEN, ids=lambda subject: subject.name)
def test_wrong_in_fp16_right_after_repair(subject: Subject, tmp_path: Path) -> None:
    for module in subject.needs:
        pytest.importorskip(module)
    repaired = row(subject, tmp_path)
    assert repaired.plain.right == subject.harmless, f"plain FP16: {repaired.plain}"
    assert repaired.outcome.verified, repaired.outcome.verdict.reasons
    assert repaired.strict.nonfinite == 0
    assert repaired.strict.db >= RIGHT_DB, "the samples that the pipeline did not see"
    assert repaired.strict.right
    assert_no_needless_fp32(repaired)
    delivered = Path(repaired.outcome.files["onnx"])
    assert replay(repaired.outcome, tmp_path / "again.onnx").read_bytes() == delivered.read_bytes()
    assert repaired.equivalence <= (0.0 if repaired.exact else EQUAL)
    if subject.name in parsed_by_tensorrt() and importlib.util.find_spec("tensorrt_rtx"):
        assert_tensorrt_takes_it(repaired)


def assert_no_needless_fp32(repaired: Row) -> None:
    if repaired.subject.free or repaired.subject.harmless:
        assert repaired.ours == 0, repaired.outcome.recipe.wide
    if repaired.subject.mixed:
        assert repaired.placed > 0 == repaired.ours, "the author's own placement, no more and no less"


def profiles(path: Path, sample: Feeds) -> tuple[OptimizationProfile, ...]:
    """One profile at the sample's shapes, for the inputs that have free dimensions; none if there are none."""
    inputs = onnx.load(path).graph.input
    free = sorted(each.name for each in inputs if not all(dim.HasField("dim_value") for dim in each.type.tensor_type.shape.dim))
    return ({name: (sample[name].shape,) * 3 for name in free},) if free else ()


def assert_tensorrt_takes_it(repaired: Row) -> None:
    """Parsed in a child process, since the library may kill the one it runs in; and every node runs in the type it was given."""
    path = Path(repaired.outcome.files["onnx"])
    checked = RTX.check(path, BuildOptions(backend="rtx", profiles=profiles(path, repaired.subject.samples()[0])))
    assert check_pins(checked.proof, repaired.outcome.recipe.wide, [each.node for each in checked.proof.nodes]) == ()


@pytest.mark.skipif(not importlib.util.find_spec("tensorrt_rtx"), reason="tensorrt_rtx is not installed")
def test_tensorrt_is_asked_about_every_class() -> None:
    """The checks above that need TensorRT-RTX are made, and reach every failure class."""
    asked = [subject for subject in CHOSEN if subject.name in parsed_by_tensorrt()]
    assert {number for subject in asked for number in subject.classes} == set(range(1, 23))
