"""``--precision bf16`` from a file and samples to graph, plan, page and replay; what it refuses, and what it says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from fp16fix.config import Config, merged
from fp16fix.engines import compile as compile_
from fp16fix.engines.backend import RTX, BackendStatus
from fp16fix.errors import ConfigError
from fp16fix.graph.load import load
from fp16fix.graph.save import save_model
from fp16fix.half import BF16, Base
from fp16fix.passes.recipe import Recipe
from fp16fix.report import outcome as documents
from fp16fix.report.html import render
from fp16fix.report.outcome import Outcome
from fp16fix.report.replay import pins_for
from fp16fix.tasks.diagnose import bounded, diagnose
from fp16fix.tasks.locate import locate
from fp16fix.tasks.preview import preview
from fp16fix.tasks.repair import repair
from fp16fix.tasks.replay import replay
from fp16fix.tasks.verify import verify
from tests.ill.case import case
from tests.models import normal, proto

needs_rtx = pytest.mark.skipif(not RTX.importable(), reason="TensorRT-RTX is not installed")
NET = "g (float[4,32] x, float[32,32] w, float[32,8] v) => (float[4,8] y) { [in] h = MatMul (x, w) [act] r = Relu (h) [out] y = MatMul (r, v) }"
Say = Callable[..., Config]


@pytest.fixture
def say(tmp_path: Path) -> Say:
    """A config for a network whose every activation is past a million, and its samples."""
    parsed = proto(NET, 17)
    weights = {"w": normal(32, 32), "v": normal(32, 8, seed=1)}
    del parsed.graph.input[1:]
    parsed.graph.initializer.extend(numpy_helper.from_array(array, name) for name, array in weights.items())
    onnx.save(parsed, tmp_path / "m.onnx")
    (tmp_path / "in").mkdir()
    for k in range(4):
        np.savez(tmp_path / "in" / f"{k}.npz", x=normal(4, 32, scale=1e6, seed=k))

    def made(**keys: Any) -> Config:
        base = {"model": tmp_path / "m.onnx", "inputs": str(tmp_path / "in"), "output": tmp_path / "out.onnx", "precision": "bf16"}
        return merged(Config(), base | {"threads": 1} | keys)

    return made


def ill(name: str, folder: Path, **keys: Any) -> Outcome:
    """An ill model of the zoo, repaired with BF16 as the base."""
    subject = case(name)
    onnx.save(subject.build(), folder / "m.onnx")
    (folder / "in").mkdir()
    for k, sample in enumerate(subject.samples()):
        np.savez(folder / "in" / f"{k}.npz", **sample)  # type: ignore[arg-type]
    base = {"model": folder / "m.onnx", "inputs": str(folder / "in"), "output": folder / "out.onnx", "precision": "bf16", "threads": 1}
    return repair(merged(Config(), base | keys))


def test_what_overflows_everywhere_is_verified_with_nothing_but_types(say: Say) -> None:
    outcome = repair(say())
    assert outcome.verified
    assert (outcome.recipe.edits, outcome.recipe.base) == ((), Base.BF16)
    assert (outcome.counts.fp32_nodes, outcome.counts.bf16_nodes) == (0, 3)
    assert outcome.hazards == ()
    assert min(seen.absmax for seen in outcome.ranges) > 1e6
    assert 40.0 < outcome.before[0].sqnr_db == outcome.verdict.outputs[0].sqnr_db < 60.0
    graph = onnx.load(outcome.files["onnx"])
    assert {each.data_type for each in graph.graph.initializer} == {TensorProto.BFLOAT16}
    kept = [value.type.tensor_type.elem_type for value in (*graph.graph.input, *graph.graph.output)]
    assert kept == [TensorProto.FLOAT, TensorProto.FLOAT]
    assert repair(say(precision="fp16")).recipe.exponents, "FP16 needs powers of two for it"


def test_the_delivered_graph_computes_what_numpy_makes_of_its_own_weights(say: Say, tmp_path: Path) -> None:
    """No ONNX Runtime: the file's weights, ml_dtypes' rounding, NumPy's products."""
    outcome = repair(say())
    weights = {each.name: numpy_helper.to_array(each) for each in onnx.load(outcome.files["onnx"]).graph.initializer}
    (w, v) = (next(array for array in weights.values() if array.shape == shape) for shape in ((32, 32), (32, 8)))

    def b(values: np.ndarray) -> np.ndarray:
        return values.astype(np.float32).astype(ml_dtypes.bfloat16).astype(np.float64)

    noise = signal = 0.0
    for k in range(4):
        x = np.load(tmp_path / "in" / f"{k}.npz")["x"].astype(np.float64)
        exact = np.maximum(x @ normal(32, 32).astype(np.float64), 0) @ normal(32, 8, seed=1).astype(np.float64)
        found = b(np.maximum(b(b(x) @ w.astype(np.float64)), 0) @ v.astype(np.float64))
        assert np.isfinite(found).all()
        noise, signal = noise + float(np.square(found - exact).sum()), signal + float(np.square(exact).sum())
    assert 10 * np.log10(signal / noise) == pytest.approx(outcome.verdict.outputs[0].sqnr_db, abs=1.5)


def test_replay_gives_the_file_again_byte_for_byte(tmp_path: Path) -> None:
    outcome = ill("coordinates-yolo-decode", tmp_path)
    assert outcome.verified
    assert outcome.recipe.wide
    read = documents.load(Path(outcome.files["outcome"]))
    assert read.recipe == outcome.recipe
    assert replay(read, tmp_path / "again.onnx").read_bytes() == Path(outcome.files["onnx"]).read_bytes()
    assert Recipe().digest != Recipe(base=Base.BF16).digest


@pytest.mark.parametrize(
    ("name", "kind"),
    [("coordinates-cumsum-positions", "swamp"), ("coordinates-yolo-decode", "cancel"), ("angles-rope-long", "coarse")],
)
def test_positions_and_cancellation_get_fp32_islands(name: str, kind: str, tmp_path: Path) -> None:
    outcome = ill(name, tmp_path)
    assert outcome.verified, outcome.verdict.reasons
    assert set(outcome.recipe.wide.values()) == {"fp32"}
    assert outcome.counts.fp32_nodes > 0
    assert any(each.end == "pinned" and each.hazard.kind.value == kind for each in outcome.hazards)
    assert all("BF16" in each.hazard.why or "position" in each.hazard.why or "CumSum" in each.hazard.why for each in outcome.hazards)


def test_a_mask_of_fp32s_lowest_number_is_answered(tmp_path: Path) -> None:
    outcome = ill("mask-finfo-min-where", tmp_path)
    assert outcome.verified
    assert {edit.by for edit in outcome.recipe.edits} == {"mask-literal"}


def test_what_only_too_much_fp32_would_mend_is_not_verified(tmp_path: Path) -> None:
    outcome = ill("subgraph-scan-power", tmp_path)
    assert not outcome.verified
    assert outcome.verdict.reasons[-1].endswith("more than max_fp32_share allows (50%): that is no BF16 engine")
    assert "onnx" not in outcome.files


def test_the_default_bound_is_bf16s_own_and_one_that_is_given_wins(say: Say) -> None:
    outcome = repair(say())
    assert [each.sqnr_db for each in outcome.asked] == [32.0]
    (told,) = [each for each in outcome.warnings if "32 dB" in each]
    assert told.startswith("Outputs are held to 32 dB, the default where the base is BF16: it rounds 8 times as coarsely as FP16.")
    assert verify(say(), outcome.files["onnx"]).verified
    assert not verify(say(precision="fp16"), outcome.files["onnx"]).verified, "the same graph, held to 50 dB"
    strict = repair(say(**{"tolerance.sqnr_db": 60.0}))
    assert [each.sqnr_db for each in strict.asked] == [60.0]
    assert not any("dB, the default" in each for each in strict.warnings)
    assert not strict.verified or strict.counts.fp32_nodes > 0


def test_every_surface_says_bf16(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    from fp16fix.console import show

    outcome = repair(say())
    show.outcome(outcome, as_json=False)
    said = capsys.readouterr().out
    assert "by strict BF16 emulation" in said
    words = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]+>", " ", render(outcome), flags=re.DOTALL)
    for text in (said, words):
        assert [each for each in re.findall(r"[^.\n]*FP16[^.\n]*", text) if "as coarsely as FP16" not in each] == []
    assert "65504" not in words
    assert "3.3895e+38" in words
    assert "BF16 products add in FP32" in " ".join(words.split())
    assert outcome.conditions == ()
    assert outcome.accumulate is None


def test_what_exponents_and_range_rewrites_would_do_is_off_and_said_once(tmp_path: Path) -> None:
    outcome = ill("residual-t5-ffn", tmp_path, **{"tolerance.sqnr_db": 45.0})
    assert outcome.recipe.exponents == {}
    assert [each.why for each in outcome.refusals if each.by == "rescale"] == [
        "BF16 has FP32's range: exponents, and the rewrites that mend a range, have nothing to do"
    ]


def test_the_interface_may_be_bf16(say: Say) -> None:
    outcome = repair(say(io="bf16"))
    assert outcome.verified
    graph = onnx.load(outcome.files["onnx"]).graph
    assert {value.type.tensor_type.elem_type for value in (*graph.input, *graph.output)} == {TensorProto.BFLOAT16}
    assert outcome.counts.casts == 0


def test_files_are_named_after_the_base(say: Say, tmp_path: Path) -> None:
    assert repair(say(output=None)).files["onnx"] == str(tmp_path / "m.bf16.onnx")
    assert preview(say()).plain.good


def test_diagnosis_is_of_bf16(say: Say) -> None:
    assert diagnose(say()).hazards == ()
    assert {hazard.kind.value for hazard in diagnose(say(precision="fp16")).hazards} == {"overflow"}


@needs_rtx
def test_a_plan_is_built_and_its_proof_is_read(tmp_path: Path) -> None:
    outcome = ill("coordinates-yolo-decode", tmp_path, output=tmp_path / "out.plan", **{"build.targets": ["sm89"], "build.compare": True})
    assert outcome.verified
    engine = outcome.engine
    assert (engine.fp16_layers, engine.problems) == (0, ())
    assert engine.bf16_layers > 0 < engine.fp32_layers
    assert Path(outcome.files["onnx"]).name == "out.bf16.onnx"
    assert engine.compiled is not None
    told = {each.node: each for each in engine.compiled.nodes}
    assert told["/model.24/Sub_1"].computed == "fp32"
    assert {each.asked for each in told.values()} == {"bf16", "fp32"}
    assert engine.compiled.narrowed == ()
    assert {"bf16", "fp32"} == engine.compiled.crossing.keys()
    assert [cost.engine for cost in engine.costs] == ["repaired", "all-BF16", "FP32"]


@needs_rtx
def test_an_engine_without_a_bf16_layer_is_found_out(say: Say, tmp_path: Path) -> None:
    from fp16fix.engines import BuildOptions, check, check_pins

    save_model(load(tmp_path / "m.onnx"), tmp_path / "fp32.onnx")
    proof = check(tmp_path / "fp32.onnx", BuildOptions(targets=("sm89",))).proof
    (problem,) = check_pins(proof, {}, [each.node for each in proof.nodes], BF16)
    assert "meant to run in BF16 and no layer of the engine does" in problem


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"wide": "bf16"}, "wide: bf16 makes no island where precision is bf16 already"),
        ({"io": "fp16"}, "io: fp16 needs precision: fp16; with precision: bf16 it is fp32 or bf16"),
        ({"precision": "fp16", "io": "bf16"}, "io: bf16 needs precision: bf16"),
        ({"build.targets": ["sm89", "sm75"]}, "precision: bf16 needs sm80 or newer, and build.targets has sm75"),
        ({"precision": "fp8"}, "precision: expected 'fp16' or 'bf16', found 'fp8'"),
    ],
)
def test_what_contradicts_the_base_is_refused_at_once(keys: dict[str, str], said: str, say: Say) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        say(**keys)


@pytest.mark.parametrize("profile", ["accumulate", "pessimistic"])
def test_profiles_of_fp16_kernels_are_refused(profile: str, say: Say, tmp_path: Path) -> None:
    for work in (lambda: repair(say(profile=profile)), lambda: verify(say(profile=profile), tmp_path / "m.onnx")):
        with pytest.raises(ConfigError, match=f"'{profile}' assumes what FP16 kernels may do; TensorRT adds BF16 products in FP32"):
            work()


def test_commands_about_fp16_alone_say_so(say: Say) -> None:
    with pytest.raises(ConfigError, match="locate is about FP16 alone, and precision is bf16"):
        locate(say())
    with pytest.raises(ConfigError, match="a box is about FP16 alone"):
        bounded(say(box={"x": (0.0, 1.0)}))
    outcome = repair(say())
    with pytest.raises(ConfigError, match="pins of trtexec are for weak typing"):
        pins_for(outcome, "trtexec")


def test_weak_typing_is_refused_before_any_work(say: Say, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    works = BackendStatus("weak", True, "10.3", True, "", "", "")
    monkeypatch.setattr(compile_, "choose", lambda _: type("Weak", (), {"name": "weak", "status": lambda _: works})())
    with pytest.raises(ConfigError, match="weak typing makes FP16 of whatever is not pinned"):
        repair(say(output=tmp_path / "out.plan"))


def test_an_old_opset_that_the_user_insists_on_keeps_operators_in_fp32(say: Say, tmp_path: Path) -> None:
    text = "g (float[1,3,8,8] x, float[4,3,3,3] w) => (float[1,4,6,6] y) { [conv] c = Conv (x, w) [act] y = Relu (c) }"
    parsed = proto(text, 17)
    del parsed.graph.input[1:]
    parsed.graph.initializer.append(numpy_helper.from_array(normal(4, 3, 3, 3), "w"))
    onnx.save(parsed, tmp_path / "conv.onnx")
    raised = repair(say(model=tmp_path / "conv.onnx", inputs=None))
    assert (raised.model.opset, raised.counts.fp32_nodes) == (22, 0)
    assert "Raised from opset 17 to 22, where operators have BF16 forms." in raised.model.notes
    kept = repair(say(model=tmp_path / "conv.onnx", inputs=None, opset=17))
    assert (kept.model.opset, kept.counts.fp32_nodes) == (17, 1)
