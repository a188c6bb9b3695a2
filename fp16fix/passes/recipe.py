"""``Edit``, ``Refusal`` and ``Recipe``: intentions as data, enough to replay from JSON on the same model."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Promise(str, Enum):
    """How far a rule moves the FP32 function."""

    EXACT = "exact"
    """Powers of two, casts: FP32 results are equal bit for bit except where subnormals enter."""
    REORDERED = "reordered"
    """The same real function in another order of operations."""
    ALTERED = "altered"
    """Another function on purpose (a clamp, an eps), only where calibration shows the FP32 answer unmoved."""


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """``rule`` aimed at ``node`` with its numbers."""

    by: str
    node: str
    """ONNX node the rewrite starts from (for a fused pattern: the node that produces its output)."""
    promise: Promise
    covers: tuple[str, ...] = ()
    """Names of the nodes whose hazards this answers (``node`` included where it is one)."""
    tensor: str = ""
    """The tensor or initializer edited, where the rule edits one."""
    shift: int = 0
    """Power-of-two exponent, for rules that have one."""
    values: tuple[tuple[str, float], ...] = ()
    """Other numbers the rewrite needs, by name."""
    because: str = ""
    """One sentence for the report: what is changed and why that helps."""


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """A rule, or the whole tool, decided to leave ``node`` as it is: a result, not a failure."""

    node: str
    by: str
    why: str
    harmless: bool = False
    """The hazard was shown to have no effect."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything done to a model: rewrites, exponents, rewrites that only make sense after them, dtypes; applied in this order."""

    repairs: tuple[Edit, ...] = ()
    """Rewrites of the FP32 graph by rules, in the order they are applied."""
    exponents: tuple[tuple[str, int], ...] = ()
    """(tensor, e): the stored value becomes true × 2^−e. Tensors not named have e = 0."""
    finish: tuple[Edit, ...] = ()
    """Rewrites of the rescaled graph (an eps that became too small for FP16)."""
    wide: tuple[tuple[str, str], ...] = ()
    """(node, "fp32" | "bf16"): the pins. Nodes not named run in FP16."""


def repair_key(repair: Edit) -> str:
    """What a repair is called in a ``Candidate``: the rule, the node, and the tensor where the rule edits one."""
    return "@".join(part for part in (repair.by, repair.node, repair.tensor) if part)
