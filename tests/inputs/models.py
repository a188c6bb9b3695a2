"""Small models as ONNX text, for the tests of inputs."""

from __future__ import annotations

import onnx
import onnx_graphsurgeon as gs

from fp16fix.graph.model import Model
from fp16fix.inputs.signature import Input, signature


def model(text: str, opset: int = 17) -> Model:
    """``g (float[N,3] x) => (...) {...}`` → Model."""
    parsed = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n{text}')
    return Model(gs.import_onnx(parsed), "test")


def takes(inputs: str) -> tuple[Input, ...]:
    """The signature of a model that takes ``inputs`` (ONNX text) and does nothing with them."""
    return signature(model(f"g ({inputs}) => (float[1] y) {{ y = Constant <value = float[1] {{1.0}}> () }}"))
