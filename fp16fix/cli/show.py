"""What the commands print: a few plain lines for people, one JSON document for machines."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from fp16fix.build import Built
    from fp16fix.build.doctor import Doctor
    from fp16fix.report.outcome import Outcome
    from fp16fix.study import Study
    from fp16fix.verify.verdict import Figures, Verdict
    from fp16fix.zoo.run import Summary

SHOWN = 12
"""Lines of a list before the rest is left to the JSON."""


def emit(value: Any) -> None:
    """One JSON document on standard output."""
    from fp16fix.report.outcome import portable

    typer.echo(json.dumps(portable(value), indent=1, ensure_ascii=False))


def outcome(found: Outcome, *, as_json: bool) -> None:
    """The result of a repair."""
    if as_json:
        from fp16fix.report.outcome import to_json

        typer.echo(to_json(found))
        return
    word = "VERIFIED" if found.verified else "NOT VERIFIED"
    typer.echo(
        f"\n{word} on {found.verdict.samples} held-out samples by {found.verdict.oracle} FP16 emulation; engine: {found.engine.status}"
    )
    before = {figures.output: figures for figures in found.before}
    for figures in found.verdict.outputs:
        typer.echo(f"  {figures.output}: {error(before.get(figures.output))} → {error(figures)}")
    counts = found.counts
    typer.echo(
        f"  FP32 nodes {counts.fp32_nodes} of {counts.float_nodes}, casts {counts.casts}, "
        f"rewrites {len(found.recipe.repairs) + len(found.recipe.finish)}, rescaled tensors {len(found.recipe.exponents)}, Muls added {counts.muls_added}"
    )
    hazards(found)
    if found.engine.path:
        engine = found.engine
        typer.echo(
            f"  {engine.backend} {engine.version}: {engine.plan_bytes:,} bytes for {', '.join(engine.targets) or 'this GPU'}, "
            f"parse {engine.parse_s:.1f} s, build {engine.build_s:.1f} s, {engine.fp16_layers} FP16 and {engine.fp32_layers} FP32 layers"
        )
    for line in (*found.verdict.reasons, *found.engine.problems):
        typer.echo(f"  ✗ {line}")
    for line in found.warnings:
        typer.echo(f"  ! {line}")
    for kind, path in sorted(found.files.items()):
        typer.echo(f"  {kind}: {path}")


def hazards(found: Outcome) -> None:
    """Hazards by how they ended, the first few in full."""
    tally: dict[str, int] = {}
    for each in found.hazards:
        tally[each.end] = tally.get(each.end, 0) + 1
    typer.echo(f"  hazards {len(found.hazards)}" + (": " + ", ".join(f"{n} {end}" for end, n in sorted(tally.items())) if tally else ""))
    for each in found.hazards[:SHOWN]:
        typer.echo(f"    {each.hazard.node}: {each.hazard.why} → {each.end}")
    if len(found.hazards) > SHOWN:
        typer.echo(f"    … and {len(found.hazards) - SHOWN} more in {found.files.get('outcome', 'the outcome')}")


def error(figures: Figures | None) -> str:
    """One output's error in a few words."""
    if figures is None:
        return "?"
    if figures.new_nonfinite:
        return f"{figures.new_nonfinite} NaN/inf"
    if figures.mismatches:
        return f"{figures.mismatches} values differ"
    return f"{figures.sqnr_db:.1f} dB (off by at most {figures.max_abs:.3g})"


def study(found: Study, *, as_json: bool) -> None:
    """Hazards of a model."""
    if as_json:
        rows = [{**asdict(h), "harmless": found.proofs.get(h)} for h in found.hazards]
        emit({"model": str(found.config.model), "digest": found.model.digest, "made_up_inputs": found.samples.made_up, "hazards": rows})
        return
    if found.samples.made_up:
        typer.echo("! no real inputs were given: made-up ones show made-up ranges")
    typer.echo(f"{len(found.hazards)} hazards in {len(list(found.model.nodes()))} nodes, {len(found.proofs)} proven harmless")
    for hazard in found.hazards:
        proof = found.proofs.get(hazard)
        typer.echo(
            f"  {hazard.kind.value:9s}{hazard.node}  ({hazard.tensor})\n           {hazard.why}"
            + (f"\n           harmless: {proof}" if proof else "")
        )


def verdict(found: Verdict, *, as_json: bool) -> None:
    """A comparison."""
    if as_json:
        emit(asdict(found))
        return
    typer.echo(f"{'VERIFIED' if found.verified else 'NOT VERIFIED'} on {found.samples} samples ({found.oracle}, {found.profile} profile)")
    for figures in found.outputs:
        typer.echo(f"  {figures.output}: {error(figures)}, cosine {figures.cosine:.6f}")
    for line in found.reasons:
        typer.echo(f"  ✗ {line}")


def built(found: Built, *, as_json: bool) -> None:
    """An engine build."""
    if as_json:
        emit({**asdict(found), "plan": str(found.plan)})
        return
    typer.echo(
        f"{found.plan}: {found.plan_bytes:,} bytes by {found.backend} {found.backend_version} for {', '.join(found.targets) or 'this GPU'}, "
        f"parse {found.parse_s:.1f} s, build {found.build_s:.1f} s; built, not executed"
    )
    for line in found.warnings[:SHOWN]:
        typer.echo(f"  ! {line}")


def doctor(found: Doctor, *, as_json: bool) -> None:
    """What works here."""
    if as_json:
        emit(asdict(found))
        return
    for each in found.backends:
        state = "works" if each.works else "installed, does not work" if each.installed else "not installed"
        typer.echo(f"{each.name:7s}{state}{f' ({each.version})' if each.version else ''}: {each.would if each.works else each.why}")
        if not each.works and each.how_to_install:
            typer.echo(f"       → {each.how_to_install}")
    typer.echo(f"plans {'run here' if found.executes else 'are not run here: ' + found.why_not}")


def zoo(found: Summary, *, as_json: bool) -> None:
    """A batch."""
    if as_json:
        emit(asdict(found))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("model", "verdict", "plain FP16", "repaired", "FP32 nodes", "seconds")
    for row in found.rows:
        table.add_row(row.name, row.status, row.before, row.after, row.fp32_nodes, f"{row.seconds:.0f}")
    Console().print(table)
    for row in found.rows:
        if row.error:
            typer.echo(f"{row.name}: {row.error}")
    typer.echo(f"{found.files['index']}")
