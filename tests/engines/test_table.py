"""The builder's table of fused layers, as recorded from TensorRT-RTX 1.7.1, and whatever is not that."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from fp16fix.engines.assemble import UNREAD, Assembly
from fp16fix.engines.listen import Listener
from fp16fix.engines.proof import Proof
from fp16fix.engines.table import HEADING, Held, TableError, from_json, kernels, to_json

LOGS = Path(__file__).parent / "logs"


def recorded(name: str) -> str:
    return (LOGS / f"{name}.txt").read_text()


def test_a_row_says_what_is_fused_and_in_which_types() -> None:
    relu, product = kernels(recorded("lone"))
    assert (relu.kind, relu.steps, relu.owners) == ("kgen", ("Relu",), ("a",))
    assert (product.kind, product.steps) == ("runtime_fusion", ("Fc", "Sigm"))
    assert set(product.owners) == {"product", "ph", "aw", "y"}
    (weights,) = product.constants
    assert (weights.dims, weights.dtype, weights.size) == ((64, 32), "fp16", 64 * 32 * 2)
    assert product.outputs == (Held("y", (8, 32), "fp16"),)


def test_attention_is_one_row() -> None:
    whole = [each for each in kernels(recorded("attention")) if "mha" in each.name]
    assert [set(each.owners) for each in whole] == [{"scores", "scaled", "softmax", "y"}]


def test_jumps_bodies_and_other_types_are_read() -> None:
    rows = kernels(recorded("islands"))
    assert {"memset", "copy", "cjmp", "jmp", "kgen"} == {each.kind for each in rows}
    (inner,) = [each for each in rows if each.steps == ("Cast", "Tanh", "Cast")]
    assert inner.owners == ("if", "tw", "inner", "td")
    assert {held.dtype for each in rows for held in each.inputs} == {"fp16", "bool"}


def test_dynamic_sizes_are_not_known_and_every_profile_has_its_rows() -> None:
    rows = kernels(recorded("dynamic"))
    products = [each for each in rows if each.owners == ("p",)]
    assert [each.inputs[0].name for each in products] == ["x", "x [profile 1]"]
    assert products[0].inputs[0].size is None
    assert products[0].constants[1].is_scalar
    assert not products[0].constants[0].is_scalar


def test_survives_json() -> None:
    rows = kernels(recorded("attention"))
    assert from_json(json.loads(json.dumps(to_json(rows)))) == rows


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("Layers:", "Layer Information:", "does not begin"),
        ("Datatype: Half", "DataType: Half", "a tensor reads"),
        ("Dimensions: [8,64]", "Dimensions: 8x64", "a tensor reads"),
        ("LayerType: kgen", "Type: kgen", "a row reads"),
        ("Metadata: [ONNX", "Origin: [ONNX", "a row reads"),
        ("Layers:\n", "Layers:\n\n", "no rows"),
    ],
)
def test_another_form_is_an_error(old: str, new: str, says: str) -> None:
    text = recorded("lone")
    assert old in text
    with pytest.raises(TableError, match=says):
        kernels(text.replace(old, new, 1))


def test_the_listener_keeps_the_table_whatever_severity_it_was_asked_for() -> None:
    listener = Listener("error")
    listener.say("verbose", recorded("lone"))
    listener.say("verbose", "Adding 1 engine(s) to plan file.")
    assert listener.table == recorded("lone")
    assert not listener.warnings


@pytest.mark.parametrize("text", ["", HEADING, recorded("lone").replace("Datatype", "Type")])
def test_a_table_that_is_not_read_is_a_named_warning(text: str) -> None:
    found: Any = SimpleNamespace(listener=Listener(), proof=Proof((), 1, 0), trt=SimpleNamespace(__name__="tensorrt_rtx"), version="9.9")
    found.listener.table = text
    Assembly.read_table(found)
    (said,) = found.listener.warnings
    assert said.startswith(f"{UNREAD}: tensorrt_rtx 9.9 ")
    assert found.proof.kernels == ()
    found.listener.table = recorded("lone")
    Assembly.read_table(found)
    assert len(found.proof.kernels) == 2
