"""The PyTorch module that an ONNX model was made from → the framework's own outputs, and how near autocast comes to them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fp16fix.errors import SampleError, absent
from fp16fix.inputs.function import call
from fp16fix.inputs.sample import Sample
from fp16fix.location.recorded import Given
from fp16fix.verdict.gates import Tolerance, counted, judge
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Verdict
from fp16fix.weights.pytorch import device_of, import_torch, pairs


class Twin:
    """A module and the ONNX model made from it: what the module gives in FP32, by ONNX names, and how near autocast comes to it."""

    def __init__(self, module: Any, inputs: Sequence[str], outputs: Sequence[str]) -> None:
        """Expect a module in FP32, on the device where it is to run.

        Args:
            module: fed by keyword if ``forward`` has a parameter for each of ``inputs``, else by position, in their order.
            inputs: of the ONNX model, in order.
            outputs: of the ONNX model. A module that returns a mapping with these keys is matched by name; else all tensors that it
                returns, in order, None left out, are taken for the outputs in their order.

        Raises:
            BackendMissingError: torch is not installed.
            SampleError: no module, or one in another precision.
        """
        torch = import_torch()
        refuse_unfit(torch, module)
        self.module, self.outputs, self.inputs = module, tuple(outputs), tuple(inputs)
        self.device = str(device_of(torch, module).type)
        self.by_name = set(inputs) <= keywords(module)
        self.comparison, self.count = Comparison(), 0

    def run(self, samples: Iterable[Sample]) -> Iterator[Given]:
        """FP32 outputs of each sample; autocast is run and compared on the way, so that nothing is run twice.

        Raises:
            SampleError: the module fails on a sample (with the user's file and line), or its outputs are not those of the model.
        """
        names: list[str] = []

        def fed() -> Iterator[Any]:
            for sample in samples:
                names.append(sample.name)
                yield dict(sample.arrays) if self.by_name else tuple(sample.arrays[name] for name in self.inputs)

        for exact, low in pairs(self.module, fed()):
            outputs = self.called(exact)
            self.comparison.add(outputs, self.called(low))
            self.count += 1
            yield Given(f"{type(self.module).__name__} on {names[-1]}", outputs)

    def exhaust(self, samples: Iterable[Sample]) -> None:
        """Run for autocast's sake alone."""
        for _ in self.run(samples):
            pass

    def called(self, found: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Outputs by their ONNX names; a name that is a number is a position in what the module returned."""
        by_name = {name: found[name] for name in self.outputs if name in found and not name.isdigit()}
        if by_name:
            return by_name
        if len(found) != len(self.outputs):
            raise SampleError(
                f"returns {counted(len(found), 'tensor')} ({', '.join(found)}), the model has "
                f"{counted(len(self.outputs), 'output')} ({', '.join(self.outputs)})",
                where=type(self.module).__name__,
                hint="return a dict of tensors by output name; outputs left out are not compared",
            )
        return dict(zip(self.outputs, found.values(), strict=True))

    def verdict(self, tolerance: Tolerance) -> Verdict:
        """Autocast against FP32, over the samples that were run."""
        return judge(self.comparison.figures(), tolerance, self.device, "engine", self.count)


def keywords(module: Any) -> set[str]:
    """What ``forward`` can be given by name; nothing where that cannot be known (TorchScript from a file)."""
    try:
        taken = inspect.signature(module.forward).parameters.values()
    except ValueError:
        return set()
    return {each.name for each in taken if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}


def built(spec: str) -> Any:
    """The module that ``file.py:function`` returns.

    Raises:
        BackendMissingError: torch is not installed.
        SampleError: no such file or function, it fails (with the user's file and line), or returns something else.
    """
    path, _, function = spec.rpartition(":")
    if not Path(path).is_file():
        raise SampleError(absent(Path(path)), where=path, hint="--module file.py:function, a function that returns the torch.nn.Module")
    torch = import_torch()
    module = call(Path(path), function)
    refuse_unfit(torch, module, spec)
    return module


def refuse_unfit(torch: ModuleType, module: Any, where: str = "") -> None:
    """What is no module, or does not compute in FP32."""
    where = where or type(module).__name__
    if not isinstance(module, torch.nn.Module):
        raise SampleError(f"expected a torch.nn.Module, found {type(module).__name__}", where=where)
    low = next((name for name, weight in module.named_parameters() if weight.dtype in (torch.float16, torch.bfloat16)), None)
    if low is not None:
        raise SampleError(f"its weight {low!r} is not FP32, so it cannot serve as the reference", where=where, hint="return module.float()")
