"""In: calls, one per operator. Out: a small ONNX model under the names that PyTorch's exporter would give."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Operand = str | float | Array
"""A tensor's name, or a value to be held in a Constant node (float: FP32 scalar; int: INT64 scalar)."""
FLOAT, HALF, INT64, BOOL = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64, TensorProto.BOOL
IR_VERSION = {9: 4, 11: 6, 13: 7, 14: 7, 16: 8, 17: 8, 18: 8}
"""IR version that PyTorch's exporter or its time wrote with each opset; all load in TensorRT-RTX 1.7 (at most 10)."""


class Net:
    """A graph being written; `body` opens one for a branch or a loop that shares the names."""

    def __init__(self, name: str, *, opset: int = 17, seed: int = 0) -> None:
        self.name, self.opset = name, opset
        self.rng = np.random.default_rng(seed)
        self._prefix = ""
        self._used: Counter[str] = Counter()
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    @contextmanager
    def scope(self, path: str) -> Iterator[None]:
        """Nodes written inside are called /path/Op; scopes nest."""
        before = self._prefix
        self._prefix = f"{before}/{path}"
        try:
            yield
        finally:
            self._prefix = before

    def body(self, name: str) -> Net:
        """A graph for an attribute (then_branch, body): it reads this graph's tensors by name and keeps its weights here."""
        inner = Net(name, opset=self.opset)
        inner.rng, inner._used, inner._weights, inner._prefix = self.rng, self._used, self._weights, f"{self._prefix}/{name}"
        return inner

    def input(self, name: str, shape: Sequence[int | str], dtype: int = FLOAT) -> str:
        """Declares a graph input; strings in `shape` are dynamic dimensions."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, shape))
        return name

    def output(self, name: str, tensor: str, shape: Sequence[int | str] | None, dtype: int = FLOAT) -> None:
        """Makes `tensor` the graph output `name`; the node that computes it takes the new name."""
        self._outputs.append(helper.make_tensor_value_info(name, dtype, shape))
        for node in self._nodes:
            for names in (node.input, node.output):
                names[:] = [name if each == tensor else each for each in names]

    def weight(self, leaf: str, value: Array | float) -> str:
        """Adds an initializer called scope.leaf, in FP32 unless `value` is an integer or FP16 array."""
        name = ".".join([*self._prefix.strip("/").split("/"), leaf]).lstrip(".")
        array = np.asarray(value)
        stored = array if array.dtype in (np.int64, np.float16) else array.astype(np.float32)
        self._weights.append(numpy_helper.from_array(stored, name))
        return name

    def op(self, kind: str, *operands: Operand, outputs: int = 1, **attributes: Any) -> str:
        """Writes one node and returns its first output; `outputs` more are called name_output_1 and so on."""
        names = [each if isinstance(each, str) else self._constant(each) for each in operands]
        node = self._name(kind)
        results = [f"{node}_output_{index}" for index in range(outputs)]
        self._nodes.append(helper.make_node(kind, names, results, name=node, **attributes))
        return results[0]

    def reduce(self, kind: str, tensor: str, axes: Sequence[int], keepdims: int = 1) -> str:
        """A reduction; axes are an input where the opset says so (ReduceSum from 13, the rest from 18)."""
        if self.opset >= (13 if kind == "ReduceSum" else 18):
            return self.op(kind, tensor, np.asarray(axes, np.int64), keepdims=keepdims)
        return self.op(kind, tensor, axes=list(axes), keepdims=keepdims)

    def graph(self) -> onnx.GraphProto:
        """What was written so far, without the weights: a body."""
        return helper.make_graph(self._nodes, self.name, self._inputs, self._outputs)

    def model(self) -> onnx.ModelProto:
        """The graph and its weights as a model, in the IR version of its opset's time."""
        graph, opsets = self.graph(), [helper.make_opsetid("", self.opset)]
        graph.initializer.extend(self._weights)
        return helper.make_model(graph, producer_name="pytorch", ir_version=IR_VERSION[self.opset], opset_imports=opsets)

    def normal(self, *shape: int, scale: float = 1.0) -> Array:
        """Normally distributed weights from the net's own generator."""
        return (scale * self.rng.standard_normal(shape)).astype(np.float32)

    def _name(self, kind: str) -> str:
        stem = f"{self._prefix}/{kind}"
        self._used[stem] += 1
        return stem if self._used[stem] == 1 else f"{stem}_{self._used[stem] - 1}"

    def _constant(self, value: float | Array) -> str:
        dtype = np.dtype(np.int64) if isinstance(value, int) else np.dtype(np.float32)
        array = value if isinstance(value, np.ndarray) else np.asarray(value, dtype)
        node = self._name("Constant")
        self._nodes.append(helper.make_node("Constant", [], [f"{node}_output_0"], name=node, value=numpy_helper.from_array(array)))
        return f"{node}_output_0"
