"""``Outcome``: the result of a repair in the hands of Python: the product, the verdict, and what to show."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx

from fp16fix.errors import InputError, UnverifiedError, first_line
from fp16fix.inputs.spool import Spool

if TYPE_CHECKING:
    from fp16fix.report.outcome import Counts
    from fp16fix.report.outcome import Outcome as Document
    from fp16fix.verdict.verdict import Figures, Verdict


@dataclass(frozen=True, slots=True, repr=False)
class Outcome:
    """What ``repair`` found, did and proved; in a notebook, its figures, edits and ranges."""

    document: Document
    """Everything, as ``x.outcome.json`` has it (notes/outcome.md)."""
    files: Mapping[str, Path]
    """What was written and stays, by kind: ``onnx``, ``plan``, ``outcome``, ``report``; empty where no ``output`` was given."""
    framework: Verdict | None = None
    """The ONNX model in FP32 against the PyTorch module that it came from; None without a module, or where it draws random numbers."""
    autocast: Verdict | None = None
    """PyTorch's autocast to FP16 against the module in FP32."""
    _products: Mapping[str, Path] | None = None
    _scratch: Spool | None = None

    @property
    def verified(self) -> bool:
        """The verdict passes, and the engine, if any, is what was asked for."""
        return self.document.verified

    @property
    def verdict(self) -> Verdict:
        """The repaired graph against FP32, over all samples; the engine's own where one was run."""
        return self.document.engine.verdict or self.document.verdict

    @property
    def before(self) -> tuple[Figures, ...]:
        """Plain FP16 against FP32: one entry an output, SQNR in dB, ``max_abs`` in the output's own unit."""
        return self.document.before

    @property
    def counts(self) -> Counts:
        """The repaired graph in numbers: nodes in FP32, casts, FLOPs, bytes."""
        return self.document.counts

    @property
    def warnings(self) -> tuple[str, ...]:
        """What must be said beside the verdict, a sentence each."""
        return self.document.warnings

    @property
    def model(self) -> onnx.ModelProto:
        """The repaired graph with its types, as any TensorRT ≥ 10 builds it strongly typed; read anew at each access.

        Raises:
            UnverifiedError: the repair is not verified and ``keep_unverified`` was not asked for.
            InputError: its file is not there any more.
        """
        path = self._product("onnx")
        try:
            return onnx.load(path)
        except Exception as error:  # protobuf and OS errors share no base class
            raise InputError(f"the repaired graph cannot be read ({first_line(error)})", where=str(path)) from error

    @property
    def plan(self) -> bytes | None:
        """The engine, for ``Runtime.deserialize_cuda_engine``; None where none was asked for (an ``output`` that ends in ``.plan``).

        Raises:
            UnverifiedError, InputError: as ``model``.
        """
        if self.document.engine.status == "not built" and self.verified:
            return None
        path = self._product("plan")
        try:
            return path.read_bytes()
        except OSError as error:
            raise InputError(f"the plan cannot be read ({error.strerror})", where=str(path)) from error

    def to_json(self) -> str:
        """The document as JSON."""
        from fp16fix.report.outcome import to_json

        return to_json(self.document)

    def show(self) -> None:
        """Print what the command line prints."""
        from fp16fix.console.show import outcome

        outcome(self.document, as_json=False)

    def _product(self, kind: str) -> Path:
        made = self._products or {}
        found = made.get(kind) or made.get(f"{kind} (unverified)")
        if found is None:
            why = "; ".join((*self.verdict.reasons, *self.document.engine.problems))
            hint = "keep_unverified=True gives it all the same"
            raise UnverifiedError(f"not verified, so there is no {kind} ({why})", where=self.document.model.path, hint=hint)
        return found

    def __repr__(self) -> str:
        from fp16fix.report.words import counted, error

        worst = self.verdict.worst
        figure = f", worst {worst.output} {error(worst)}" if worst is not None else ""
        wide = f", {self.counts.fp32_nodes} of {counted(self.counts.float_nodes, 'float node')} in FP32"
        return f"<Outcome {'VERIFIED' if self.verified else 'NOT VERIFIED'} on {counted(self.verdict.samples, 'sample')}{figure}{wide}>"

    def _repr_html_(self) -> str:
        """Figures, edits and the range chart, in a frame of their own so that no style meets the notebook's."""
        from fp16fix.report.html import render_cell

        return render_cell(self.document)
