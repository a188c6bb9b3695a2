"""A PyTorch module and one sample → an ONNX file, by PyTorch's own exporter."""

from __future__ import annotations

import inspect
import io
import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fp16fix.errors import BackendMissingError, ModelError, first_line
from fp16fix.weights.pytorch import device_of, import_torch, run

Axes = Mapping[str, Mapping[int, str]]
"""Free dimensions: input → axis → name."""
HINT = "export it yourself (torch.onnx.export), give the file, and the module as module="


def parameters(module: Any) -> dict[str, bool]:
    """What ``forward`` takes, in order, which are the names of the model's inputs; True where it can do without."""
    taken = inspect.signature(module.forward).parameters.values()
    named = [each for each in taken if each.kind in {each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY}]
    return {each.name: each.default is not each.empty for each in named}


def is_module(value: Any) -> bool:
    """Whether it is a torch.nn.Module; torch is not imported to find out."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.nn.Module)


def export(module: Any, example: Mapping[str, np.ndarray], path: Path, opset: int | None = None, dynamic_axes: Axes | None = None) -> None:
    """Write the module, in eval mode, as an ONNX file with inputs called as ``forward`` calls them.

    Args:
        module: a torch.nn.Module in FP32; its mode is as before afterwards.
        example: one sample by name.
        path: where the file goes; weights past 2 GiB beside it.
        opset: PyTorch's default where it is None.
        dynamic_axes: every other dimension is fixed at its size in ``example``.

    Raises:
        BackendMissingError: torch, or onnxscript, which it exports by, is not installed.
        SampleError: the module fails on the example.
        ModelError: PyTorch cannot export it, or an axis is of an input that ``forward`` has not.
    """
    torch, where = import_torch(), type(module).__name__
    axes = dynamic_axes or {}
    refuse_unknown(axes, tuple(example), where)
    training = {each: each.training for each in module.modules()}
    with suppress(NotImplementedError):
        module.eval()
    try:
        names = tuple(name for name in parameters(module) if name in example)
        device = device_of(torch, module)
        tensors = {name: torch.tensor(example[name]).to(device) for name in names}
        outputs = called(run(torch, module, {name: example[name] for name in names}, device, None))
        shapes = {name: dict(axes.get(name, {})) or None for name in names}
        written(torch, module, tensors, path, where, opset_version=opset, output_names=outputs, dynamic_shapes=shapes if axes else None)
    finally:
        for each, was in training.items():
            each.training = was


def refuse_unknown(axes: Axes, names: Sequence[str], where: str) -> None:
    """A free dimension of nothing."""
    if unknown := sorted(set(axes) - set(names)):
        raise ModelError(f"has no input {unknown[0]!r} that could have free dimensions", where=where, hint=f"it takes {', '.join(names)}")


def called(outputs: Mapping[str, Any]) -> list[str]:
    """Names for what a module returns: a mapping's own keys, else ``output``, or ``output_0``, ``output_1`` and so on."""
    return [f"output_{name}" if name.replace(".", "").isdigit() else name for name in outputs]


def written(torch: ModuleType, module: Any, tensors: Mapping[str, Any], path: Path, where: str, **options: Any) -> None:
    """PyTorch's exporter."""
    try:
        with silence(), torch.no_grad():
            torch.onnx.export(module, (), str(path), kwargs=dict(tensors), input_names=list(tensors), dynamo=True, verbose=False, **options)
    except ImportError as error:
        raise BackendMissingError(
            f"PyTorch exports by a package that is missing ({error.name})", hint="pip install 'fp16fix[torch]'"
        ) from error
    except Exception as error:  # whatever tracing a user's code raises
        raise ModelError(f"PyTorch cannot export it ({cause(error)})", where=where, hint=HINT) from error


@contextmanager
def silence() -> Iterator[None]:
    """The exporter prints and logs the graphs that it gives up on; what it raises says enough."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def cause(error: BaseException) -> str:
    """The first line of what went wrong at first; the exporter wraps it in advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {first_line(error)}"
