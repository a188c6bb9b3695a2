from __future__ import annotations

import shlex
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fp16fix.engines.interop import polygraphy_script, trtexec_flags
from fp16fix.errors import ConfigError

WIDE = {"/block.0/norm:0": "fp32", "exp": "bf16"}


def parsed(spec: str) -> dict[str, str]:
    """As trtexec reads ``--layerPrecisions``: entries between commas, the name before the last colon."""
    pairs = [entry.rpartition(":") for entry in spec.split(",")]
    return {name: fmt for name, _, fmt in pairs}


def test_trtexec_reads_what_was_meant() -> None:
    flags = {flag.partition("=")[0]: flag.partition("=")[2] for flag in shlex.split(trtexec_flags(WIDE))}
    assert flags.keys() == {"--fp16", "--bf16", "--precisionConstraints", "--layerPrecisions", "--layerOutputTypes"}
    assert flags["--precisionConstraints"] == "obey"
    assert parsed(flags["--layerPrecisions"]) == parsed(flags["--layerOutputTypes"]) == WIDE


def test_nothing_wide_is_plain_fp16() -> None:
    assert trtexec_flags({}) == "--fp16"


@pytest.mark.parametrize("name", ["a,b", "it's", "any*"])
def test_names_that_trtexec_would_misread(name: str) -> None:
    with pytest.raises(ConfigError, match="trtexec cannot name"):
        trtexec_flags({name: "fp32"})


class Layer:
    """What the script touches of an ``ILayer``."""

    def __init__(self, kind: str, metadata: str, *dtypes: str) -> None:
        self.type = SimpleNamespace(name=kind)
        self.metadata = metadata
        self.tensors = [SimpleNamespace(dtype=SimpleNamespace(name=dtype)) for dtype in dtypes]
        self.num_outputs = len(dtypes)
        self.precision: str | None = None
        self.types: dict[int, str] = {}

    def get_output(self, index: int) -> Any:
        return self.tensors[index]

    def set_output_type(self, index: int, dtype: str) -> None:
        self.types[index] = dtype


class Network:
    def __init__(self, *layers: Layer) -> None:
        self.layers = layers
        self.num_layers = len(layers)

    def get_layer(self, index: int) -> Layer:
        return self.layers[index]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The script on disk, and a stand-in for the module it imports."""
    fake = ModuleType("tensorrt")
    fake.float32, fake.bfloat16 = "float32", "bfloat16"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", fake)
    path = tmp_path / "keep_wide.py"
    path.write_text(polygraphy_script(WIDE))
    return path


def invoke(script: Path, network: Network) -> None:
    """With Polygraphy's own loader, as ``--trt-network-postprocess-script`` does."""
    common = pytest.importorskip("polygraphy.backend.common")
    common.InvokeFromScript(str(script), "postprocess")(network=network)


def test_polygraphy_loads_and_pins(script: Path) -> None:
    norm = Layer("NORMALIZATION", "[ONNX Layer: /block.0/norm:0 | body (then_branch) | if (If)]", "FLOAT")
    cast = Layer("CAST", "[ONNX Layer: exp]", "HALF")
    exp = Layer("TOPK", "[ONNX Layer: exp]", "FLOAT", "INT32")
    free = Layer("UNARY", "[ONNX Layer: relu]", "FLOAT")
    helper = Layer("SHUFFLE", "", "FLOAT")
    invoke(script, Network(norm, cast, exp, free, helper))
    assert (norm.precision, norm.types) == ("float32", {0: "float32"})
    assert (exp.precision, exp.types) == ("bfloat16", {0: "bfloat16"})
    assert {each.precision for each in (cast, free, helper)} == {None}


def test_another_model_is_an_error(script: Path) -> None:
    with pytest.raises(RuntimeError, match="is it the same model"):
        invoke(script, Network(Layer("UNARY", "[ONNX Layer: exp]", "FLOAT")))


def test_any_name_survives(tmp_path: Path) -> None:
    names = {"it's": "fp32", 'say "hi"': "fp32", "back\\slash": "bf16", "{braces}": "fp32"}
    space: dict[str, Any] = {}
    source = polygraphy_script(names).replace("import tensorrt as trt", "")
    exec(compile(source, "script", "exec"), space)
    assert space["WIDE"] == names
