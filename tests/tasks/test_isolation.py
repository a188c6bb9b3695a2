"""Nothing kills a result: rules that fail refuse, edits that change FP32 are dropped, what only informs may fail, aborts are survived."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

from fp16fix.cli import run
from fp16fix.config import Config
from fp16fix.console import show
from fp16fix.errors import InputError, ModelError, OwnFaultError
from fp16fix.graph import safe
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.passes import design
from fp16fix.passes.blame import blaming
from fp16fix.passes.recipe import Edit, Promise, Refusal
from fp16fix.passes.rewrite import rules as rules_of
from fp16fix.passes.rewrite.rule import Findings
from fp16fix.passes.rewrite.rules.layernorm import WrittenLayerNorm
from fp16fix.report import delivery
from fp16fix.report.outcome import Outcome
from fp16fix.report.outcome import load as outcome_of
from fp16fix.tasks.repair import repair
from tests.models import model, normal, proto

NORM = """g (float[4,64] x) => (float[4,64] y) <float two = {2}, float eps = {0.00001}> { u = ReduceMean <axes = [1]> (x) d = Sub (x, u)
    p = Pow (d, two) m = ReduceMean <axes = [1]> (p) v = Add (m, eps) s = Sqrt (v) y = Div (d, s) }"""


def repaired(folder: Path, text: str = NORM, scale: float = 3000.0, **keys: Any) -> Outcome:
    onnx.save(proto(text), folder / "model.onnx")
    (folder / "samples").mkdir(exist_ok=True)
    for seed in range(4):
        np.savez(folder / "samples" / f"{seed}.npz", x=normal(4, 64, scale=scale, seed=seed))
    return repair(Config(model=folder / "model.onnx", inputs=str(folder / "samples"), output=folder / "fixed.onnx", **keys))


class Raising:
    """Fails while it looks."""

    name: ClassVar[str] = "raising"
    order: ClassVar[int] = 0
    promise: ClassVar[Promise] = Promise.EXACT
    fires: ClassVar[tuple[str, ...]] = ()
    declines: ClassVar[tuple[str, ...]] = ()

    def propose(self, evidence: Findings) -> Iterable[Edit | Refusal]:
        raise IndexError("tuple index out of range")

    def apply(self, model: Model, repair: Edit) -> None:
        raise AssertionError


class Wrong(Raising):
    """Doubles what a node makes: another function."""

    name: ClassVar[str] = "wrong"

    def propose(self, evidence: Findings) -> Iterable[Edit | Refusal]:
        return [Edit(self.name, "Div_y", self.promise, covers=("Div_y",))]

    def apply(self, model: Model, repair: Edit) -> None:
        node = model.node_map()[repair.node]
        node.inputs[0], node.inputs[1] = node.inputs[1], node.inputs[0]


class Broken(Wrong):
    """Fails half way through an edit."""

    name: ClassVar[str] = "broken"

    def apply(self, model: Model, repair: Edit) -> None:
        super().apply(model, repair)
        raise KeyError(repair.node)


@pytest.mark.parametrize(
    ("kind", "why"), [(Raising, "IndexError: tuple index"), (Wrong, "changes with it in FP32"), (Broken, "KeyError: 'Div_y'")]
)
def test_a_rule_that_fails_or_lies_is_a_refusal_that_names_it(
    kind: type[Raising], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = kind()
    monkeypatch.setattr(design, "rules", lambda: (made, WrittenLayerNorm()))
    monkeypatch.setattr("fp16fix.passes.apply.rule", lambda name: made if name == made.name else rules_of.rule(name))
    outcome = repaired(tmp_path)
    (refusal,) = [each for each in outcome.refusals if each.by == made.name]
    assert why in refusal.why
    assert outcome.verified
    assert [edit.by for edit in outcome.recipe.rewrites] == ["layernorm"], "the other rule goes on"


def test_what_only_informs_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("shadows are out")

    monkeypatch.setattr("fp16fix.report.informed.Shadows.of", fail)
    monkeypatch.setattr(delivery, "write_report", fail)
    outcome = repaired(tmp_path)
    assert outcome.verified
    assert (tmp_path / "fixed.onnx").exists()
    told = outcome_of(tmp_path / "fixed.outcome.json")
    assert any("Error along plain FP16 could not be measured (RuntimeError: shadows are out)" in said for said in told.warnings)
    assert sum("report could not be made" in said for said in told.warnings) == 1
    assert "report" not in told.files
    assert told.pessimistic.outputs, "what does not fail is told"


@pytest.mark.parametrize("error", [RuntimeError("no pictures"), MemoryError(), InputError("the disk is full", where="x")])
def test_whatever_becomes_of_what_informs_the_result_is_given(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("fp16fix.tasks.repair.inform", fail)
    outcome = repaired(tmp_path)
    assert outcome.verified
    assert outcome_of(tmp_path / "fixed.outcome.json").verified
    assert (tmp_path / "fixed.onnx").exists()
    assert any("What is told beside the verdict could not be" in said and type(error).__name__ in said for said in outcome.warnings)


@pytest.mark.parametrize("error", [RuntimeError("no shape"), MemoryError(), ModelError("does not run")])
def test_sums_that_cannot_be_examined_are_a_condition(error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("fp16fix.search.accumulation.certified", fail)
    outcome = repaired(tmp_path)
    assert outcome.verified
    (condition,) = outcome.conditions
    assert condition.why.startswith("sums in FP16 could not be examined: ")


def test_the_product_is_there_before_anything_informs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        assert (tmp_path / "fixed.onnx").exists()
        assert outcome_of(tmp_path / "fixed.outcome.json").verified
        raise KeyboardInterrupt

    monkeypatch.setattr("fp16fix.tasks.repair.inform", stop)
    with pytest.raises(KeyboardInterrupt):
        repaired(tmp_path)


def test_a_fast_repair_leaves_out_what_only_informs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = repaired(tmp_path)
    monkeypatch.setattr("fp16fix.tasks.repair.inform", None)
    fast = repaired(tmp_path, fast=True)
    assert fast.verdict == whole.verdict
    assert fast.recipe == whole.recipe
    assert not fast.before
    assert fast.pessimistic.reasons == ("it was left out (fast)",)
    assert "error along the graph" not in fast.stages
    assert fast.warnings == whole.warnings
    assert (tmp_path / "fixed.report.html").exists()
    show.outcome(fast, as_json=False)
    assert "  y: " in (told := capsys.readouterr().out)
    assert "?" not in told


def test_whose_fault_it_is() -> None:
    fp32 = model("g (float[N] x) => (float[N] y) <float[3] w = {1, 2, 3}> { y = Add (x, w) }")
    with pytest.raises(ModelError, match="fails on a sample"), blaming(fp32, [{"x": normal(5)}], 1):
        raise ModelError("proof0/y does not run")
    with pytest.raises(OwnFaultError, match="proof0/y"), blaming(fp32, [{"x": normal(3)}], 1):
        raise ModelError("proof0/y does not run")


ABORTS = """
import os, sys
from fp16fix import cli
from fp16fix.graph import safe
run = cli.run
def aborting():
    from fp16fix.tasks import repair as task
    real = task.settle_on
    def settle(*given):
        if not (safe.is_on() and {once}):
            os.abort()
        return real(*given)
    task.settle_on = settle
    run()
cli.run = aborting
from fp16fix.__main__ import main
sys.argv = ["fp16fix", "repair", "model.onnx", "-i", "samples", "-o", "again.onnx"]
main()
"""


@pytest.mark.parametrize("once", [True, False])
def test_an_abort_is_survived_once_in_safe_mode(once: bool, tmp_path: Path) -> None:
    repaired(tmp_path)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", ABORTS.format(once=once)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "a library ended the process (SIGABRT); once more in safe mode" in done.stderr
    assert done.returncode == (0 if once else 4)
    if once:
        told = outcome_of(tmp_path / "again.outcome.json")
        assert any("repeated once in safe mode" in said for said in told.warnings)
        assert not told.model.simplified
    else:
        assert "in safe mode too: please send the model" in done.stderr
        assert not (tmp_path / "again.onnx").exists()


def test_safe_mode_optimises_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from fp16fix.graph.session import options_for

    assert options_for(optimise=True).graph_optimization_level.name == "ORT_ENABLE_ALL"
    monkeypatch.setenv(safe.VARIABLE, "why")
    assert options_for(optimise=True).graph_optimization_level.name == "ORT_DISABLE_ALL"


def test_what_nobody_foresaw_is_our_fault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object, **__: object) -> None:
        raise IndexError("tuple index out of range")

    monkeypatch.setattr("fp16fix.engines.doctor.doctor", fail, raising=True)
    monkeypatch.setattr(sys, "argv", ["fp16fix", "doctor"])
    with pytest.raises(SystemExit) as stop:
        run()
    said = capsys.readouterr().err
    assert stop.value.code == 4
    assert "a fault of fp16fix itself: IndexError: tuple index out of range (test_isolation.py:" in said
    file = Path(said.split("please send ")[1].split(",")[0])
    assert "Traceback" in file.read_text(encoding="utf-8")
    file.unlink()


def test_fp16_weights_may_be_read_by_a_branch(tmp_path: Path) -> None:
    """ONNX Runtime's fusion of FP16 initializers refuses a graph in which a body reads one."""
    text = """g (float[2,256] x, bool c) => (float[2,256] y) {
        y = If (c) <then_branch = t () => (float[2,256] a) { a = MatMul (x, w) }, else_branch = e () => (float[2,256] b) { b = Neg (x) }> }"""
    made = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    made.graph.initializer.append(onnx.numpy_helper.from_array(normal(256, 256, scale=0.05), "w"))
    onnx.save(made, tmp_path / "model.onnx")
    (tmp_path / "samples").mkdir()
    for seed in range(4):
        np.savez(tmp_path / "samples" / f"{seed}.npz", x=normal(2, 256, seed=seed), c=np.array(seed % 2 == 0))
    outcome = repair(Config(model=tmp_path / "model.onnx", inputs=str(tmp_path / "samples"), output=tmp_path / "fixed.onnx"))
    assert outcome.verified
    assert outcome.counts.fp32_nodes == 0


def test_what_onnxsim_breaks_is_used_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(given: onnx.ModelProto) -> tuple[onnx.ModelProto, list[str]]:
        given.graph.node[0].op_type = "NoSuchOperator"
        return given, []

    monkeypatch.setattr("fp16fix.graph.load.simplify", broken)
    onnx.save(proto(NORM), tmp_path / "model.onnx")
    found = load(tmp_path / "model.onnx")
    assert any("what onnxsim made of it does not load" in note for note in found.notes)
    assert Session(found).run({"x": normal(4, 64)})["y"].shape == (4, 64)
