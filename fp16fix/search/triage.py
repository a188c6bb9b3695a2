"""First of all: is FP32 itself right, and is the fault one of FP16 rounding at all? Figures in, one plain sentence with evidence out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np

from fp16fix.diagnose.hazard import Kind
from fp16fix.errors import SampleError
from fp16fix.graph.model import Model
from fp16fix.graph.session import Session
from fp16fix.search.segments import Sample
from fp16fix.verify.compare import Tolerance, judge
from fp16fix.verify.metrics import Comparison
from fp16fix.verify.verdict import Figures, Verdict


class Fault(str, Enum):
    """What kind of fault it is."""

    REFERENCE = "reference"
    """FP32 itself does not give the reference outputs."""
    RANGE = "range"
    """Values leave FP16's range, at the top or at the bottom."""
    PRECISION = "precision"
    """Values fit, but FP16 is too coarse for what is computed from them."""
    SUMS = "sums"
    """Right as long as sums inside operators are held in FP32, wrong if they are held in FP16."""
    ELSEWHERE = "elsewhere"
    """Strict FP16 is right: no rounding of tensors explains a wrong engine."""


OF_RANGE = frozenset({Kind.OVERFLOW, Kind.VANISH, Kind.CONSTANT})


@dataclass(frozen=True, slots=True)
class Evidence:
    """What was measured; empty figures were not."""

    strict: Verdict
    """All-FP16, strictly emulated, against FP32."""
    pessimistic: Verdict | None = None
    """The same with sums held in FP16."""
    reference: Verdict | None = None
    """FP32 against the framework's own outputs."""
    autocast: tuple[Figures, ...] = ()
    """PyTorch's autocast against PyTorch's FP32."""


@dataclass(frozen=True, slots=True)
class Triage:
    """The answer."""

    fault: Fault
    verdict: str
    """One plain sentence."""
    evidence: tuple[str, ...]
    """One sentence for each thing measured."""


def triage(evidence: Evidence, kinds: Mapping[Kind, float]) -> Triage:
    """Decide.

    Args:
        evidence: what was measured.
        kinds: each kind's share of the final error, from the culprits.
    """
    fault = fault_of(evidence, kinds)
    return Triage(fault, sentence(fault, evidence, kinds), tuple(said(evidence)))


def fault_of(evidence: Evidence, kinds: Mapping[Kind, float]) -> Fault:
    """The first question with an answer wins."""
    if evidence.reference is not None and not evidence.reference.verified:
        return Fault.REFERENCE
    if evidence.strict.verified:
        return Fault.SUMS if evidence.pessimistic is not None and not evidence.pessimistic.verified else Fault.ELSEWHERE
    if any(figures.new_nonfinite for figures in evidence.strict.outputs):
        return Fault.RANGE
    of_range = sum(share for kind, share in kinds.items() if kind in OF_RANGE)
    return Fault.RANGE if of_range >= 0.5 * sum(kinds.values()) and kinds else Fault.PRECISION


def sentence(fault: Fault, evidence: Evidence, kinds: Mapping[Kind, float]) -> str:
    """The verdict in words."""
    worst = max(kinds, key=lambda kind: (kinds[kind], kind.value)).value if kinds else "rounding"
    if fault is Fault.REFERENCE and evidence.reference is not None:
        return (
            f"The FP32 model itself does not give the reference outputs ({evidence.reference.reasons[0]}): "
            "look at the export and the preprocessing before FP16."
        )
    if fault is Fault.RANGE:
        return f"A range fault: strict FP16 emulation reproduces it ({evidence.strict.reasons[0]}), mostly by {worst}."
    if fault is Fault.PRECISION:
        return (
            f"A precision fault, not one of range: strict FP16 emulation reproduces it ({evidence.strict.reasons[0]}), mostly by {worst}."
        )
    if fault is Fault.SUMS and evidence.pessimistic is not None:
        return (
            "Strict FP16 is right as long as sums inside operators are held in FP32, and wrong if they are held in FP16 "
            f"({evidence.pessimistic.reasons[0]}): the runtime must accumulate in FP32."
        )
    return (
        f"Not a fault of FP16 rounding: strict FP16 emulation is right ({brief(evidence.strict.outputs)}); if an engine is wrong, "
        "suspect TF32, a compiler bug, plugins, or preprocessing."
    )


def said(evidence: Evidence) -> Iterable[str]:
    """What was measured, sentence by sentence."""
    if evidence.reference is not None:
        how = "agrees" if evidence.reference.verified else "does not agree"
        yield f"FP32 {how} with the reference outputs: {brief(evidence.reference.outputs)}"
    if evidence.autocast:
        yield f"PyTorch autocast to FP16 against PyTorch FP32: {brief(evidence.autocast)}"
    yield f"all-FP16, strictly emulated, against FP32: {brief(evidence.strict.outputs)}"
    if evidence.pessimistic is not None:
        yield f"the same with sums held in FP16: {brief(evidence.pessimistic.outputs)}"


def brief(figures: Sequence[Figures]) -> str:
    """The three worst outputs in a few words."""
    worst = sorted(figures, key=lambda each: (-each.new_nonfinite, -each.mismatches, each.sqnr_db))[:3]
    return ", ".join(words(each) for each in worst)


def words(figures: Figures) -> str:
    """One output."""
    extra = f", {figures.new_nonfinite} values lost" if figures.new_nonfinite else ""
    extra += f", {figures.mismatches} values differ" if figures.mismatches else ""
    close = "equal" if figures.sqnr_db == float("inf") else f"{figures.sqnr_db:.1f} dB"
    return f"{figures.output} {close}{extra}"


def against_references(
    model: Model, samples: Iterable[Sample], references: Iterable[Mapping[str, np.ndarray]], tolerance: Tolerance, *, threads: int = 0
) -> Verdict:
    """FP32 outputs held to the framework's.

    Args:
        model: FP32.
        samples: in the order of the references.
        references: outputs by name; names that the model lacks are an error, outputs that it lacks are not compared.
        tolerance: as for FP16.
        threads: ONNX Runtime threads.

    Raises:
        SampleError: an unknown name, a shape that differs, or not one reference a sample.
    """
    session = Session(model, threads=threads)
    comparison, count = Comparison(), 0
    for number, (sample, reference) in enumerate(paired(samples, references)):
        found = session.run(sample)
        for name, value in reference.items():
            where = f"reference {number}"
            if name not in found:
                raise SampleError(f"has an array {name!r}, which is no output", where=where, hint=f"outputs are {', '.join(sorted(found))}")
            if np.shape(found[name]) != np.shape(value):
                raise SampleError(f"{name!r} has shape {np.shape(value)}, the model gives {np.shape(found[name])}", where=where)
        comparison.add(reference, found)
        count += 1
    return judge(comparison.figures(), tolerance, "reference", "engine", count)


def paired(samples: Iterable[Sample], references: Iterable[Mapping[str, np.ndarray]]) -> Iterable[tuple[Sample, Mapping[str, np.ndarray]]]:
    """Side by side; neither may be longer."""
    try:
        yield from zip(samples, references, strict=True)
    except ValueError as error:
        if "zip()" not in str(error):
            raise
        raise SampleError(
            "there is not one reference for each sample", hint="give one .npz a sample, in the order of the samples"
        ) from error


def read_references(folder: Path | str, names: Sequence[str]) -> Iterable[dict[str, np.ndarray]]:
    """Reference outputs of each sample, one ``.npz`` a sample, read one at a time.

    Args:
        folder: holds them; a file is a sample's if it is called like it, or else by its place in the sorted list.
        names: of the samples, in order.

    Raises:
        SampleError: no folder, or files that fit the samples neither by name nor by number.
    """
    folder = Path(folder)
    files = sorted(file for file in folder.glob("*.npz") if not file.name.startswith(".")) if folder.is_dir() else []
    by_stem = {file.stem: file for file in files}
    if all(name in by_stem for name in names) and names:
        files = [by_stem[name] for name in names]
    elif len(files) != len(names):
        raise SampleError(
            f"holds {len(files)} .npz files for {len(names)} samples", where=str(folder), hint="one .npz of outputs by name for each sample"
        )
    return (read(file) for file in files)


def read(file: Path) -> dict[str, np.ndarray]:
    """One file, never unpickled."""
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError) as error:
        raise SampleError(f"cannot be read ({error})", where=str(file), hint="write it with np.savez(file, output=array)") from error
