"""The API as someone at a prompt uses it: models and samples in memory or on disk, results in memory."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fp16fix
from fp16fix import Progress
from fp16fix.errors import ConfigError, InputError, ModelError, SampleError, UnverifiedError
from tests.models import normal, proto

ILL = """g (float[4,64] x) => (float[4,64] y) <float two = {2.0}, float eps = {0.00001}> {
    p = Pow (x, two) m = ReduceMean <axes = [1]> (p) v = Add (m, eps) s = Sqrt (v) y = Div (x, s)
}"""
TWO = "g (float[4,8] a, float[4,8] b) => (float[4,8] y) { y = Add (a, b) }"
FEW: dict[str, Any] = {"jitter": 1, "blends": 2, "threads": 1}


def arrays(count: int = 3) -> list[np.ndarray]:
    return [normal(4, 64, scale=3000.0, seed=seed) for seed in range(count)]


def yielding() -> Iterator[dict[str, np.ndarray]]:
    for each in arrays():
        yield {"x": each}


def test_a_proto_and_arrays_leave_nothing_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = proto(ILL)
    as_given = given.SerializeToString()
    outcome = fp16fix.repair(given, arrays(), **FEW)
    assert outcome.verified
    assert outcome.verdict.samples == 3
    assert outcome.before[0].sqnr_db < 20
    assert given.SerializeToString() == as_given
    assert list(tmp_path.iterdir()) == []
    assert outcome.files == {}
    onnx.checker.check_model(outcome.model, full_check=True)
    assert outcome.plan is None
    assert outcome.document.model.path == "ModelProto 'g'"
    assert outcome.document.samples.source == "inputs"
    assert "/fp16fix-" not in outcome.to_json()


def test_its_scratch_goes_with_the_outcome() -> None:
    outcome = fp16fix.repair(proto(ILL), arrays(), **FEW)
    assert outcome._scratch is not None
    folder = outcome._scratch.folder
    assert folder.is_dir()
    del outcome
    gc.collect()
    assert not folder.exists()


@pytest.mark.parametrize("given", [arrays(), yielding(), [{"x": each} for each in arrays()], [[each] for each in arrays()]])
def test_samples_come_in_many_forms_and_are_the_same(given: Any) -> None:
    found = fp16fix.diagnose(proto(ILL), given)
    assert {hazard.node for hazard in found.hazards} >= {"Pow_p"}
    assert found.ranges["x"].absmax == float(np.abs(arrays()[0]).max()), "of three, the first calibrates"


def test_a_tuple_is_one_sample_of_several_inputs() -> None:
    found = fp16fix.diagnose(proto(TWO), (normal(4, 8), normal(4, 8, scale=7.0)))
    assert found.ranges["b"].absmax > found.ranges["a"].absmax
    assert any("one sample" in line for line in found.warnings)


def test_what_was_asked_for_on_disk_is_told_by_its_own_names(tmp_path: Path) -> None:
    outcome = fp16fix.repair(proto(ILL), arrays(), tmp_path / "fixed.onnx", **FEW)
    assert outcome.files["onnx"] == tmp_path / "fixed.onnx"
    assert outcome.model == onnx.load(tmp_path / "fixed.onnx")
    for kind in ("outcome", "report"):
        assert "/fp16fix-" not in outcome.files[kind].read_text()
    with pytest.raises(ModelError, match="no such file"):
        fp16fix.replay(outcome, tmp_path / "again.onnx")
    onnx.save(proto(ILL), tmp_path / "model.onnx")
    fp16fix.replay(outcome, tmp_path / "again.onnx", tmp_path / "model.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (tmp_path / "fixed.onnx").read_bytes()


def test_what_is_not_verified_is_not_handed_out() -> None:
    options: dict[str, Any] = {**FEW, "tolerance": {"sqnr_db": 140}, "io": "fp16"}
    outcome = fp16fix.repair(proto(ILL), arrays(), **options)
    assert not outcome.verified
    with pytest.raises(UnverifiedError, match="no onnx"):
        _ = outcome.model
    assert len(fp16fix.repair(proto(ILL), arrays(), keep_unverified=True, **options).model.graph.node)


def test_verify_takes_protos() -> None:
    outcome = fp16fix.repair(proto(ILL), arrays(), **FEW)
    assert fp16fix.verify(proto(ILL), outcome.model, arrays(), **FEW).verified


def test_locate_tells_of_what_was_given() -> None:
    found = fp16fix.locate(proto(ILL), arrays(), threads=1)
    assert found.culprits[0].node == "Pow_p"
    assert (found.model.path, found.samples.source) == ("ModelProto 'g'", "inputs")


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"headrom": 2}, r"keywords: headrom: unknown key; did you mean 'headroom'\?"),
        ({"sqnr_db": 60}, r"did you mean 'tolerance.sqnr_db'\?"),
        ({"headroom": "two"}, r"keywords: headroom: expected a number, found 'two'"),
        ({"tolerance": {"sqnr": 60}}, r"tolerance.sqnr: unknown key; did you mean 'tolerance.sqnr_db'\?"),
        ({"config": {"buidl": {}}}, r"config: buidl: unknown key; did you mean 'build'\?"),
        ({"json": True}, "json: is for the command line"),
    ],
)
def test_a_keyword_that_means_nothing_says_what_was_meant(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        fp16fix.repair(proto(ILL), **options)


@pytest.mark.parametrize(
    ("model", "inputs", "error", "says"),
    [
        (3, None, ModelError, "expected a model, found int"),
        (None, None, ConfigError, "no model given"),
        (None, [1.0], InputError, "need a model"),
        (proto(ILL), 3, SampleError, "expected samples, found int"),
        (proto(ILL), [], SampleError, "yield no sample"),
        (proto(ILL), ["text"], SampleError, r"inputs, sample 0, input 'x': expected shape \[4, 64\], found \[\]"),
        (proto(ILL), [(normal(4, 64), np.ones(4))], SampleError, "holds 2 arrays, the model takes 1 .*\n.*leave labels out"),
        (
            proto(ILL),
            [normal(4, 64), normal(4, 63)],
            SampleError,
            r"inputs, sample 1, input 'x': expected shape \[4, 64\], found \[4, 63\]",
        ),
        (proto(ILL), {"z": normal(4, 64)}, SampleError, "inputs, sample 0: holds 'z', which the model does not take"),
        (proto(ILL), [{"x": object()}], SampleError, "no array of numbers"),
    ],
)
def test_what_does_not_fit_is_an_error_of_ours(model: Any, inputs: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        fp16fix.repair(model, inputs)


def test_what_a_loader_raises_passes() -> None:
    def broken() -> Iterator[np.ndarray]:
        yield normal(4, 64)
        raise ZeroDivisionError("in the loader")

    with pytest.raises(ZeroDivisionError, match="in the loader"):
        fp16fix.repair(proto(ILL), broken())


def test_a_callback_sees_every_stage_from_begin_to_end() -> None:
    seen: list[Progress] = []
    fp16fix.diagnose(proto(ILL), arrays(4), progress=seen.append)
    measure = [step for step in seen if step.stage == "measure ranges"]
    assert [step.done for step in measure] == [0, 1, 2, 2]
    assert [step.ended for step in measure] == [False, False, False, True]
    assert {step.total for step in measure} == {2}


def test_bars_are_drawn_on_request(capsys: pytest.CaptureFixture[str]) -> None:
    fp16fix.diagnose(proto(ILL), arrays(), progress=True)
    assert "measure ranges" in capsys.readouterr().err


def test_an_outcome_shows_itself(capsys: pytest.CaptureFixture[str]) -> None:
    outcome = fp16fix.repair(proto(ILL), arrays(), **FEW)
    assert repr(outcome).startswith("<Outcome VERIFIED on 3 samples, worst y ")
    outcome.show()
    assert "VERIFIED on 3 samples" in capsys.readouterr().out
    cell = outcome._repr_html_()
    assert cell.startswith("<iframe ")
    assert cell.count("<") == 2, "what is inside the frame is all in an attribute"
    edit = outcome.document.recipe.edits[0]
    assert all(part in cell for part in ("Signal to error", edit.by, edit.node, "class=&#34;column&#34;"))
    assert "<script" not in cell


def test_keywords_are_the_keys_of_the_yaml() -> None:
    from fp16fix.api.options import ARGUMENTS
    from fp16fix.config import Config

    keys = {field.alias or name for name, field in Config.model_fields.items()}
    assert set(fp16fix.Options.__annotations__) == keys - {*ARGUMENTS, "json"}
