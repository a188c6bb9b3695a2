"""The JSON Schemas that editors complete by: in step with the models, right about every example, and as closed as the loader."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fp16fix.config import load_config, load_zoo
from fp16fix.config.file import read_mapping
from fp16fix.config.published import generated, shipped
from fp16fix.errors import ConfigError

jsonschema = pytest.importorskip("jsonschema")
CONFIGS = sorted((Path(__file__).parent.parent / "configs").glob("*.yaml"))


def faults(raw: Any, *, zoo: bool = False) -> list[str]:
    schema = json.loads(shipped(zoo=zoo))
    jsonschema.Draft202012Validator.check_schema(schema)
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(raw)]


@pytest.mark.parametrize("zoo", [False, True])
def test_what_is_shipped_is_what_the_models_say(zoo: bool) -> None:
    """``python -m tools.schema`` writes it anew."""
    assert json.loads(shipped(zoo=zoo)) == json.loads(generated(zoo=zoo))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_every_example_is_legal(path: Path) -> None:
    assert not faults(read_mapping(path), zoo="zoo" in path.name)


@pytest.mark.parametrize(
    "raw",
    [
        {"shapes": {"x": "1x3x8x8", "y": [1, 3], "z": 4}},
        {"tolerance": {"metrics": ["top1", {"metric": "box-corners", "output": "boxes", "limit": 0.5}]}},
        {"search": None, "build": None},
        {"tolerance": {"sqnr_db": None, "outputs": {"boxes": {"max_abs": 0.5, "unit": "px"}}}},
        {"build": {"profiles": [{"x": {"min": "1x3", "opt": [2, 3], "max": "4x3"}}], "targets": ["sm89"]}},
        {"json": True, "threads": 4, "held_out": 0.3},
    ],
    ids=str,
)
def test_short_forms_are_legal_for_both(tmp_path: Path, raw: dict[str, Any]) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(raw))
    load_config(tmp_path / "c.yaml")
    assert not faults(raw)


@pytest.mark.parametrize(
    "raw",
    [
        {"tolerence": {}},
        {"tolerance": {"sqnr": 50}},
        {"held_out": 1.5},
        {"held_out": "half"},
        {"io": "fp8"},
        {"build": {"optimization_level": 6}},
        {"tolerance": {"metrics": [{"limit": 0.5}]}},
        {"threads": -1},
    ],
    ids=str,
)
def test_what_the_loader_refuses_is_no_example_for_editors(tmp_path: Path, raw: dict[str, Any]) -> None:
    (tmp_path / "c.yaml").write_text(json.dumps(raw))
    with pytest.raises(ConfigError):
        load_config(tmp_path / "c.yaml")
    assert faults(raw)


def test_a_zoo_has_short_forms_too(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").touch()
    for word in ("never", ["error", "conditions"]):
        raw = {"models": ["a.onnx", {"model": "a.onnx", "limits": {"time_s": 3}}], "fail_on": word}
        (tmp_path / "z.yaml").write_text(json.dumps(raw))
        load_zoo(tmp_path / "z.yaml")
        assert not faults(raw, zoo=True)
    assert faults({"models": []}, zoo=True)
    assert faults({"models": ["a.onnx"], "fail_on": "sometimes"}, zoo=True)


@pytest.mark.parametrize("zoo", [False, True])
def test_the_command_writes_it(tmp_path: Path, zoo: bool) -> None:
    words = [sys.executable, "-m", "fp16fix", "schema", *(["--zoo"] if zoo else [])]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    subprocess.run([*words, "-o", str(tmp_path / "s.json")], check=True)
    assert said == (tmp_path / "s.json").read_text() == shipped(zoo=zoo)
    assert json.loads(said)["properties"]["models" if zoo else "tolerance"]


def test_keys_say_what_they_mean() -> None:
    """What an editor shows where the cursor is."""
    properties = json.loads(shipped(zoo=False))["properties"]
    assert [name for name, each in properties.items() if "description" not in each and "$ref" not in each] == []
