from __future__ import annotations

import subprocess
import sys

import pytest

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[4] x) => (float[4] y) { a = Identity (x) y = Abs (a) }'


def test_simplifying_loads_neither_pytorch_nor_sympy_and_leaves_them_importable() -> None:
    pytest.importorskip("torch")
    pytest.importorskip("sympy")
    code = f"""
import sys
import onnx
from fp16fix.graph.simplify import simplify
found, notes = simplify(onnx.parser.parse_model({MODEL!r}))
assert [node.op_type for node in found.graph.node] == ["Abs"], notes
assert not {{"torch", "sympy"}} & set(sys.modules)
import sympy
import torch
assert torch.ones(2).sum() == 2
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
