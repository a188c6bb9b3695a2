"""The task's own measures: those that come with fp16fix by hand-made numbers, the user's files end to end, and what is said of faults."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, Entry, load_config, merged
from fp16fix.errors import ConfigError, InputError
from fp16fix.tasks.repair import repair
from fp16fix.tasks.verify import verify
from fp16fix.verdict.gauged import metrics_named
from fp16fix.verdict.gauges.boxes import BoxCorners, BoxIou
from fp16fix.verdict.gauges.top1 import Top1
from fp16fix.verdict.metric import Measured, times_to_spare
from fp16fix.zoo.content import config_digest
from tests.models import normal, proto

FAR = """g (float[8,4] x, float[4,16] at) => (float[8,4] boxes) <float big = {900}> {
    [turn] tr = Transpose (at) [spread] w = MatMul (at, tr) [mix] m = MatMul (x, w) [small] t = Tanh (m) [place] boxes = Add (t, big) }"""
"""Corners by 900 px, where FP16 knows half pixels: 75 dB."""
CODE = """
import numpy as np
from fp16fix.verdict.metric import Measured

def corners(reference, candidate, scale=1.0):
    assert len(reference) == len(candidate)
    off = max(float(np.abs(a["boxes"] - b["boxes"]).max()) for a, b in zip(reference, candidate))
    return scale * off, 0.05

def seen(reference, candidate):
    return Measured(len(reference), 0, True)

def fails(reference, candidate):
    names = list(reference[0])
    return names["boxes"]

def mumbles(reference, candidate):
    return "good"

class Corners:
    name = "corners"
    def __init__(self):
        self.worst = 0.0
    def add(self, reference, candidate):
        self.worst = max(self.worst, float(np.abs(reference["boxes"] - candidate["boxes"]).max()))
    def result(self):
        return Measured(self.worst, 0.05, self.worst <= 0.05)

class Fails(Corners):
    def add(self, reference, candidate):
        raise ValueError("no such class")

class Empty:
    pass
"""


def line(words: str) -> int:
    """Where the code of the tests has these words."""
    return next(number for number, text in enumerate(CODE.splitlines(), 1) if words in text)


def config(folder: Path, *metrics: Any, **keys: Any) -> Config:
    onnx.save(proto(FAR), folder / "m.onnx")
    (folder / "gauge.py").write_text(CODE)
    (folder / "in").mkdir(exist_ok=True)
    for seed in range(4):
        np.savez(folder / "in" / f"{seed}.npz", x=normal(8, 4, seed=seed), at=normal(4, 16, seed=seed + 10))
    (folder / "c.yaml").write_text(
        json.dumps(
            {
                "model": "m.onnx",
                "output": "out.onnx",
                "inputs": "in",
                "simplify": False,
                "blends": 0,
                "jitter": 0,
                "tolerance": {"metrics": list(metrics)},
                **keys,
            }
        )
    )
    return load_config(folder / "c.yaml")


def add_is_wide(folder: Path) -> bool:
    """Whether the last addition of what was repaired is in FP32: its constant is."""
    graph = onnx.load(folder / "out.onnx").graph
    kinds = {info.name: info.data_type for info in graph.initializer}
    (node,) = [node for node in graph.node if node.op_type == "Add"]
    return any(kinds.get(name) == onnx.TensorProto.FLOAT for name in node.input)


def test_what_passes_in_decibels_fails_by_its_boxes_and_is_repaired(tmp_path: Path) -> None:
    plain = repair(config(tmp_path))
    assert plain.verified
    assert plain.verdict.spare_db > 15
    assert not add_is_wide(tmp_path)
    found = repair(config(tmp_path, {"metric": "box-corners", "limit": 0.05}))
    assert found.verified, found.verdict.reasons
    assert add_is_wide(tmp_path)
    (reading,) = found.verdict.metrics
    assert (reading.metric, reading.limit, reading.passes) == ("box-corners", 0.05, True)
    assert found.verdict.spare_db == pytest.approx(times_to_spare(reading.value, 0.05))


@pytest.mark.parametrize("name", ["corners", "Corners"])
def test_a_file_of_the_user_holds_search_and_verdict(tmp_path: Path, name: str) -> None:
    found = repair(config(tmp_path, f"gauge.py:{name}"))
    assert found.verified, found.verdict.reasons
    assert add_is_wide(tmp_path)
    assert [each.metric for each in found.verdict.metrics] == [f"gauge.py:{name}"]


def test_what_cannot_be_repaired_is_not_verified(tmp_path: Path) -> None:
    found = repair(config(tmp_path, {"metric": "box-corners", "limit": 0.05}, allow=["*"]))
    assert not found.verified
    assert any(reason.startswith("metric box-corners: 0.") for reason in found.verdict.reasons)


def test_verify_judges_all_samples_with_the_parameters_given(tmp_path: Path) -> None:
    repair(config(tmp_path))
    found = verify(config(tmp_path, {"metric": "gauge.py:corners", "scale": 0.01}, "gauge.py:seen"), tmp_path / "out.onnx")
    assert found.verified
    assert [each.metric for each in found.metrics] == ["gauge.py:corners (scale 0.01)", "gauge.py:seen"]
    assert found.metrics[1].value == 4
    assert 0.001 < found.metrics[0].value < 0.005


def test_a_margin_is_asked_of_metrics_too(tmp_path: Path) -> None:
    """Plain FP16 is off by nearly a quarter of a pixel, which is less than half of 0.6 and more than half of 0.4."""
    enough = repair(config(tmp_path, {"metric": "box-corners", "limit": 0.6}))
    assert 0.2 < enough.verdict.metrics[0].value < 0.25
    assert not enough.recipe.wide
    short = repair(config(tmp_path, {"metric": "box-corners", "limit": 0.4}))
    assert short.verified
    assert short.recipe.wide
    assert short.verdict.metrics[0].value < 0.2


@pytest.mark.parametrize(
    ("use", "words"),
    [
        ("gauge.py:fails", f"gauge.py:{line('names[')}: TypeError: list indices must be integers"),
        ("gauge.py:Fails", f"gauge.py:{line('raise')}: ValueError: no such class"),
        ("gauge.py:mumbles", "gauge.py: expected (value, limit) or Measured, found 'good'"),
        ("gauge.py:Empty", "class Empty has no add and result"),
        ("gauge.py:absent", "has no function 'absent'"),
        ("other.py:corners", "other.py: does not exist"),
        ("box-corner", "there is no metric 'box-corner'\n  → installed: box-corners, box-iou, top1"),
        ({"metric": "box-corners", "limt": 1}, "tolerance.metrics[0]: metric cannot be called like this: got an unexpected keyword"),
        ({"metric": "gauge.py:corners", "scales": 1}, "tolerance.metrics[0]: metric cannot be called like this"),
        ({"metric": "box-corners", "limit": "far"}, "ValueError: could not convert string to float: 'far'"),
        ({"metric": "box-corners", "output": "box"}, "the model has no output 'box'\n  → it has 'boxes'"),
        ({"limit": 1}, "tolerance.metrics[0].metric: is missing"),
    ],
    ids=str,
)
def test_faults_are_said_where_they_are(tmp_path: Path, use: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        repair(config(tmp_path, use))
    assert words in str(caught.value)
    assert not (tmp_path / "out.onnx").exists()


def test_a_fault_ends_the_command_without_a_traceback(tmp_path: Path) -> None:
    config(tmp_path, "gauge.py:Fails")
    words = [sys.executable, "-m", "fp16fix", "repair", "--config", str(tmp_path / "c.yaml")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"gauge.py:{line('raise')}: ValueError: no such class" in done.stderr
    assert "Traceback" not in done.stderr


def test_flags_name_metrics_too(tmp_path: Path) -> None:
    once = config(tmp_path, {"metric": "top1", "output": "boxes", "limit": 0.5})
    assert merged(once, {"tolerance.sqnr_db": 40.0}).tolerance.metrics == once.tolerance.metrics
    (other,) = merged(once, {"tolerance.metrics": ["box-iou"]}).tolerance.metrics
    assert (other.metric, other.parameters) == ("box-iou", {})


def test_another_text_of_the_file_is_another_search(tmp_path: Path) -> None:
    made = config(tmp_path, "gauge.py:corners", search={"journal": "j.jsonl"})
    assert repair(made).verified
    assert repair(made).verified, "the same is taken up"
    (tmp_path / "gauge.py").write_text(CODE + "\n")
    with pytest.raises(InputError, match="tolerance"):
        repair(made)


def test_a_metric_used_twice_has_two_names() -> None:
    class Use:
        metric = "box-iou"

        def __init__(self, output: str) -> None:
            self.parameters = {"output": output, "limit": 0.5}

    assert [make().label for make in metrics_named([Use("a"), Use("b")])] == ["box-iou (output a)", "box-iou (output b)"]


def boxes(*rows: tuple[float, float, float, float]) -> dict[str, np.ndarray]:
    return {"boxes": np.array(rows, np.float32)[None]}


NONE = {"boxes": np.zeros((1, 0, 4), np.float32)}


def said(metric: Any, *pairs: tuple[dict[str, np.ndarray], dict[str, np.ndarray]]) -> Measured:
    for exact, found in pairs:
        metric.add(exact, found)
    measured = metric.result()
    assert isinstance(measured, Measured)
    return measured


def test_the_furthest_corner_of_all_samples_counts() -> None:
    one = boxes((0, 0, 10, 10), (5, 5, 20, 20))
    far_, near = boxes((0, 0, 10, 10), (5, 5, 23, 24)), boxes((0, 0, 10, 10), (5, 5, 20, 20.5))
    found = said(BoxCorners(limit=10), (one, far_), (one, near))
    assert (found.value, found.passes) == (5.0, True)
    assert found.spare_db == pytest.approx(20 * math.log10(2))
    assert not said(BoxCorners(limit=4.9), (one, far_)).passes


def test_what_is_no_number_is_infinitely_far() -> None:
    nan, inf = boxes((math.nan, 0, 1, 1)), boxes((math.inf, 0, 1, 1))
    good = boxes((0, 0, 1, 1))
    assert said(BoxCorners(), (nan, nan), (inf, inf)).value == 0
    for pair in ((good, nan), (nan, good), (good, inf), (inf, boxes((-math.inf, 0, 1, 1))), (good, NONE)):
        found = said(BoxCorners(limit=1e9), pair)
        assert (found.value, found.passes, found.spare_db) == (math.inf, False, -math.inf)


def test_no_boxes_on_both_sides_is_right() -> None:
    assert said(BoxCorners(limit=0), (NONE, NONE)).passes
    assert said(BoxIou(limit=1), (NONE, NONE)).passes


def test_the_least_overlap_of_all_samples_counts() -> None:
    one, half, flat = boxes((0, 0, 10, 10)), boxes((0, 0, 10, 5)), boxes((3, 3, 3, 9))
    found = said(BoxIou(limit=0.4), (one, half), (one, one), (flat, one))
    assert (found.value, found.passes) == (0.5, True)
    assert found.spare_db == pytest.approx(20 * math.log10(0.6 / 0.5))
    assert said(BoxIou(), (one, boxes((20, 20, 30, 30)))).value == 0
    assert said(BoxIou(), (one, boxes((0, 0, math.nan, 10)))).value == 0
    assert said(BoxIou(), (one, NONE)).value == 0


def test_boxes_have_four_corners() -> None:
    with pytest.raises(ConfigError, match=r"has the shape \[2, 3\], not \[.., 4\]"):
        BoxCorners("y").add({"y": np.ones((2, 3))}, {"y": np.ones((2, 3))})


def test_top1_counts_rows() -> None:
    exact = {"z": np.array([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7], [0.6, 0.4]])}
    found = {"z": np.array([[0.1, 0.9], [0.2, 0.8], [0.3, 0.7], [math.nan, 0.4]])}
    share = said(Top1(limit=0.5), (exact, found))
    assert (share.value, share.passes, share.spare_db) == (0.5, True, math.inf)
    assert not said(Top1("z", 0.6), (exact, found)).passes
    assert said(Top1(), (exact, {"z": np.zeros((4, 3))})).value == 0
    assert not said(Top1(limit=0.0001)).passes, "without rows nothing is known"


def test_top1_holds_the_verdict(tmp_path: Path) -> None:
    """Within a pixel of 900, the largest of four is not what FP16 keeps apart."""
    loose = {"metric": "top1", "output": "boxes", "limit": 1.0}
    assert not repair(config(tmp_path, loose, allow=["*"])).verified
    found = repair(config(tmp_path, loose))
    assert found.verified, found.verdict.reasons
    assert found.verdict.metrics[0].value == 1.0


def test_another_text_of_the_file_is_another_row_of_a_zoo(tmp_path: Path) -> None:
    entry = Entry.model_validate(config(tmp_path, {"metric": "gauge.py:corners", "scale": 2}).model_dump(by_alias=True, exclude_unset=True))
    before = config_digest(entry)
    assert config_digest(entry) == before
    (tmp_path / "gauge.py").write_text(CODE + "# \n")
    assert config_digest(entry) != before
