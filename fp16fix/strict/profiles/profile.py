"""``Profile``: one assumption about the arithmetic inside operators."""

from __future__ import annotations

from typing import ClassVar, Protocol

import onnx_graphsurgeon as gs

from fp16fix.graph.edit import Editor
from fp16fix.graph.model import Model


class Profile(Protocol):
    """A file of this folder defines one class with these members; ``profiles/__init__.py`` finds it."""

    name: ClassVar[str]
    """What the config's ``profile`` and ``--numerics`` call it."""
    sums_in_half: ClassVar[bool]
    """Sums inside operators are held in FP16, so that what only they see is a hazard."""

    of_half: ClassVar[bool]
    """What it assumes is of FP16 kernels alone, and says nothing of another base."""

    one_step: ClassVar[frozenset[str]]
    """Operators that a parser takes apart (``strict.insides``) and a compiler makes one kernel of, nothing stored between."""

    def written(self, model: Model) -> Model:
        """A copy of the typed graph, to be edited further, with operators replaced by the steps they are computed in."""
        ...

    def result(self, edit: Editor, node: gs.Node, raw: gs.Tensor) -> tuple[gs.Tensor, list[gs.Node]]:
        """What an FP16 result holds before it is rounded, and the nodes that compute that from the FP32 operator's ``raw`` result."""
        ...
