"""In: a torch module and example arguments. Out: the ONNX model that PyTorch's TorchScript exporter writes of it."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import onnx

EAGER: dict[str, Any] = {"attn_implementation": "eager"}
"""transformers' option for attention written out as MatMul, Softmax, MatMul."""


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random weights made inside are the same every time; torch's own random state is as before afterwards."""
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def rescale(module: Any, factor: float, *endings: str) -> None:
    """Multiplies every parameter whose name ends in one of `endings`; LookupError for an ending that no name has."""
    import torch

    parameters = dict(module.named_parameters())
    for ending in endings:
        found = [name for name in parameters if name.endswith(ending)]
        if not found:
            raise LookupError(f"no parameter ends in {ending!r}; there are {sorted(parameters)}")
        with torch.no_grad():
            for name in found:
                parameters[name].mul_(factor)


def rescale_eps(module: Any, factor: float, *, but: str | None = None) -> None:
    """Multiplies the eps of every norm in the module, but not of those whose name ends in `but`."""
    for name, child in module.named_modules():
        for attribute in ("eps", "variance_epsilon"):
            if hasattr(child, attribute) and (but is None or not name.endswith(but)):
                setattr(child, attribute, getattr(child, attribute) * factor)


def exported(
    module: Any, call: Callable[..., Any], arguments: dict[str, Any], output: str, *, name: str, opset: int = 17
) -> onnx.ModelProto:
    """call(module, *arguments) as a model with inputs called as in `arguments`; the nodes are called /name/... by scope."""
    import torch

    class Entry(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, module)

        def forward(self, *tensors: Any) -> Any:
            return call(getattr(self, name), *tensors)

    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter speaks of its successor, and of what tracing cannot see
        torch.onnx.export(
            Entry().eval(),
            tuple(arguments.values()),
            buffer,
            input_names=list(arguments),
            output_names=[output],
            opset_version=opset,
            dynamo=False,
        )
    return onnx.load_from_string(buffer.getvalue())
