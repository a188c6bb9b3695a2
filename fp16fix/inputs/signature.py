"""Model → the inputs it must be fed: name, element type and shape of each, in graph order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import onnx

from fp16fix.errors import ConfigError, ModelError
from fp16fix.graph.model import Constant, Model, Variable, element_type

ANYTHING = "of any shape"
"""Said of an input whose rank is not declared."""


@dataclass(frozen=True, slots=True)
class Input:
    """One tensor the model must be fed."""

    name: str
    element: int
    """``onnx.TensorProto`` element type."""
    shape: tuple[int | str | None, ...]
    """A number is fixed, a name is free but equal wherever it stands, None is free."""
    ranked: bool = True
    """Whether the model says how many dimensions there are; if not, any number will do, and ``shape`` is empty."""
    given_by: str = ""
    """The node that gives it and that nothing here computes, of what is no input of the file."""

    def __str__(self) -> str:
        return f"{element_name(self.element)} {show(self.shape) if self.ranked else ANYTHING}"


def signature(model: Model) -> tuple[Input, ...]:
    """Inputs of the main graph without initializers.

    Raises:
        ModelError: an input that declares no type.
    """
    recorded = model.opaque.recorded
    return tuple(_input(tensor, recorded.get(tensor.name, "")) for tensor in model.graph.inputs if not isinstance(tensor, Constant))


def _input(tensor: Variable, given_by: str) -> Input:
    where = f"input {tensor.name!r}"
    element = element_type(tensor)
    if element == onnx.TensorProto.UNDEFINED:
        raise ModelError("declares no element type", where=where, hint="export the model again with typed inputs")
    if tensor.shape is None:
        return Input(tensor.name, element, (), ranked=False, given_by=given_by)
    return Input(tensor.name, element, tuple(dimension(dim) for dim in tensor.shape), given_by=given_by)


def dimension(dim: Any) -> int | str | None:
    """A size, a name, or None where it is free: some exporters write −1, 0-length names or '?' for a free dimension."""
    if isinstance(dim, str):
        return None if dim in {"", "?"} else dim
    return int(dim) if dim is not None and int(dim) >= 0 else None


def element_name(element: int) -> str:
    """``float32``, ``int64``…, as NumPy says it."""
    if element == onnx.TensorProto.STRING:
        return "string"
    return str(onnx.helper.tensor_dtype_to_np_dtype(element))


def show(shape: tuple[int | str | None, ...]) -> str:
    """``[batch, 3, ?, ?]``."""
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def nearest(name: str, legal: list[str]) -> str:
    """A hint that names the legal name closest to ``name``, or all of them when none is close."""
    near = get_close_matches(name, legal, n=1)
    return f"did you mean {near[0]!r}?" if near else f"the model's inputs are {', '.join(map(repr, legal))}"


def with_dims(inputs: tuple[Input, ...], shapes: Mapping[str, tuple[int, ...]]) -> tuple[Input, ...]:
    """``inputs`` with the dimensions that ``shapes`` (input name → dims) fixes, and every dimension of the same name with them.

    Raises:
        ConfigError: a name the model does not have, another rank, a fixed dimension changed, or two values for one name.
    """
    legal = [entry.name for entry in inputs]
    for name in sorted(set(shapes) - set(legal)):
        raise ConfigError(f"the model has no input {name!r}", where="--shape", hint=nearest(name, legal))
    symbols: dict[str, int] = {}
    for entry in inputs:
        if entry.name in shapes:
            _match(entry, shapes[entry.name], symbols)
    return tuple(
        replace(entry, shape=_settled(entry, shapes.get(entry.name), symbols), ranked=entry.ranked or entry.name in shapes)
        for entry in inputs
    )


def _match(entry: Input, dims: tuple[int, ...], symbols: dict[str, int]) -> None:
    """Check ``dims`` against the declared shape; add the names they settle to ``symbols``."""
    where = f"--shape {entry.name}"
    if not entry.ranked:
        return
    if len(dims) != len(entry.shape) or any(want != got for want, got in zip(entry.shape, dims, strict=True) if isinstance(want, int)):
        raise ConfigError(f"expected {show(entry.shape)}, found {show(dims)}", where=where, hint="only free dimensions can be chosen")
    for want, got in zip(entry.shape, dims, strict=True):
        if isinstance(want, str) and symbols.setdefault(want, got) != got:
            raise ConfigError(f"dimension {want!r} is {got} here and {symbols[want]} before", where=where)


def _settled(entry: Input, dims: tuple[int, ...] | None, symbols: dict[str, int]) -> tuple[int | str | None, ...]:
    if dims is not None:
        return dims
    return tuple(symbols.get(dim, dim) if isinstance(dim, str) else dim for dim in entry.shape)
