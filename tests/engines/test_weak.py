"""The weak pinning logic on autospecs of the real classes of each TensorRT that has weak typing."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fp16fix.engines.flavours.weak import assembly, declared_pins
from fp16fix.engines.listen import LibraryRefusal, Listener
from fp16fix.engines.options import BuildOptions
from fp16fix.graph.lower import lower
from fp16fix.graph.save import save_model
from fp16fix.half import BF16
from tests.engines import tiny
from tests.engines.bindings import Bindings
from tests.models import model

Facts = dict[str, dict[str, Any]]


@pytest.fixture(scope="session")
def facts(bindings: Bindings) -> Facts:
    found: Facts = bindings.ask("ask_weak.py")
    return found


@pytest.mark.parametrize("bindings", ["8.6.1", "10.0.1", "10.16.1.11"], indirect=True)
class TestOnRealClasses:
    def test_every_layer_of_a_node_and_its_own_helpers(self, facts: Facts) -> None:
        norm = facts["decomposed_norm"]
        # Constants and casts keep their own type, the shuffle that only feeds the node goes with it, the next node is free.
        assert norm["precision"] == [None, "FLOAT", "FLOAT", None, "FLOAT", None]
        assert norm["outputs"] == [[], [0], [0], [], [0], []]
        assert norm["broken"] == []
        assert norm["warnings"] == []

    def test_a_helper_shared_with_a_free_node_stays_free(self, facts: Facts) -> None:
        assert facts["shared_helper"]["precision"] == [None, "FLOAT", None]

    def test_integers_keep_their_type(self, facts: Facts) -> None:
        assert facts["integer_outputs"]["outputs"] == [[0], []]
        assert "size" in facts["integer_outputs"]["warnings"][0]

    def test_a_layer_known_by_its_tensor(self, facts: Facts, bindings: Bindings) -> None:
        expected = None if bindings.version.startswith("8") else "FLOAT"
        assert facts["by_output_tensor"]["precision"] == [expected]

    def test_a_pin_that_does_not_read_back_is_broken(self, facts: Facts) -> None:
        assert facts["forgotten"]["broken"] == ["exp"]

    def test_branches_and_absent_inputs(self, facts: Facts) -> None:
        assert facts["in_a_branch"]["precision"] == ["FLOAT"]
        assert facts["missing_optional_input"]["precision"] == ["FLOAT"]

    def test_the_config_obeys(self, facts: Facts) -> None:
        assert facts["configured"] == {"flags": ["FP16", "OBEY_PRECISION_CONSTRAINTS"], "network": 1}

    def test_bf16_where_there_is_one(self, facts: Facts, bindings: Bindings) -> None:
        if bindings.version.startswith("8"):
            assert facts["brain"] == {"absent": True}
        else:
            assert facts["brain"]["precision"] == ["BF16"]
            assert facts["brain"]["flags"] == ["FP16", "BF16", "OBEY_PRECISION_CONSTRAINTS"]


def test_declared_pins_of_a_typed_graph(tmp_path: Path) -> None:
    assert declared_pins(tiny.write(tmp_path, tiny.ISLANDS)) == {"wide": "fp32", "brain": "bf16", "inner": "fp32"}


def test_a_graph_of_bf16_and_fp32_declares_both(tmp_path: Path) -> None:
    """With the FP16 flag set, whatever it left open would be FP16's."""
    text = "g (float[4] x) => (float[4] y) { [brain] a = Neg (x) [wide] y = Exp (a) }"
    save_model(lower(model(text), {"wide": "fp32"}, narrow=BF16), tmp_path / "b.onnx")
    assert declared_pins(tmp_path / "b.onnx") == {"brain": "bf16", "wide": "fp32"}


def test_an_fp32_graph_declares_nothing(tmp_path: Path) -> None:
    assert declared_pins(tiny.write(tmp_path, tiny.WIDE_ATTENTION)) == {}


def test_tensorrt_11_is_refused_when_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    eleven = ModuleType("tensorrt")
    eleven.__version__ = "11.4.0"  # type: ignore[attr-defined]
    eleven.BuilderFlag = type("BuilderFlag", (), {})  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorrt", eleven)
    with pytest.raises(LibraryRefusal, match=r"11\.4\.0 has no weak typing"):
        assembly(BuildOptions(), Listener())


def test_a_module_that_does_not_import_is_refused_in_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(name: str) -> ModuleType:
        raise ImportError(f"lib{name}.so.10: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fails)
    with pytest.raises(LibraryRefusal, match=r"libtensorrt\.so\.10: cannot open") as caught:
        assembly(BuildOptions(), Listener())
    assert caught.value.kind == "BackendMissingError"
