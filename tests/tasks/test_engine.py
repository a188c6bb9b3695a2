"""Between a proven graph and the facts of its engine, with TensorRT-RTX where it is installed and stand-ins where a GPU would be needed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.engines import BuildOptions, Built, Proof
from fp16fix.engines import compile as compile_
from fp16fix.engines.backend import RTX, BackendStatus, Flavour
from fp16fix.engines.compiled import CompiledNode
from fp16fix.engines.story import BuildStoppedError, stopped
from fp16fix.errors import BackendError, BackendMissingError, ConfigError
from fp16fix.graph.load import load
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.report.outcome import Corner, Outcome
from fp16fix.search.draft import design
from fp16fix.tasks import build, diagnose, engine, prepare
from fp16fix.tasks import repair as pipeline
from fp16fix.verdict.verdict import Verdict
from tests.engines import tiny
from tests.models import filled, model, normal, proto

needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")

PLAIN = "g (float[4,8] x) => (float[4,8] y) { [exp] e = Exp (x) [out] y = Neg (e) }"
ATTENTION = "g (float[1,4,8,16] x) => (float[1,4,8,16] y) { [attn] y = Attention (x, x, x) }"
DYNAMIC = 'g (float["B",4] x) => (float["B",4] y) { y = Relu (x) }'


def settings(folder: Path, text: str, opset: int = 17, **keys: Any) -> Config:
    onnx.save(proto(text, opset), folder / "model.onnx")
    base = {"model": str(folder / "model.onnx"), "output": str(folder / "out.plan"), "threads": 2, "made": 2, "simplify": False}
    return merged(Config(), base | keys)


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("analysis must not begin")


@pytest.fixture
def no_analysis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare, "gather", never)


@pytest.mark.usefixtures("no_analysis")
class TestBeforeAnyAnalysis:
    def test_a_missing_backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Flavour, "importable", lambda self: False)
        with pytest.raises(BackendMissingError, match="no TensorRT flavour is installed"):
            pipeline.repair(settings(tmp_path, PLAIN))

    def test_a_backend_that_does_not_start(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        broken = BackendStatus("rtx", True, "1.7", False, "no driver", "reinstall", "")
        monkeypatch.setattr(compile_, "choose", lambda _: type("Broken", (), {"status": lambda _: broken})())
        with pytest.raises(BackendError, match="backend 'rtx' does not start here: no driver") as caught:
            pipeline.repair(settings(tmp_path, PLAIN))
        assert caught.value.exit_code == 3

    @needs_rtx
    def test_a_target_that_the_flavour_does_not_serve(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no target sm90"):
            pipeline.repair(merged(settings(tmp_path, PLAIN), {"build.targets": ("sm90",)}))

    @needs_rtx
    def test_a_plugin_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match=r"plugin library .*lost\.so' does not exist"):
            pipeline.repair(merged(settings(tmp_path, PLAIN), {"build.plugins": (str(tmp_path / "lost.so"),)}))

    @needs_rtx
    def test_an_operator_that_the_parser_does_not_take(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError, match=r"node 'det' \(Det\)"):
            pipeline.repair(settings(tmp_path, "g (float[4,4] x) => (float y) { e = Exp (x) [det] y = Det (e) }"))

    @needs_rtx
    def test_a_dynamic_input_without_a_profile(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="no optimisation profile"):
            pipeline.repair(settings(tmp_path, DYNAMIC))

    def test_a_graph_alone_needs_no_profile_and_no_backend(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(prepare, "ready", never)
        with pytest.raises(AssertionError, match="analysis must not begin"):  # it goes straight on to it
            pipeline.repair(settings(tmp_path, DYNAMIC, output=str(tmp_path / "out.onnx")))


def test_build_refuses_a_dynamic_graph_before_the_backend_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_, "build_plan", never)
    with pytest.raises(ConfigError, match="no optimisation profile"):
        build.build_plan(tiny.write(tmp_path, tiny.DYNAMIC), tmp_path / "x.plan", Config())


def test_progress_never_falls_and_never_passes_the_end() -> None:
    ticks: list[None] = []
    meter = compile_.Meter(lambda: ticks.append(None))
    seen = []
    for stage, done in (("load", 0), ("parse", 1), ("build", 0.5), ("build", 0.4), ("build", 1), ("write", 1), ("prove", 1), ("parse", 1)):
        meter(stage, done)
        seen.append(len(ticks))
    assert seen == sorted(seen)
    assert seen[2] == 53
    assert seen[-1] == compile_.PERCENT


class Impatient(Silent):
    """Presses Ctrl-C once the build moves."""

    def __init__(self) -> None:
        self.building = False
        self.ticks = 0

    def begin(self, stage: str, total: int | None) -> None:
        self.building = stage == "build engine" and total == compile_.PERCENT

    def tick(self) -> None:
        self.ticks += self.building
        if self.ticks > 12:
            raise KeyboardInterrupt


@needs_rtx
def test_ctrl_c_while_building_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        build.build_plan(tiny.convolutions(tmp_path), tmp_path / "x.plan", Config(), Impatient())
    assert [path.name for path in tmp_path.iterdir()] == ["convolutions.onnx"]


@needs_rtx
def test_sigint_ends_the_command_with_130_and_nothing_left(tmp_path: Path) -> None:
    model = tiny.convolutions(tmp_path, layers=60)
    command = [sys.executable, "-m", "fp16fix", "build", str(model), "-o", str(tmp_path / "x.plan")]
    # A shell's background job ignores SIGINT and hands that on.
    running = subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no threads here
    )
    for _ in range(400):
        if any(path.name.endswith(".tmp") for path in tmp_path.iterdir()) or running.poll() is not None or children(running.pid):
            break
        time.sleep(0.05)
    os.kill(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=30)
    assert running.returncode == 130
    assert "interrupted; nothing was written" in said
    assert [path.name for path in tmp_path.iterdir()] == ["convolutions.onnx"]


def children(pid: int) -> list[str]:
    """Processes it has started, where the system tells."""
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


@needs_rtx
class TestAttention:
    def test_it_is_written_out_before_it_is_built(self, tmp_path: Path) -> None:
        outcome = pipeline.repair(settings(tmp_path, ATTENTION, 23))
        assert outcome.verified
        assert [edit.by for edit in outcome.recipe.rewrites] == ["decompose-attention"]
        assert outcome.engine.warnings == ()

    def test_kept_by_the_user_it_ends_the_builder_and_is_written_out_then(self, tmp_path: Path) -> None:
        outcome = pipeline.repair(settings(tmp_path, ATTENTION, 23, allow=("attn",)))
        assert outcome.verified
        assert outcome.engine.plan_bytes > 0
        assert [edit.by for edit in outcome.recipe.rewrites] == ["decompose-attention"]
        (said,) = outcome.engine.warnings
        assert "SIGSEGV" in said
        assert "repeated with attn rewritten (decompose-attention)" in said
        graph = load(tmp_path / "out.fp16.onnx", simplified=False, widened=False)
        assert "Attention" not in {node.op for node in graph.nodes()}

    def test_building_it_as_it_is_names_it(self, tmp_path: Path) -> None:
        with pytest.raises(BuildStoppedError) as caught:
            build.build_plan(tiny.write(tmp_path, tiny.SELF_ATTENTION), tmp_path / "x.plan", Config())
        assert (caught.value.reason, caught.value.nodes, caught.value.exit_code) == ("crash", ("attn",), 3)
        assert not (tmp_path / "x.plan").exists()


def built(folder: Path, **changes: Any) -> Built:
    plan = folder / "out.plan"
    plan.write_bytes(b"plan")
    made = Built(plan, 4, "rtx", "1.7", ("sm89",), 0.1, 0.2, 10, ("the builder warns",), Proof((), 3, 0))
    return replace(made, **changes)


Calls = list[tuple[Path, BuildOptions]]


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Every build asked for; all of them succeed and write a plan."""
    calls: Calls = []

    def build(source: Path, target: Path, options: BuildOptions, _progress: Callable[[str, float], None]) -> Built:
        calls.append((source, options))
        assert source.is_file()
        target.write_bytes(b"plan")
        return built(target.parent, plan=target, backend="rtx", targets=())

    monkeypatch.setattr(compile_, "build_plan", build)
    return calls


def backend(name: str) -> Callable[[BuildOptions], Any]:
    status = BackendStatus(name, True, "10.3", True, "", "", "")
    chosen = type("Backend", (), {"name": name, "status": lambda _: status})()
    return lambda _: chosen


def test_what_the_builder_warns_of_reaches_the_outcome(tmp_path: Path, builds: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_, "choose", backend("rtx"))
    outcome = pipeline.repair(settings(tmp_path, PLAIN))
    assert outcome.engine.warnings == ("the builder warns",)
    assert (tmp_path / "out.plan").read_bytes() == b"plan"
    assert len(builds) == 1


def test_weak_typing_is_handed_the_fp32_graph_and_pins(tmp_path: Path, builds: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compile_, "choose", backend("weak"))
    seen: dict[str, set[str]] = {}
    inner: Callable[..., Built] = vars(compile_)["build_plan"]

    def look(source: Path, *rest: Any) -> Built:
        graph = load(source, simplified=False, widened=False)
        seen["types"] = {str(tensor.dtype) for tensor in graph.tensors().values()}
        return inner(source, *rest)

    monkeypatch.setattr(compile_, "build_plan", look)
    outcome = pipeline.repair(settings(tmp_path, PLAIN, pin=("exp",)))
    assert outcome.verified
    assert seen["types"] == {"float32"}
    assert builds[0][1].pins == (("exp", "fp32"),)


@pytest.mark.parametrize(("name", "io"), [("strong", "fp32"), ("weak", "fp16")])
def test_otherwise_the_graph_carries_the_types(tmp_path: Path, builds: Calls, monkeypatch: pytest.MonkeyPatch, name: str, io: str) -> None:
    monkeypatch.setattr(compile_, "choose", backend(name))
    assert pipeline.repair(settings(tmp_path, PLAIN, pin=("exp",), io=io)).verified
    assert builds[0][1].pins == ()


def test_a_failing_corner_fails_the_engine_whatever_the_mean_says(tmp_path: Path) -> None:
    bad = Corner(1, "max", {"x": (8,)}, 1, Verdict(False, "strict", "engine", (), 1, ("y: 12.0 dB, wanted 50 dB",)))
    facts = engine.facts_of(
        built(tmp_path), model("g (float[4] x) => (float[4] y) { y = Neg (x) }"), Recipe(), (replace(bad, verdict=None), bad)
    )
    assert facts.problems == ("profile 1 at its max shapes: y: 12.0 dB, wanted 50 dB",)


def test_only_attention_named_by_an_ended_build_is_rewritten(tmp_path: Path) -> None:
    def asked(reason: str, *nodes: str) -> int:
        error = stopped("died", "x.onnx", "", reason, "build", nodes)
        return len(engine.ways_around(draft, error, 2.0))

    given = settings(tmp_path, ATTENTION, 23, allow=("attn",), output=str(tmp_path / "x.onnx"))
    found = diagnose.diagnose(given)
    draft = design(found, Stages(Silent()))
    assert asked("crash", "attn") == asked("refused", "attn") == 1
    assert asked("timeout", "attn") == asked("crash", "other") == asked("crash") == 0


@needs_rtx
class TestCompiled:
    """Repairs whose plans are not what a parsed network says; the plan is read each time."""

    def repaired(self, folder: Path, graph: Model, samples: list[dict[str, np.ndarray]], **keys: Any) -> Outcome:
        save_model(graph, folder / "model.onnx")
        (folder / "in").mkdir()
        for index, sample in enumerate(samples):
            np.savez(folder / "in" / f"{index}.npz", **sample)  # type: ignore[arg-type]
        base = {"model": str(folder / "model.onnx"), "inputs": str(folder / "in"), "output": str(folder / "out.plan"), "jitter": 1}
        outcome = pipeline.repair(merged(Config(), base | keys))
        assert outcome.engine.compiled is not None
        assert outcome.engine.compiled.source == "plan"
        return outcome

    def told(self, outcome: Outcome, node: str) -> CompiledNode:
        assert outcome.engine.compiled is not None
        return next(each for each in outcome.engine.compiled.nodes if each.node == node)

    def test_weights_that_are_the_reason_for_a_pin_stay_fp32(self, tmp_path: Path) -> None:
        text = """g (float[8,64] x, float[64,32] w, float[32] s, float[32] b) => (float[8,32] y) {
            a = Sign (x) [product] p = MatMul (a, w) y = LayerNormalization <axis = -1> (p, s, b) }"""
        weights = {"w": 30 + normal(64, 32) * np.float32(0.02), "s": np.ones(32, np.float32), "b": np.zeros(32, np.float32)}
        signs = [np.stack([np.random.default_rng(8 * n + i).permutation(np.repeat(np.array([-1, 1], np.float32), 32)) for i in range(8)]) for n in range(4)]  # fmt: skip
        outcome = self.repaired(tmp_path, filled(text, weights), [{"x": each} for each in signs], max_fp32_share=1.0)
        assert outcome.verified
        assert (self.told(outcome, "product").computed, self.told(outcome, "product").narrowed) == ("fp32", False)
        assert outcome.engine.tf32 is False, "11 bits are too few"

    def test_a_product_in_front_of_a_sine_is_built_without_tf32(self, tmp_path: Path) -> None:
        text = "g (float[16,64] x, float[64,32] w, float[32,8] v) => (float[16,8] y) { [argument] a = MatMul (x, w) [sin] b = Sin (a) y = MatMul (b, v) }"
        graph = filled(text, {"w": normal(64, 32, scale=3.0), "v": normal(32, 8, seed=1)})
        samples = [{"x": normal(16, 64, scale=40.0, seed=seed)} for seed in range(4)]
        outcome = self.repaired(tmp_path, graph, samples, max_fp32_share=1.0)
        assert outcome.verified
        assert outcome.engine.compiled is not None
        assert outcome.engine.compiled.tf32_products == ("argument",)
        assert outcome.engine.tf32 is False

    def test_a_softmax_over_66000_keys_keeps_its_sum_in_fp32(self, tmp_path: Path) -> None:
        text = """g (float[1,1,2,8] q, float[1,1,8,66000] k, float[1,1,66000,4] v) => (float[1,1,2,4] y) {
            a = MatMul (q, k) [softmax] b = Softmax <axis = -1> (a) y = MatMul (b, v) }"""
        samples = [
            {"q": normal(1, 1, 2, 8, scale=0.02, seed=n), "k": normal(1, 1, 8, 66000, scale=0.02), "v": normal(1, 1, 66000, 4)}
            for n in range(2)
        ]
        outcome = self.repaired(tmp_path, model(text), samples)
        assert outcome.verified
        assert outcome.recipe.wide == {"softmax": "fp32"}
        assert self.told(outcome, "softmax").computed == "fp32"

    def test_a_pin_that_the_compiler_took_back_fails_the_outcome(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fp16fix.graph.lower.guard", lambda _: None)
        monkeypatch.setattr("fp16fix.strict.profiles.compiled.narrow", lambda _: None)
        text = "g (float[8,64] x, float[64,32] w) => (float[8,32] y) { a = Relu (x) [product] p = MatMul (a, w) y = Sigmoid (p) }"
        samples = [{"x": normal(8, 64, seed=seed)} for seed in range(2)]
        outcome = self.repaired(tmp_path, filled(text, {"w": normal(64, 32)}), samples, pin=("product",), max_fp32_share=1.0)
        assert outcome.verdict.verified
        assert not outcome.verified
        assert any(problem.startswith("NARROWED: MatMul 'product'") for problem in outcome.engine.problems)
