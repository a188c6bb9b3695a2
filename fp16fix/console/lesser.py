"""What the smaller commands print: weights, comparisons, builds, what works here, what would be done."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from fp16fix.console.show import became, emit, error, more, shown, worst
from fp16fix.console.text import out
from fp16fix.report.words import counted, hardest, stress_words

if TYPE_CHECKING:
    from fp16fix.engines.doctor import Doctor
    from fp16fix.tasks.build import BuiltPlan
    from fp16fix.tasks.preview import Preview
    from fp16fix.tasks.verify import Compared
    from fp16fix.weights import WeightReport


def preview(found: Preview, *, as_json: bool) -> None:
    """What a repair would do."""
    if as_json:
        rows = [{**asdict(hazard), "harmless": found.proofs.get(hazard)} for hazard in found.hazards]
        emit({**asdict(replace(found, proofs={})), "proofs": len(found.proofs), "hazards": rows})
        return
    source, calibration, held_out = found.samples
    out(f"nothing is written; on {source}: {counted(calibration, 'sample')} to calibrate on, {held_out} held out")
    for line in found.warnings:
        out(f"  ! {line}")
    out(f"  hazards {len(found.hazards)}, {len(found.proofs)} proven harmless")
    for hazard in shown(found.hazards):
        out(f"    {hazard.node}: {hazard.why}{' (harmless)' if hazard in found.proofs else ''}")
    more(found.hazards, "diagnose -v", indent="    ")
    passes = "passes with margin" if found.plain.good and found.plain.spare_db >= 0 else "does not pass"
    out(f"  plain {found.recipe.narrow} on the calibration samples: {found.plain.figure:.1f} dB, {passes}")
    edits = found.recipe.edits
    out(f"  first draft, {counted(len(edits), 'edit')}; where it fails, a search pins more" if edits else "  no edit would be made")
    for each in shown(edits):
        out(f"    {each.key}: {each.because}")
    more(edits, "--dry-run -v", indent="    ")
    for refused in shown(found.refusals):
        out(f"    refused {refused.by} at {refused.node}: {refused.why}")
    if found.backend:
        out(f"  an engine would be built by the backend {found.backend}")
    for kind, path in found.files.items():
        out(f"  {kind}, if verified: {path}" if kind in {"onnx", "plan"} else f"  {kind}: {path}")


def weights(found: WeightReport, *, as_json: bool) -> None:
    """What FP16 does to weights."""
    if as_json:
        emit({**asdict(found), "verdict": found.verdict})
        return
    out(found.verdict)
    for tensor in shown(found.worst):
        out(
            f"  {tensor.name} {list(tensor.shape)}: {tensor.past} past FP16, {tensor.flushed} flushed to zero, "
            f"{tensor.subnormal} subnormal, {tensor.nonfinite} not finite; "
            f"largest {tensor.absmax:.4g}, worst cast error {tensor.max_abs:.3g} ({tensor.max_rel:.2%})"
        )
    more(found.worst, "the JSON (--json)")
    for note in found.notes:
        out(f"  ! {note}")


def verdict(compared: Compared, *, as_json: bool) -> None:
    """A comparison, and of what."""
    found = compared.verdict
    if as_json:
        emit({**asdict(found), "digests": asdict(compared.digests)})
        return
    word = "VERIFIED" if found.verified else "NOT VERIFIED"
    head = f"{word} on {counted(found.samples, 'sample')} ({found.oracle}, {found.profile} profile){worst(found)}"
    out(head, "green" if found.verified else "red")
    for figures in found.outputs:
        out(f"  {figures.output}: {error(figures)}, cosine {figures.cosine:.6f}")
    for each in hardest(found):
        out(f"  {stress_words(each)}")
    for line in found.reasons:
        out(f"  ✗ {line}")
    for line in found.notes:
        out(f"  ! {line}")
    for what, digest in asdict(compared.digests).items():
        out(f"  SHA-256 of the {what}: {digest}")


def built(made: BuiltPlan, *, as_json: bool) -> None:
    """An engine build, and what the compiler made of the graph."""
    from fp16fix.engines.compiled import problems

    found = made.built
    if as_json:
        emit({**asdict(found), "plan": str(found.plan), "tf32": made.tf32, "compiled": asdict(made.compiled)})
        return
    out(
        f"{found.plan}: {found.plan_bytes:,} bytes by {found.backend} {found.backend_version} "
        f"for {', '.join(found.targets) or 'this GPU'}, parse {found.parse_s:.1f} s, build {found.build_s:.1f} s; built, not executed"
    )
    out(f"  {became(made.compiled, tf32=made.tf32)}")
    for line in shown((*problems(made.compiled), *found.warnings)):
        out(f"  ! {line}")


def doctor(found: Doctor, *, as_json: bool) -> None:
    """What works here."""
    if as_json:
        emit(asdict(found))
        return
    for each in found.backends:
        state = "works" if each.works else "installed, does not work" if each.installed else "not installed"
        out(f"{each.name:7s}{state}{f' ({each.version})' if each.version else ''}: {each.would if each.works else each.why}")
        if not each.works and each.how_to_install:
            out(f"       → {each.how_to_install}")
    out("telemetry: ONNX Runtime's is off; nothing here talks to a network but what you name by a URL or an address")
    out(f"plans {'run here' if found.executes else 'are not run here: ' + found.why_not}")
