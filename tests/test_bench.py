"""``tools/bench``: what is judged, how AutoCast's process is driven and outlived, and that the table calls a broken promise one."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import pytest

from fp16fix.graph import model as held
from fp16fix.graph import splice
from fp16fix.graph.load import load, model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.save import save_model
from fp16fix.hazards import diagnose
from fp16fix.ranges.measure import measure
from tools.bench import autocast, bert_base, copies
from tools.bench.autocast import AutoCast, Conversion, Job, convert, environment, judged
from tools.bench.ill_table import autocasts, calibration, main
from tools.bench.markdown import page, score, wide
from tools.bench.row import Row, row
from tools.bench.speed import __main__ as speed
from tools.bench.speed.picture import drawn
from tools.bench.speed.subjects import SUBJECTS as SPEEDY
from tools.bench.subjects import Subject, demo, subjects

CHILD = """
import json, sys
for job in json.load(sys.stdin):
    if "dies" in job["model"]:
        sys.exit(1)
    print("chatter")
    print(json.dumps({"output": job["output"], "seconds": 1.5, "error": "no" * ("fails" in job["model"])}), flush=True)
"""


def subject(name: str) -> Subject:
    return next(each for each in subjects() if each.name == name)


@cache
def small() -> Row:
    with TemporaryDirectory() as folder:
        return row(subject("l2norm-overflow"), Path(folder))


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "child.py"
    path.write_text(CHILD)
    monkeypatch.setattr(autocast, "CHILD", path)
    return path


def test_every_class_an_architecture_and_the_demo_are_subjects() -> None:
    found = subjects()
    assert {number for each in found for number in each.classes} == set(range(1, 23))
    assert sum(each.name.startswith("architecture-") for each in found) == 6
    assert found[-1].name == "demo-detector"
    assert [each.name for each in subjects(["rope", "demo"])] == ["angles-rope-long", "demo-detector"]


def test_mixed_and_harmless_subjects_are_not_called_free() -> None:
    assert not any(each.free and (each.mixed or each.harmless) for each in subjects())
    assert subject("rmsnorm-massive").free
    assert not subject("angles-rope-long").free


def test_subject_is_written_as_a_user_has_it(tmp_path: Path) -> None:
    model, samples = demo().write(tmp_path)
    onnx.checker.check_model(onnx.load(model))
    assert len(list(samples.glob("*.npz"))) == len(demo().samples()) == 8


def test_calibration_is_the_half_that_repair_calibrates_on(tmp_path: Path) -> None:
    model, samples = subject("l2norm-overflow").write(tmp_path)
    assert len(list(calibration(tmp_path, model).iterdir())) == small().outcome.samples.calibration < len(list(samples.iterdir()))


def test_a_job_that_kills_the_process_does_not_stop_the_rest(child: Path) -> None:
    jobs = [Job(Path(name), Path("samples"), Path(f"{name}.onnx")) for name in ("one", "dies", "fails", "last")]
    found = convert(Path(sys.executable), jobs)
    assert [each.error for each in found] == ["", "the process died", "no", ""]
    assert [each.output.name for each in found] == ["one.onnx", "dies.onnx", "fails.onnx", "last.onnx"]


def test_an_environment_that_is_ready_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    monkeypatch.setattr("venv.create", lambda folder, **_: (folder / "bin").mkdir(parents=True))
    monkeypatch.setattr("subprocess.run", lambda command, **_: made.append(command[-1]))
    assert environment(tmp_path) == environment(tmp_path) == tmp_path / "venv" / "bin" / "python"
    assert made == ["torch==2.13.0", "nvidia-modelopt[onnx]==0.47.*"]


def test_autocast_is_judged_by_our_emulator(tmp_path: Path) -> None:
    ill = subject("l2norm-overflow")
    model, _ = ill.write(tmp_path)
    save_model(lower(load(model, simplified=False), {}), tmp_path / "plain.onnx")
    found = judged(Conversion(tmp_path / "plain.onnx", 2.0, ""), model, ill.samples())
    assert (found.right, found.fp32_nodes, found.casts, found.seconds, found.error) == (False, 0, 2, 2.0, "")
    assert found.db < 40.0


def test_an_output_that_is_no_model_is_a_result(tmp_path: Path) -> None:
    ill = subject("l2norm-overflow")
    model, _ = ill.write(tmp_path)
    (tmp_path / "broken.onnx").write_bytes(b"not protobuf")
    assert "does not run" in judged(Conversion(tmp_path / "broken.onnx", 2.0, ""), model, ill.samples()).error
    assert judged(Conversion(tmp_path / "none.onnx", 2.0, "KeyError: 7"), model, ill.samples()).error == "KeyError: 7"


def test_autocasts_answers_are_remembered_by_what_it_was_given(tmp_path: Path, child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tools.bench.ill_table.environment", lambda _: Path(sys.executable))
    failing = replace(subject("l2norm-overflow"), name="fails")
    rows = [replace(small(), subject=failing)]
    for attempt in ("first", "second"):
        (tmp_path / attempt / "fails").mkdir(parents=True)
        failing.write(tmp_path / attempt / "fails")
        assert autocasts(rows, tmp_path / attempt, tmp_path / "env")["fails"].error == "no"
        child.write_text("raise SystemExit(1)")


def test_a_good_row_has_no_faults() -> None:
    assert small().faults == ()
    assert small().headroom[0] < 0.0 < small().headroom[1]
    assert small().fp32_nodes == 0


BROKEN: dict[str, Callable[[Row], Row]] = {
    "wrong": lambda good: replace(good, strict=replace(good.strict, right=False)),
    "shows nothing": lambda good: replace(good, plain=replace(good.plain, right=True)),
    "2 wide nodes on a row that must have none": lambda good: replace(good, fp32_nodes=2),
    "1 wide nodes on a harmless row": lambda good: replace(good, bf16_nodes=1, subject=replace(good.subject, harmless=True)),
    "moved by 2.0e-05": lambda good: replace(good, equivalence=2e-5),
    "exact repairs, but": lambda good: replace(good, equivalence=1e-7, exact=True),
}


@pytest.mark.parametrize("words", BROKEN)
def test_a_broken_promise_is_said(words: str) -> None:
    broken = BROKEN[words](small())
    assert any(words in fault for fault in broken.faults)
    assert f"- l2norm-overflow: {'; '.join(broken.faults)}" in page([broken], {})


def test_fp32_that_the_author_placed_is_no_fault() -> None:
    assert replace(small(), fp32_nodes=3, placed=3).faults == ()


def test_totals_compare_only_where_autocast_gives_a_model() -> None:
    good, other = small(), replace(small(), subject=replace(small().subject, name="other"), fp32_nodes=1)
    peers = {"l2norm-overflow": AutoCast(fp32_nodes=4, float_nodes=9, db=60.0, right=True), "other": AutoCast(error="KeyError: 7")}
    text = page([good, other], peers)
    assert f"1 of {2 * good.float_nodes}; where AutoCast gives a model (1): 0 against its 4, 0%" in text
    assert "AutoCast 1" in text
    assert "- other: `KeyError: 7`" in text


def test_wide_nodes_are_told_apart() -> None:
    mixed, ours = replace(small(), fp32_nodes=3, placed=3), replace(small(), fp32_nodes=4, bf16_nodes=2, placed=3)
    assert [wide(small()), wide(mixed), wide(ours)] == ["0", "3 (own)", "4 + 2 BF16 (3 own)"]


def test_scores_are_bold_where_wrong() -> None:
    assert [score(61.84, 0, True), score(-0.1, 0, False), score(61.0, 3, False)] == ["61.8", "**−0.1**", "**NaN/inf**"]


def test_one_command_prints_chosen_rows_and_fails_on_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["--only", "l2norm-overflow"]) == 0
    assert "| l2norm-overflow | 11 |" in capsys.readouterr().out
    monkeypatch.setattr("tools.bench.ill_table.row", lambda each, folder: replace(small(), equivalence=1.0))
    assert main(["--only", "l2norm-overflow", "--out", str(tmp_path / "table.md")]) == 1
    assert "FP32 function moved by 1.0e+00" in (tmp_path / "table.md").read_text()


def test_cost_is_that_of_the_process(tmp_path: Path) -> None:
    small_cost = bert_base.measured([sys.executable, "-c", "pass"], tmp_path)
    large = bert_base.measured([sys.executable, "-c", "x = bytearray(b'1') * (200 << 20)"], tmp_path)
    assert 180.0 < large.peak_mib - small_cost.peak_mib < 260.0
    with pytest.raises(Exception, match="exit status 3"):
        bert_base.measured([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def test_copies_of_the_graph_do_not_grow_with_what_is_ill() -> None:
    """Stretches aside: of a short chain, one with all that compares its tensors is as long as the chain."""
    few, many = (copies.repaired(nodes)[0].callers for nodes in (32, 96))
    stretches = {"trace.segments.run"}
    assert few["graph.lower.lower"] > 0
    assert {key: few[key] for key in few.keys() - stretches} == {key: many[key] for key in many.keys() - stretches}


def test_the_chain_of_the_copies_is_ill_and_mended() -> None:
    model = model_from_proto(copies.chain(32))
    samples = [{"x": np.random.default_rng(copies.SEED).standard_normal((4, copies.WIDTH)).astype(np.float32)}]
    assert {hazard.op for hazard in diagnose(model, measure(model, samples))} == {"Exp", "Add"}


def test_what_counts_copies_leaves_no_trace() -> None:
    before = [vars(module)["copied"] for module in (held, splice)]
    with copies.counted(1) as found:
        model_from_proto(copies.chain(8)).copy()
    assert found.callers == {"tests.test_bench.test_what_counts_copies_leaves_no_trace": 1}
    assert [vars(module)["copied"] for module in (held, splice)] == before


def test_a_healthy_model_is_opened_and_run_as_often_as_the_bench_says() -> None:
    """Counts, which no machine makes slower: of a chain that is right in FP16 as it is, with four samples."""
    found = speed.line(SPEEDY["samples-4"], None)
    assert found.nodes == 64
    assert found.total("sessions") <= 16
    assert found.total("passes") <= 72
    assert found.floor_s > 0.0
    told = speed.note([found], "speed.svg")
    assert "| samples-4 | 64 |" in told
    assert "![CPU-seconds by stage](speed.svg)" in told
    picture = drawn({found.subject.name: {stage: spent["cpu_s"] for stage, spent in found.stages.items()}})
    assert "<svg" in picture
