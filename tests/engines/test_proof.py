from __future__ import annotations

import json

import pytest

from fp16fix.engines.metadata import owners
from fp16fix.engines.proof import Layer, check_pins, inspector_dtype, inspector_layers, proof_from_json, proof_of

LAYERS = (
    Layer("CONSTANT", (), ("fp16",)),
    Layer("MATRIX_MULTIPLY", ("mm",), ("fp16",)),
    Layer("CAST", (), ("fp32",)),
    Layer("REDUCE", ("l2",), ("fp32",)),
    Layer("UNARY", ("l2",), ("fp32",)),
    Layer("CAST", ("up",), ("fp32",)),
    Layer("TOPK", ("top",), ("fp16", "int64")),
)


@pytest.mark.parametrize(
    ("metadata", "nodes"),
    [
        ("", ()),
        ("[ONNX Layer: conv]", ("conv",)),
        ("[ONNX Layer: t | tg (then_branch) | if (If)]", ("t",)),
        ("[ONNX Layer: a]\x1e[ONNX Layer: b]", ("a", "b")),
        ("[ONNX Layer: a][ONNX Layer: a]", ("a",)),
        ("[ONNX Layer: /m/norm[0]/Pow]", ("/m/norm[0]/Pow",)),
        ("[ONNX Layer: x[1]]\x1e[ONNX Layer: y[2] | body (body) | loop (Loop)]", ("x[1]", "y[2]")),
        ("[ONNX Layer: whole]\x1e[ONNX Layer: cut of", ("whole",)),
        ("something else", ()),
    ],
)
def test_owners(metadata: str, nodes: tuple[str, ...]) -> None:
    assert owners(metadata) == nodes


class TestProve:
    def test_gathers_by_node_in_network_order(self) -> None:
        proof = proof_of(LAYERS, source="network")
        assert [each.node for each in proof.nodes] == ["mm", "l2", "up", "top"]
        assert proof.by_node()["l2"].layers == ("REDUCE", "UNARY")
        assert proof.by_node()["top"].dtypes == ("fp16", "int64")

    def test_counts_only_layers_that_compute(self) -> None:
        proof = proof_of(LAYERS, source="network")
        assert (proof.fp16_layers, proof.fp32_layers) == (2, 2)

    def test_survives_json(self) -> None:
        proof = proof_of(LAYERS, source="network", broken_pins=("mm",))
        assert proof_from_json(json.loads(json.dumps(proof.to_json()))) == proof


class TestCheckPins:
    NODES = ("mm", "l2", "top")

    def test_holds(self) -> None:
        assert check_pins(proof_of(LAYERS, source="network"), {"l2": "fp32"}, self.NODES) == ()

    def test_a_pin_that_does_not_hold(self) -> None:
        assert check_pins(proof_of(LAYERS, source="network"), {"mm": "fp32"}, self.NODES) == (
            "node 'mm' is pinned to fp32 and has layers in fp16",
        )

    def test_bf16_may_be_wider_but_not_narrower(self) -> None:
        layers = (Layer("UNARY", ("a",), ("fp32",)), Layer("UNARY", ("b",), ("fp16",)), Layer("UNARY", ("c",), ("bf16",)))
        wide = {"a": "bf16", "b": "bf16", "c": "fp32"}
        problems = check_pins(proof_of(layers, source="network"), wide, ("a", "b", "c"))
        assert [problem.split("'")[1] for problem in problems] == ["b", "c"]

    def test_an_fp32_engine_is_never_silent(self) -> None:
        layers = (Layer("UNARY", ("a",), ("fp32",)), Layer("CAST", ("c",), ("fp16",)))
        (problem,) = check_pins(proof_of(layers, source="network"), {}, ("a",))
        assert "this would be an FP32 engine" in problem
        assert check_pins(proof_of(layers, source="network"), {"a": "fp32"}, ("a",)) == ()

    def test_a_pin_that_was_not_read_back_is_told_once(self) -> None:
        problems = check_pins(proof_of(LAYERS, source="network", broken_pins=("mm",)), {"mm": "fp32"}, self.NODES)
        assert problems == ("the pins of 'mm' did not read back from its layers",)

    def test_a_node_without_layers_was_folded(self) -> None:
        assert check_pins(proof_of(LAYERS, source="network"), {"gone": "fp32"}, (*self.NODES, "gone")) == ()

    def test_a_fused_layer_says_nothing_of_the_nodes_inside(self) -> None:
        layers = (Layer("kgen", ("wide", "narrow"), ("fp16",)), Layer("gemm", ("mm",), ("fp16",)))
        assert check_pins(proof_of(layers, source="inspector"), {"wide": "fp32"}, ("wide", "narrow", "mm")) == ()


TEN = {
    "Layers": [
        {
            "Name": "conv + relu",
            "LayerType": "CaskConvolution",
            "Inputs": [{"Name": "x", "Dimensions": [1, 3, 8, 8], "Format/Datatype": "Row major linear FP32 format"}],
            "Outputs": [{"Name": "y", "Dimensions": [1, 8, 8, 8], "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
            "Metadata": "[ONNX Layer: conv]\u001e[ONNX Layer: relu]",
        },
        {"Name": "norm", "LayerType": "kgen", "Outputs": [{"Name": "z", "Format/Datatype": "Float"}], "Metadata": "[ONNX Layer: norm]"},
        {
            "Name": "top",
            "LayerType": "TopK",
            "Outputs": [{"Format/Datatype": "Half"}, {"Format/Datatype": "Int32"}],
            "Metadata": "[ONNX Layer: top]",
        },
    ],
    "Bindings": ["x", "z"],
}
ELEVEN = {
    "Layers": [
        {
            "Name": "conv + relu",
            "LayerType": "gemm",
            "Outputs": [{"Name": "y", "Format": "Channel major FP16 format where channel % 8 == 0 (kHWC8)", "DataType": "Half"}],
            "Metadata": "[ONNX Layer: conv]\u001e[ONNX Layer: relu]",
        },
        {
            "Name": "norm",
            "LayerType": "kgen",
            "Outputs": [{"Name": "z", "Format": "Row major linear FP32 format (kLINEAR)", "DataType": "Float"}],
            "Metadata": "[ONNX Layer: norm]",
        },
        {"Name": "top", "LayerType": "TopK", "Outputs": [{"DataType": "Half"}, {"DataType": "Int32"}], "Metadata": "[ONNX Layer: top]"},
    ],
    "I/O Tensors": [
        {"Name": "x", "IOMode": "Input", "DataType": "Float", "ProfileInfo": [{"Format": "Row major linear FP32 format (kLINEAR)"}]}
    ],
}


class TestInspector:
    @pytest.mark.parametrize("dialect", [TEN, ELEVEN], ids=["10", "11"])
    def test_both_dialects_say_the_same(self, dialect: dict[str, object]) -> None:
        proof = proof_of(inspector_layers(json.dumps(dialect)), source="inspector")
        assert proof.by_node()["norm"].dtypes == ("fp32",)
        assert proof.by_node()["top"].dtypes == ("fp16", "int32")
        assert proof.by_node()["conv"].dtypes == ()
        assert (proof.fp16_layers, proof.fp32_layers) == (2, 1)

    def test_names_only_carry_no_types(self) -> None:
        assert list(inspector_layers(json.dumps({"Layers": ["conv + relu", "norm"], "Bindings": ["x"]}))) == []

    @pytest.mark.parametrize(
        ("tensor", "dtype"),
        [
            ({"Format/Datatype": "BF16"}, "bf16"),
            ({"Format/DataType": "Two wide channel vectorized row major FP16 format"}, "fp16"),
            ({"Datatype": "BFloat16", "Format": "Row major linear FP32"}, "bf16"),
            ({"Format": "Row major linear INT8 format"}, "int8"),
            ({"DataType": "Float16"}, "fp16"),
            ({"Location": "Device"}, "unknown"),
        ],
    )
    def test_words_for_types(self, tensor: dict[str, str], dtype: str) -> None:
        assert inspector_dtype(tensor) == dtype
