"""PyTorch modules and checkpoints → the same figures as everywhere; the only module that imports torch, and only when called."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from fp16fix.errors import BackendMissingError, InputError, SampleError, first_line
from fp16fix.verdict.metrics import Comparison
from fp16fix.verdict.verdict import Figures
from fp16fix.weights.cast import PIECE

if TYPE_CHECKING:
    import torch

SEED = 0
"""Of torch's generator before either run, so that random operators draw alike."""


def compare_autocast(module: torch.nn.Module, inputs: Any, dtype: Any = None, device: Any = None) -> tuple[Figures, ...]:
    """Outputs of a module under autocast against the same module in FP32.

    Autocast keeps what it knows to be delicate in FP32; if it agrees where plain FP16 does not, the fault is one of placement.

    Args:
        module: run in eval mode without gradients; its mode is as before afterwards.
        inputs: one sample or a list of samples. A sample is a tensor or array, a tuple of positional or a dict of keyword arguments.
        dtype: autocast's low type, ``torch.float16`` by default.
        device: where to run, the module's own by default; the module is moved only if this is given.

    Returns:
        Figures an output, over all samples: ``output`` for a single tensor, else ``0``, ``1``, … or the keys, joined by dots.

    Raises:
        BackendMissingError: torch is not installed.
        SampleError: the module fails on a sample or returns no tensors.
    """
    comparison = Comparison()
    samples = inputs if isinstance(inputs, list) else [inputs]
    if not samples:
        raise SampleError("there is no sample to run the module on", where=type(module).__name__, hint="give one sample or a list of them")
    for exact, low in pairs(module, samples, dtype, device):
        comparison.add(exact, low)
    return comparison.figures()


def pairs(
    module: torch.nn.Module, samples: Iterable[Any], dtype: Any = None, device: Any = None
) -> Iterator[tuple[dict[str, np.ndarray], dict[str, np.ndarray]]]:
    """Outputs of each sample in FP32 and under autocast; see ``compare_autocast``."""
    torch = import_torch()
    if device is not None:
        module = module.to(device)
    where = device_of(torch, module, device)
    training = {each: each.training for each in module.modules()}
    with suppress(NotImplementedError):  # an exported program has one mode
        module.eval()
    try:
        for sample in samples:
            yield run(torch, module, sample, where, None), run(torch, module, sample, where, dtype or torch.float16)
    finally:
        for each, was in training.items():
            each.training = was


def device_of(torch: ModuleType, module: torch.nn.Module, device: Any = None) -> Any:
    """Where a module runs: its first weight says, else ``device``, else the CPU."""
    return next((tensor.device for tensor in (*module.parameters(), *module.buffers())), torch.device(device or "cpu"))


def run(torch: ModuleType, module: Any, sample: Any, device: Any, dtype: Any) -> dict[str, np.ndarray]:
    """Outputs by name; autocast on if a dtype is given."""
    low = torch.autocast(device.type, dtype=dtype) if dtype is not None else without_tf32(torch)
    with torch.random.fork_rng(), torch.no_grad(), low:
        torch.manual_seed(SEED)
        try:
            args, kwargs = arguments(torch, sample, device)
            result = module(*args, **kwargs)
        except Exception as error:  # a module may raise anything
            how = "in FP32" if dtype is None else f"under autocast to {dtype}"
            what = f"the module fails {how}: {type(error).__name__}: {first_line(error)}"
            raise SampleError(what, where=blamed(torch, module, error)) from error
    outputs = dict(named(torch, "", result))
    if not outputs:
        raise SampleError("the module returns no tensors", where=type(module).__name__)
    return outputs


@contextmanager
def without_tf32(torch: ModuleType) -> Iterator[None]:
    """On CUDA, FP32 convolutions are rounded to TF32 unless told otherwise: that is no FP32 to compare with."""
    cudnn = torch.backends.cudnn
    try:
        allowed = cudnn.allow_tf32
    except RuntimeError:  # set for each operator through PyTorch's newer switches: the user's choice
        yield
        return
    cudnn.allow_tf32 = False
    try:
        yield
    finally:
        cudnn.allow_tf32 = allowed


def blamed(torch: ModuleType, module: Any, error: BaseException) -> str:
    """``file:line`` of the innermost frame that is neither PyTorch's nor ours; the module's name where there is none."""
    ours = (torch.__path__[0], __file__)
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(ours)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else type(module).__name__


def arguments(torch: ModuleType, sample: Any, device: Any) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments, arrays as tensors on the device: copies, for a module may write to them."""

    def placed(value: Any) -> Any:
        tensor = torch.tensor(value) if isinstance(value, np.ndarray) else value
        return tensor.to(device) if isinstance(tensor, torch.Tensor) else tensor

    if isinstance(sample, Mapping):
        return [], {name: placed(value) for name, value in sample.items()}
    return [placed(value) for value in (sample if isinstance(sample, tuple) else (sample,))], {}


def named(torch: ModuleType, name: str, value: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Every tensor in a nest of dictionaries, lists and tuples, with its path."""
    if isinstance(value, torch.Tensor):
        yield name or "output", value.detach().cpu().to(torch.float32 if value.is_floating_point() else value.dtype).numpy()
        return
    inner: list[tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        inner = list(value.items())
    elif isinstance(value, Sequence) and not isinstance(value, str):
        inner = list(enumerate(value))
    for key, each in inner:
        yield from named(torch, f"{name}.{key}" if name else str(key), each)


def checkpoint_tensors(path: Path, notes: list[str]) -> Iterator[tuple[str, tuple[int, ...], str, Iterator[np.ndarray]]]:
    """(name, shape, dtype, pieces) of every float tensor of a checkpoint, mapped from disk where its format allows.

    Raises:
        BackendMissingError: torch is not installed.
        InputError: damaged, or it holds more than weights; nothing in it is run in either case.
    """
    torch = import_torch()
    for name, tensor in checkpoint_items(torch, "", load_checkpoint(torch, path)):
        if not tensor.is_floating_point():
            continue
        if tensor.layout != torch.strided or tensor.is_quantized:
            notes.append(f"{name} is sparse or quantised: not looked at")
            continue
        yield name, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."), checkpoint_pieces(torch, tensor)


def load_checkpoint(torch: ModuleType, path: Path) -> Any:
    """The nest of dictionaries and tensors."""
    try:
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError as error:
            # The format of PyTorch before 1.6 cannot be mapped.
            if "mmap" not in str(error):
                raise
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "the checkpoint holds more than weights, and code in it is not run",
            where=str(path),
            hint="torch.save(model.state_dict(), path) where you trust it",
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise InputError(
            f"not a readable checkpoint ({first_line(error)})",
            where=str(path),
            hint="TorchScript: export to ONNX, or save its state_dict()",
        ) from error


def checkpoint_items(torch: ModuleType, name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Tensors of nested dictionaries and sequences, in their order."""
    if isinstance(value, torch.Tensor):
        yield name or "tensor", value.detach()
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from checkpoint_items(torch, f"{name}.{key}" if name else str(key), each)
    elif isinstance(value, (list, tuple)):
        for index, each in enumerate(value):
            yield from checkpoint_items(torch, f"{name}.{index}" if name else str(index), each)


def checkpoint_pieces(torch: ModuleType, tensor: Any) -> Iterator[np.ndarray]:
    """Pieces as NumPy arrays; types NumPy lacks go through FP32, which holds them exactly."""
    flat = tensor.reshape(-1)
    for start in range(0, flat.numel(), PIECE):
        piece = flat[start : start + PIECE]
        yield (piece if piece.dtype in (torch.float64, torch.float32, torch.float16) else piece.float()).numpy()


def import_torch() -> ModuleType:
    """Torch, or an error that says how to get it."""
    try:
        return import_module("torch")
    except ImportError as error:
        raise BackendMissingError("PyTorch is not installed", hint="pip install 'fp16fix[torch]'") from error
