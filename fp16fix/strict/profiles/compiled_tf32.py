"""The profile ``compiled`` with TF32 left on, as builders have it by default."""

from __future__ import annotations

from typing import ClassVar

from fp16fix.graph.model import Model
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.strict.tf32 import round_operands


class CompiledTf32(Compiled):
    """FP32 products round their operands to TF32."""

    name: ClassVar[str] = "compiled-tf32"

    def written(self, model: Model) -> Model:
        """As a plan stores it."""
        copy = super().written(model)
        round_operands(copy)
        return copy
