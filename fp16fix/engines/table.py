"""The ``Layers:`` table that a builder prints when it is done → ``Kernel``s: what the plan really runs, fused, with the types it holds.

The form is that of TensorRT-RTX 1.7.1 (VERBOSE log, detailed profiling verbosity). A row that is not read to its last character is an
error: nothing is passed over in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import prod
from typing import Any

from fp16fix.engines.metadata import owners

HEADING = "Layers:"
"""First word of the message that holds the table."""
ROW = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>\w+), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: (?P<tactic>[^,]*), StreamId: \d+(?:, (?!Metadata)\w+: [^,]*)*, Metadata: ?(?P<metadata>.*)"
)
"""One layer: a line. Between StreamId and Metadata stand an event or jump targets, where there are any."""
TENSOR = re.compile(
    r"\{ Name: (?P<name>.*?), Dimensions: \[(?P<dims>[-\d,]*)\], Strides: \[[-\d,]*\], StrideOrder: \[[-\d,]*\], "
    r"Datatype: (?P<dtype>\w+), Format: [^{}]*\}"
)
"""One tensor in a list of them."""
DTYPES = {"Float": "fp32", "Half": "fp16", "BFloat16": "bf16"}
"""The table's names of float types → ours; others are kept in lower case."""
BITS = {"fp32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int64": 64, "int32": 32, "int8": 8, "uint8": 8, "bool": 8, "int4": 4, "fp4": 4}
"""Of one element."""


class TableError(ValueError):
    """The table is not of the form that is known."""


@dataclass(frozen=True, slots=True)
class Held:
    """A tensor or constant that a kernel reads or writes."""

    name: str
    dims: tuple[int, ...]
    """−1 where dynamic."""
    dtype: str
    """``fp32``, ``fp16``, ``bf16``, ``int32``, …"""

    @property
    def is_scalar(self) -> bool:
        """One element, as alpha, beta and literals are."""
        return prod(self.dims) == 1

    @property
    def size(self) -> int | None:
        """Bytes; None where dynamic."""
        return None if min(self.dims, default=0) < 0 else prod(self.dims) * BITS.get(self.dtype, 32) // 8


@dataclass(frozen=True, slots=True)
class Kernel:
    """One row: a fused layer of the plan."""

    name: str
    kind: str
    """Kernel family: ``gemm``, ``correlation`` (convolution), ``deconv``, ``runtime_fusion``, ``kgen`` (generated), …"""
    inputs: tuple[Held, ...]
    constants: tuple[Held, ...]
    outputs: tuple[Held, ...]
    owners: tuple[str, ...]
    """ONNX nodes in it, as far as the table names them."""

    @property
    def steps(self) -> tuple[str, ...]:
        """What a generated kernel does, in order, as its name tells: ``__myl_FcMaxMinCast_myl0_1`` → Fc, Max, Min, Cast."""
        found = re.match(r"__myl_([A-Za-z]+)_", self.name)
        return tuple(re.findall("[A-Z][a-z]*", found[1])) if found else ()


def kernels(message: str) -> tuple[Kernel, ...]:
    """The rows of a table.

    Raises:
        TableError: it has none, or one is of another form.
    """
    lines = iter(message.splitlines())
    if next(lines, "").strip() != HEADING:
        raise TableError(f"it does not begin with {HEADING!r}")
    rows = [kernel(line) for line in until_blank(lines)]
    if not rows:
        raise TableError("it has no rows")
    return tuple(rows)


def until_blank(lines: Iterator[str]) -> Iterator[str]:
    """Rows end at a blank line; what follows are the engine's inputs and outputs."""
    for line in lines:
        if not line.strip():
            return
        yield line


def kernel(line: str) -> Kernel:
    """One row. Raises as ``kernels``."""
    found = ROW.fullmatch(line.strip())
    if found is None:
        raise TableError(f"a row reads {line[:120]!r}")
    inputs, constants, outputs = (tuple(tensors(found[key])) for key in ("inputs", "constants", "outputs"))
    return Kernel(found["name"], found["kind"], inputs, constants, outputs, owners(found["metadata"]))


def tensors(text: str) -> Iterator[Held]:
    """A list of tensors. Raises as ``kernels``."""
    rest = TENSOR.sub("", text).strip(" ,")
    if rest:
        raise TableError(f"a tensor reads {rest[:120]!r}")
    for each in TENSOR.finditer(text):
        dims = tuple(int(dim) for dim in each["dims"].split(",") if dim)
        yield Held(each["name"], dims, DTYPES.get(each["dtype"], each["dtype"].lower()))


def to_json(found: Sequence[Kernel]) -> list[dict[str, Any]]:
    """Plain types only; ``from_json`` reads it back."""
    return [asdict(each) for each in found]


def from_json(raw: Sequence[Mapping[str, Any]]) -> tuple[Kernel, ...]:
    """The inverse of ``to_json``, after JSON turned tuples into lists."""

    def held(entries: Sequence[Mapping[str, Any]]) -> tuple[Held, ...]:
        return tuple(Held(each["name"], tuple(each["dims"]), each["dtype"]) for each in entries)

    return tuple(
        Kernel(each["name"], each["kind"], held(each["inputs"]), held(each["constants"]), held(each["outputs"]), tuple(each["owners"]))
        for each in raw
    )
