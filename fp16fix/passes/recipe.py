"""``Edit``, ``Refusal`` and ``Recipe``: intentions as data, enough to make the delivered graph again from JSON and the same model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from fp16fix.half import FORMATS, FP16, Base, Format

PLACE, SATURATE, RESCALE, SUMS = "place", "saturate", "rescale", "fp32-sums"
"""``Edit.by`` of what no rule makes."""
TYPING = frozenset({PLACE, SATURATE, SUMS})
"""Those that type the graph, whatever their order."""


class Promise(str, Enum):
    """How far an edit moves the FP32 function."""

    EXACT = "exact"
    """Powers of two, casts: FP32 results are equal bit for bit except where subnormals enter."""
    REORDERED = "reordered"
    """The same real function in another order of operations."""
    ALTERED = "altered"
    """Another function on purpose (a clamp, an eps), only where calibration shows the FP32 answer unmoved."""


@dataclass(frozen=True, slots=True, order=True)
class Edit:
    """One change to a model: a rewrite by a rule, a rescale, a node placed in another format, or a tensor that saturates."""

    by: str
    """Who makes it: a rule by name, or ``rescale``, ``place``, ``saturate``, ``fp32-sums``."""
    node: str
    """ONNX node it starts from (for a fused pattern: the node that produces its output); empty where it is about tensors only."""
    promise: Promise
    covers: tuple[str, ...] = ()
    """Names of the nodes whose hazards this answers (``node`` included where it is one)."""
    tensor: str = ""
    """The tensor or initializer edited, where there is one."""
    shift: int = 0
    """Power-of-two exponent, for rules that have one."""
    values: tuple[tuple[str, float], ...] = ()
    """Other numbers it needs, by name. Of ``rescale`` the exponents: what a tensor stores becomes true × 2^−e."""
    because: str = ""
    """One sentence for the report: what is changed and why that helps."""
    format: str = ""
    """Of ``place``: ``fp32`` or ``bf16``."""

    @property
    def key(self) -> str:
        """What searches, journals and reports call it."""
        return "@".join(part for part in (self.by, self.format, self.node, self.tensor) if part)


def placement(node: str, format_: str, because: str = "") -> Edit:
    """``node`` computes in ``format_``."""
    return Edit(PLACE, node, Promise.EXACT, covers=(node,), format=format_, because=because)


def saturation(tensor: str, narrow: Format = FP16) -> Edit:
    """``tensor`` leaves its island through a Clip to ± the largest value of the narrow type."""
    why = f"not proven to fit {narrow} with the head-room asked for: what is larger saturates, it makes no infinity"
    return Edit(SATURATE, "", Promise.ALTERED, tensor=tensor, because=why)


def asking(node: str) -> Edit:
    """``node``, a product, stands in FP32 between casts, its weights in FP16 all the same: the way to ask for FP32 sums."""
    why = "held in FP16 its partial sums may pass 65504: operands are cast up and the result down, which asks for FP32 sums"
    return Edit(SUMS, node, Promise.EXACT, covers=(node,), because=why)


def rescaling(exponents: Mapping[str, int]) -> Edit:
    """Tensors stored as true × 2^−e. All of them are one edit: the laws of the operators bind them to each other."""
    values = tuple(sorted((name, float(e)) for name, e in exponents.items() if e))
    return Edit(RESCALE, "", Promise.EXACT, values=values, because="powers of two: folded into weights, no significand changes")


def placements_of(placed: Mapping[str, str], because: str = "") -> tuple[Edit, ...]:
    """Each node in its format."""
    return tuple(placement(node, placed[node], because) for node in sorted(placed))


@dataclass(frozen=True, slots=True, order=True)
class Refusal:
    """An edit that was not made, at ``node``: a result, not a failure."""

    node: str
    by: str
    """The rule, or the kind of hazard, or ``rescale``."""
    why: str
    harmless: bool = False
    """The hazard was shown to have no effect."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything done to a model, in order: what changes the FP32 graph, then placements and saturations, which type it."""

    edits: tuple[Edit, ...] = ()
    io: str | None = None
    """Type of all float inputs and outputs, ``fp32`` or the base; None keeps the file's."""
    apart: tuple[str, ...] = ()
    """Names that inputs give to dimensions which differ: TensorRT takes those of one name for equal, so each gets its own."""
    base: Base = Base.FP16
    """What every node computes in that is not placed."""

    @property
    def narrow(self) -> Format:
        """The base as a format."""
        return FORMATS[self.base.value]

    @property
    def changes(self) -> tuple[Edit, ...]:
        """Edits of the FP32 graph: rewrites and rescales."""
        return tuple(edit for edit in self.edits if edit.by not in TYPING)

    @property
    def rewrites(self) -> tuple[Edit, ...]:
        """Edits by rules."""
        return tuple(edit for edit in self.changes if edit.by != RESCALE)

    @property
    def exponents(self) -> dict[str, int]:
        """Tensor → e ≠ 0; ``tensor→node#index`` → what that use adds to e."""
        return {name: int(e) for edit in self.edits if edit.by == RESCALE for name, e in edit.values}

    @property
    def wide(self) -> dict[str, str]:
        """Node → format of everything that is placed."""
        return {edit.node: edit.format for edit in self.edits if edit.by == PLACE}

    @property
    def saturated(self) -> frozenset[str]:
        """Tensors that leave an island through a Clip."""
        return frozenset(edit.tensor for edit in self.edits if edit.by == SATURATE)

    @property
    def sums(self) -> frozenset[str]:
        """Products that are asked to add in FP32."""
        return frozenset(edit.node for edit in self.edits if edit.by == SUMS)

    @property
    def reasons(self) -> dict[str, str]:
        """Placed node → why it is."""
        return {edit.node: edit.because for edit in self.edits if edit.by == PLACE}

    @property
    def digest(self) -> str:
        """SHA-256 of what it does; reasons are left out."""
        plain = [replace(edit, because="", covers=()) for edit in self.edits]
        placed = sorted((edit for edit in plain if edit.by in TYPING), key=lambda edit: edit.key)
        ordered = [edit for edit in plain if edit.by not in TYPING]
        return hashlib.sha256(repr((ordered, placed, self.io, self.apart, *self.rare)).encode()).hexdigest()

    @property
    def rare(self) -> tuple[str, ...]:
        """The base where it is not FP16: digests of FP16 recipes are what they were before there was another one."""
        return () if self.base is Base.FP16 else (self.base.value,)

    def typed(self, edits: Iterable[Edit]) -> Recipe:
        """The same changes of the FP32 graph with other placements and saturations."""
        return replace(self, edits=(*self.changes, *edits))


def plain(placed: Mapping[str, str], io: str | None = None, apart: tuple[str, ...] = (), base: Base = Base.FP16) -> Recipe:
    """All in the base but for what the model's author placed."""
    return Recipe(placements_of(placed, "the model's author placed it"), io, apart, base)
