"""Models and samples in memory → files that the tasks read, and by what names these are told of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp16fix.errors import Fp16fixError, InputError, ModelError, SampleError
from fp16fix.inputs.spool import Spool

if TYPE_CHECKING:
    from fp16fix.weights.export import Axes

SAMPLES = "inputs"
"""What samples in memory are called where their source is told."""
EXAMPLE = "give samples in memory, or a folder of .npz"


@dataclass(slots=True)
class Staged:
    """What a call was given, on disk."""

    scratch: Spool
    model: Path | None = None
    inputs: str | None = None
    names: dict[str, str] = field(default_factory=dict)
    """Files and folders made here, and what they are called wherever they are told of; the longest path first."""

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Errors of the block name what the user gave."""
        try:
            yield
        except Fp16fixError as error:
            for here, there in self.names.items():
                error.what, error.where, error.hint = (each.replace(here, there) for each in (error.what, error.where, error.hint))
            raise

    def take_inputs(self, given: Any, names: Mapping[str, bool]) -> None:
        """Samples as ``--inputs`` has them, or in memory (see ``inputs.memory``), which are written down.

        Args:
            given: None for made-up ones.
            names: the model's inputs in order; True where it can do without.
        """
        if given is None or isinstance(given, (str, Path)):
            self.inputs = None if given is None else str(given)
            return
        from fp16fix.inputs.memory import spool

        folder = self.scratch.folder / "samples"
        folder.mkdir()
        optional = len(list(takewhile(bool, reversed(list(names.values())))))
        for number, file in enumerate(spool(given, tuple(names), folder, optional)):
            self.names[str(file)] = f"{SAMPLES}, sample {number}"
        self.names[str(folder)] = SAMPLES
        self.inputs = str(folder)


def staged(
    model: Any, inputs: Any, *, opset: int | None = None, dynamic_axes: Axes | None = None, yaml_inputs: str | None = None
) -> tuple[Staged, Any]:
    """What a call was given, on disk, and the PyTorch module that the model was exported from, if it was one.

    Raises:
        ModelError: no model, or a module that PyTorch cannot export.
        SampleError: what is no sample; a module without one to export it by.
        BackendMissingError: a module, and PyTorch cannot export here.
    """
    from fp16fix.weights.export import is_module

    made = Staged(Spool())
    if is_module(model):
        with made.telling():
            take_module(made, model, inputs if inputs is not None else yaml_inputs, opset, dynamic_axes)
        return made, model
    if dynamic_axes is not None:
        raise ModelError("dynamic_axes are for the export of a PyTorch module, and the model is none", where="keywords")
    with made.telling():
        made.model = None if model is None else model_file(made, model)
        made.take_inputs(inputs, declared_names(made.model) if in_memory(inputs) else {})
    return made, None


def in_memory(inputs: Any) -> bool:
    """Whether samples have to be written down."""
    return inputs is not None and not isinstance(inputs, (str, Path))


def model_file(made: Staged, model: Any) -> Path:
    """A path as it is; a proto, which stays as it is, on disk."""
    if isinstance(model, (str, Path)):
        return Path(model)
    import onnx

    if not isinstance(model, onnx.ModelProto):
        hint = "a path, an onnx.ModelProto or a torch.nn.Module"
        raise ModelError(f"expected a model, found {type(model).__name__}", where="model", hint=hint)
    from fp16fix.graph.save import save_proto

    path = made.scratch.folder / "model.onnx"
    save_proto(model, path)
    made.names[str(path)] = f"ModelProto {model.graph.name!r}"
    return path


def declared_names(model: Path | None) -> dict[str, bool]:
    """Inputs in order, none of which can be left out."""
    from fp16fix.engines.profiles import declared

    if model is None:
        raise InputError("samples in memory need a model that says what they are for", where="inputs", hint="give model=, not only config=")
    return {each.name: False for each in declared(model)}


def take_module(made: Staged, module: Any, inputs: Any, opset: int | None, axes: Axes | None) -> None:
    """Export a module by its first sample."""
    from fp16fix.inputs.files import NpzFile
    from fp16fix.weights.export import export, parameters

    where = type(module).__name__
    if inputs is None:
        raise SampleError("a PyTorch module is exported by its first sample, and there is none", where=where, hint=EXAMPLE)
    names = parameters(module)
    if not names:
        raise SampleError("forward takes any number of arguments, which have no names", where=where, hint="name them: def forward(self, x)")
    made.take_inputs(inputs, names)
    place = Path(made.inputs or "")
    files = sorted(place.glob("*.npz")) if place.is_dir() else [place] if place.suffix == ".npz" else []
    if not files:
        raise SampleError("holds no sample to export a PyTorch module by", where=str(place), hint=EXAMPLE)
    path = made.scratch.folder / "model.onnx"
    export(module, NpzFile(files[0]).read(), path, opset, axes)
    made.model = path
    made.names[str(path)] = f"torch.nn.Module {where}"
