from __future__ import annotations

import sys
import time
from pathlib import Path

import onnx
import pytest

from fp16fix.errors import BackendError, ConfigError
from fp16fix.graph.load import model_from_proto
from fp16fix.graph.model import Model
from fp16fix.oracles.command import check
from fp16fix.oracles.oracle import Score
from fp16fix.passes.apply import apply
from fp16fix.search.judge import Judge
from fp16fix.search.shrink import shrink
from tests.recipes import pins as pinned

TEXT = """<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y)
{ a = Abs (x) b = Neg (a) c = Sqrt (a) y = Add (b, c) }"""


@pytest.fixture
def model() -> Model:
    return model_from_proto(onnx.parser.parse_model(TEXT))


def asked(model: Model, command: str, *, pins: tuple[str, ...] = (), timeout_s: float | None = None) -> Score:
    oracle = check(command, lambda recipe: apply(model, recipe), timeout_s=timeout_s)
    return oracle.ask(pinned(*pins))


def python(code: str) -> str:
    return f'{sys.executable} -c "{code}" {{model}}'


@pytest.mark.parametrize(("code", "good"), [(0, True), (1, False), (127, False), (125, None)])
def test_exit_codes_mean_what_git_bisect_run_says(model: Model, code: int, good: bool | None) -> None:
    score = asked(model, python(f"import sys; print('said so'); sys.exit({code})"))
    assert score.good is good
    assert (score.why.endswith("said so") and str(code) in score.why) or good


DEATHS = [("import os; os._exit(200)", "exits 200"), ("import os; os.kill(os.getpid(), 11)", "signal 11")]


@pytest.mark.parametrize(("action", "words"), DEATHS)
def test_above_127_and_signals_stop_the_search(model: Model, action: str, words: str) -> None:
    with pytest.raises(BackendError, match=words):
        asked(model, python(action))


def test_time_out_ends_the_command_and_its_children(model: Model, tmp_path: Path) -> None:
    late = tmp_path / "late"
    script = tmp_path / "hang.sh"
    script.write_text(f"#!/bin/sh\n(sleep 1.5; touch {late}) &\nsleep 60\n")
    script.chmod(0o755)
    score = asked(model, f"{script} {{model}}", timeout_s=0.3)
    assert score.good is None
    assert "longer than 0.3 s" in score.why
    time.sleep(1.6)
    assert not late.exists()


def test_model_is_the_typed_candidate_and_is_removed_afterwards(model: Model, tmp_path: Path) -> None:
    kept, said = tmp_path / "copy.onnx", tmp_path / "path"
    code = f"import shutil, sys; shutil.copy(sys.argv[1], '{kept}'); open('{said}', 'w').write(sys.argv[1])"
    assert asked(model, python(code), pins=("Sqrt_c",)).good
    proto = onnx.load(kept)
    onnx.checker.check_model(proto, full_check=True)
    types = {value.name: value.type.tensor_type.elem_type for value in proto.graph.value_info}
    assert (types["c"], types["a"]) == (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    assert not Path(said.read_text()).exists()


def test_no_shell_is_involved(model: Model, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    code = "import sys; sys.exit(0 if sys.argv[2:] == ['a b', ';', 'touch', sys.argv[5]] else 3)"
    assert asked(model, f'{sys.executable} -c "{code}" {{model}} "a b" ; touch {mark}').good
    assert not mark.exists()


def test_bad_commands_are_errors(model: Model, tmp_path: Path) -> None:
    for command, words in (("'", "split"), ("", "empty"), ("python eval.py", "where the model's path goes")):
        with pytest.raises(ConfigError, match=words):
            asked(model, command)
    with pytest.raises(BackendError, match="no program '/no/such/program'"):
        asked(model, "/no/such/program {model}")
    (tmp_path / "tool").write_bytes(b"\x7fnothing")
    (tmp_path / "tool").chmod(0o755)
    with pytest.raises(BackendError, match="cannot be started"):
        asked(model, f"{tmp_path / 'tool'} {{model}}")


def test_any_black_box_can_be_bisected(model: Model) -> None:
    """A device that only the command knows: it fails unless two named nodes are FP32."""
    code = (
        "import onnx, sys; g = onnx.load(sys.argv[1]).graph; "
        "wide = {v.name for v in g.value_info if v.type.tensor_type.elem_type == 1}; sys.exit(not {'a', 'c'} <= wide)"
    )
    oracle = check(python(code), lambda recipe: apply(model, recipe))
    judge, kept = Judge(oracle.ask), frozenset[str]()
    for kept in shrink([node.name for node in model.graph.nodes], lambda names: judge.good(pinned(*names))):  # noqa: B007
        pass
    assert kept == {"Abs_a", "Sqrt_c"}
