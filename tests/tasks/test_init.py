"""``fp16fix init``: a YAML that loads, is right about the model, and by which the model is repaired; nothing is overwritten."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import load_config
from fp16fix.config.file import read_mapping
from fp16fix.config.published import FILE, shipped
from fp16fix.errors import ConfigError, ModelError
from fp16fix.report.scaffold import comment, scalar
from fp16fix.tasks.init import init
from tests.models import normal, proto

DEMO = Path(__file__).parent.parent / "demo"
FREE = 'g (float[batch,3,h,w] image, float["batch",2] size) => (float[batch,n] y) { f = Flatten (image)  y = Identity (f) }'
PAIR = "g (float[batch,4] x) => (float[batch,4] corners, float[batch,4] share, float[batch,4] far) <float big = {300}> { corners = Identity (x)  share = Sigmoid (x)  far = Mul (x, big) }"


def call(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "fp16fix", *words], cwd=cwd, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def detector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    shutil.copy(DEMO / "detector.onnx", folder)
    shutil.copytree(DEMO / "samples", folder / "samples")
    done = call("init", "detector.onnx", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_the_detector_is_repaired_by_what_was_written(detector: Path) -> None:
    found = load_config(detector / "fp16fix.yaml")
    assert found.inputs == str(detector / "samples")
    assert (found.tolerance.of("boxes").max_abs, found.tolerance.of("boxes").unit) == (0.25, "px")
    assert list(found.tolerance.outputs) == ["boxes"]
    (profile,) = found.build.profiles
    assert (profile["images"].min, profile["images"].max) == ((1, 3, 128, 128), (8, 3, 128, 128))
    done = call("repair", "--config", "fp16fix.yaml", cwd=detector)
    assert done.returncode == 0, done.stderr
    verdict = json.loads((detector / "detector.fp16.outcome.json").read_text())["verdict"]
    assert verdict["verified"]
    assert next(each for each in verdict["outputs"] if each["output"] == "boxes")["max_abs"] <= 0.25


def test_editors_find_the_schema_beside_it_and_it_fits(detector: Path) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    first = (detector / "fp16fix.yaml").read_text().splitlines()[0]
    assert first == f"# yaml-language-server: $schema={FILE}"
    assert (detector / FILE).read_text() == shipped(zoo=False)
    jsonschema.validate(read_mapping(detector / "fp16fix.yaml"), json.loads(shipped(zoo=False)))


def test_what_exists_stays(detector: Path) -> None:
    before = (detector / "fp16fix.yaml").read_bytes()
    done = call("init", "detector.onnx", cwd=detector)
    assert done.returncode == 2
    assert "fp16fix.yaml: exists already, and stays as it is" in done.stderr
    assert (detector / "fp16fix.yaml").read_bytes() == before


def save(folder: Path, text: str) -> Path:
    onnx.save(proto(text, check=False), folder / "m.onnx")
    return folder / "m.onnx"


def test_profiles_are_what_samples_have(tmp_path: Path) -> None:
    model = save(tmp_path, FREE)
    (tmp_path / "calibration").mkdir()
    for number, side in enumerate((16, 32, 32, 64)):
        np.savez(tmp_path / "calibration" / f"{number}.npz", image=normal(2, 3, side, 16, seed=number), size=normal(2, 2))
    made = init(model, tmp_path / "c.yaml")
    (profile,) = load_config(made.config).build.profiles
    image, size = profile["image"], profile["size"]
    assert (image.min, image.opt, image.max) == ((1, 3, 16, 16), (2, 3, 32, 16), (8, 3, 64, 16))
    assert (size.min, size.opt, size.max) == ((1, 2), (2, 2), (8, 2))
    assert made.inputs == "calibration"


def test_without_samples_it_says_so(tmp_path: Path) -> None:
    model = save(tmp_path, FREE)
    (tmp_path / "samples").mkdir()
    np.savez(tmp_path / "samples" / "0.npz", other=normal(2))
    made = init(model, tmp_path / "c.yaml")
    found, text = load_config(made.config), made.config.read_text()
    assert (made.inputs, found.inputs) == ("", None)
    assert "# does not fit: samples: " in text
    assert "they are made up, and every report says so" in text
    assert found.build.profiles[0]["image"].opt == (1, 3, 224, 224)


@pytest.mark.parametrize(("count", "inputs"), [(1, "only-0.npz"), (2, ".")])
def test_files_beside_the_model_will_do(tmp_path: Path, count: int, inputs: str) -> None:
    model = save(tmp_path, PAIR)
    for number in range(count):
        np.savez(tmp_path / f"only-{number}.npz", x=normal(2, 4, seed=number))
    made = init(model, tmp_path / "c.yaml")
    assert made.inputs == inputs
    assert load_config(made.config).inputs == str(tmp_path / inputs)


def test_bounds_are_in_the_unit_of_each_output(tmp_path: Path) -> None:
    """Corners by name from 0 to 1, four numbers in the hundreds, and shares, which are no coordinates."""
    model = save(tmp_path, PAIR)
    np.savez(tmp_path / "a.npz", x=np.array([[0.1, 0.2, 0.3, 0.8]], np.float32))
    outputs = load_config(init(model, tmp_path / "c.yaml").config).tolerance.outputs
    assert set(outputs) == {"corners", "far"}
    assert (outputs["corners"].max_abs, outputs["corners"].unit) == (0.0008, None)
    assert (outputs["far"].max_abs, outputs["far"].unit) == (0.25, "px")


def test_a_yaml_elsewhere_names_the_model_from_there(tmp_path: Path) -> None:
    model = save(tmp_path, PAIR)
    (tmp_path / "inputs").mkdir()
    np.savez(tmp_path / "inputs" / "a.npz", x=normal(1, 4))
    found = load_config(init(model, tmp_path / "deep" / "down" / "c.yaml").config)
    assert found.model is not None
    assert found.model.samefile(model)
    assert found.inputs is not None
    assert Path(found.inputs).samefile(tmp_path / "inputs")


@pytest.mark.parametrize(
    "name", ["plain", "input:0", "on", "1", "a#b", "a: b", 'q"uote', "ünï", "- x", "null", "line\nfeed", "{x}", "1e3", "a/b.c"]
)
def test_any_name_reads_back(tmp_path: Path, name: str) -> None:
    (tmp_path / "c.yaml").write_text(f"{comment(name)}\nshapes: {{{scalar(name)}: 1x2}}\ninputs: {scalar(name)}\n")
    found = load_config(tmp_path / "c.yaml")
    assert list(found.shapes) == [name]
    assert Path(str(found.inputs)) == tmp_path / name


def test_no_model_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        init(tmp_path / "none.onnx", tmp_path / "c.yaml")
    with pytest.raises(ConfigError):
        init(tmp_path / "none.onnx", tmp_path)
    assert list(tmp_path.iterdir()) == []
