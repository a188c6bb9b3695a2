"""What the commands print: a few plain lines for people, one JSON document for machines."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from fp16fix.console.manner import manner
from fp16fix.console.text import document, escaped, out
from fp16fix.report.words import counted, decibels, hardest, percent, place, stress_words, visible

if TYPE_CHECKING:
    from fp16fix.engines.compiled import Compiled
    from fp16fix.half import Format
    from fp16fix.passes.evidence import Evidence
    from fp16fix.report.located import Located
    from fp16fix.report.outcome import EngineFacts, Outcome
    from fp16fix.search.shrink import Minimal
    from fp16fix.strict.box import Boxed
    from fp16fix.verdict.verdict import Figures, Part, Verdict

SHOWN = 12
"""Lines of a list before the rest is left to the JSON."""
WIDTH = 100
"""Columns of a paragraph."""
Item = TypeVar("Item")


def emit(value: Any) -> None:
    """One JSON document on standard output."""
    from fp16fix.report.document import portable

    document(escaped(json.dumps(portable(value), indent=1, ensure_ascii=False)) + "\n")


def shown(items: Sequence[Item], most: int = SHOWN) -> Sequence[Item]:
    """As many of a list as the manner allows."""
    return items if manner().verbose else items[:most]


def outcome(found: Outcome, *, as_json: bool) -> None:
    """The result of a repair."""
    if as_json:
        from fp16fix.report.outcome import to_json

        document(escaped(to_json(found)))
        return
    word = "VERIFIED" if found.verified else "NOT VERIFIED"
    decisive = found.engine.verdict or found.verdict
    by = "by running the engine" if found.engine.verdict else f"by {decisive.oracle} {found.narrow} emulation"
    head = f"\n{word} on {counted(decisive.samples, 'sample')} {by}{worst(decisive)}; engine: {found.engine.status}"
    out(head, "green" if found.verified else "red")
    for part in found.parts if found.engine.verdict is None else ():
        out(f"  worst of {counted(part.samples, f'{part.name} sample')}: {part_words(part)}")
    for each in hardest(decisive):
        out(f"  {stress_words(each)}")
    before = {figures.output: figures for figures in found.before}
    for reading in decisive.metrics:
        out(f"  metric {reading.metric}: {reading.value:.6g} (limit {reading.limit:g})")
    for figures in decisive.outputs:
        plain = before.get(figures.output)
        out(f"  {figures.output}: {error(plain)} → {error(figures)}" if plain is not None else f"  {figures.output}: {error(figures)}")
    counts, recipe = found.counts, found.recipe
    bf16 = f", BF16 nodes {counts.bf16_nodes}" if counts.bf16_nodes and found.narrow.name != "bf16" else ""
    out(
        f"  FP32 nodes {counts.fp32_nodes} of {counts.float_nodes}{bf16}, casts {counts.casts}, "
        f"rewrites {len(recipe.rewrites)}, rescaled tensors {len(recipe.exponents)}, Muls added {counts.muls_added}"
    )
    hazards(found)
    engine(found.engine, found.narrow)
    for line in (*decisive.reasons, *found.engine.problems):
        out(f"  ✗ {line}")
    for condition in found.conditions:
        out(f"  VERIFIED where products accumulate in FP32: {condition.why}" if found.verified else f"  condition: {condition.why}")
    for line in (*found.warnings, *shown(found.engine.warnings)):
        out(f"  ! {line}")
    if manner().verbose:
        derivation(found)
    for kind, path in sorted(found.files.items()):
        out(f"  {kind}: {path}")


def derivation(found: Outcome) -> None:
    """What was done and refused, what loading had to say, how long it took."""
    for each in found.recipe.edits:
        out(f"  edit {each.key} ({each.promise.value}): {each.because}")
    for refused in found.refusals:
        out(f"  refused {refused.by} at {refused.node}: {refused.why}")
    for note in (*found.model.notes, *found.samples.notes):
        out(f"  note: {note}")
    out("  seconds: " + ", ".join(f"{name} {spent:.1f}" for name, spent in found.stages.items()))


def engine(found: EngineFacts, narrow: Format) -> None:
    """What was built, which corners of its profiles the samples showed, how fast it is."""
    if found.path:
        out(
            f"  {found.backend} {found.version}: {found.plan_bytes:,} bytes for {', '.join(found.targets) or 'this GPU'}, "
            f"parse {found.parse_s:.1f} s, build {found.build_s:.1f} s, {found.layers(narrow)} {narrow} and {found.fp32_layers} FP32 layers"
        )
    if found.compiled is not None:
        out(f"  {became(found.compiled, tf32=found.tf32, int8_before=found.int8_before)}")
    if found.costs:
        from fp16fix.report.words import beside

        out(f"  bytes moved, weights too: {beside(found.costs)}")
    for corner in found.corners:
        state = "no sample" if corner.verdict is None else "verified" if corner.verdict.verified else "NOT VERIFIED"
        shapes = ", ".join(f"{name} {'x'.join(map(str, dims))}" for name, dims in corner.shapes.items())
        out(f"  profile {corner.profile} {corner.at} ({shapes}): {state}")
    if found.latency:
        out("  latency: " + ", ".join(f"{each.engine} {each.median_ms:.3f} ms" for each in found.latency))


def integers(found: Compiled, before: int | None) -> str:
    """``2 products in INT8, 2 in the model as given``."""
    given = "" if before is None else f", {before} in the model as given"
    return f"{counted(len(found.int8_products), 'product')} in INT8{given}"


def became(found: Compiled, *, tf32: bool | None, int8_before: int | None = None) -> str:
    """What a plan runs, in one line."""
    from fp16fix.report.words import crossing, grounds

    said = [f"{counted(found.kernels, 'kernel')} move {crossing(found)}"] if found.kernels else []
    said += [f"{counted(len(found.float_products), 'product')} in FP32{' (TF32 allowed)' if tf32 else ''}"] if found.float_products else []
    if found.int8_products or int8_before:
        said.append(integers(found, int8_before))
    said += [f"{counted(len(found.attention), 'attention')} fused"] if found.attention else []
    said += [f"{counted(len(found.narrowed), 'pin')} taken back"] if found.narrowed else []
    return f"{grounds(found)}: {', '.join(said) or 'nothing is known of fusion'}"


def hazards(found: Outcome) -> None:
    """Hazards by how they ended, the first few in full."""
    tally: dict[str, int] = {}
    for each in found.hazards:
        tally[each.end] = tally.get(each.end, 0) + 1
    out(f"  hazards {len(found.hazards)}" + (": " + ", ".join(f"{n} {end}" for end, n in sorted(tally.items())) if tally else ""))
    for each in shown(found.hazards):
        out(f"    {each.hazard.node}: {each.hazard.why} → {each.end}")
    more(found.hazards, found.files.get("outcome", "the outcome"), indent="    ")


def boxed(found: Boxed, *, as_json: bool) -> None:
    """What is proven of all inputs in a box."""
    if as_json:
        emit({"version": 1, "proven": found.proven, **asdict(found)})
        return
    given = ", ".join(f"{name} {'x'.join(map(str, shape))} in [{low:g}, {high:g}]" for name, (shape, (low, high)) in found.box.items())
    out(f"\n{'PROVEN: no' if found.proven else 'NOT PROVEN that no'} input in this box overflows in FP16 ({given})")
    for each in shown(found.open):
        out(f"  ✗ {each.node}{f' ({each.op})' if each.op else ''}: {each.why}")
    more(found.open, "the JSON (--json)")
    for held in shown(found.tensors) if found.proven else ():
        out(f"  {held.tensor}: [{held.low:.4g}, {held.high:.4g}], {held.margin:.1f} octaves below 65504")
    for far in shown(found.sums) if found.proven else ():
        out(f"  {far.node} ({far.op}, {far.terms} terms): partial sums to {far.bound:.4g}, {far.margin:.1f} octaves below")


def error(figures: Figures) -> str:
    """One output's error in a few words."""
    if figures.lost:
        return f"{figures.lost} lost{place(figures)}"
    if figures.mismatches:
        return f"{figures.mismatches} values differ{place(figures)}"
    return f"{figures.sqnr_db:.1f} dB{place(figures)} (off by at most {figures.max_abs:.3g})"


def part_words(part: Part) -> str:
    """``boxes 57.2 dB in day-3``."""
    figure = f"{part.lost} lost" if part.lost else f"{part.mismatches} differ" if part.mismatches else f"{part.sqnr_db:.1f} dB"
    return f"{part.output} {figure} in {part.sample}"


def worst(found: Verdict) -> str:
    """``, worst boxes: 51.2 dB in day-3``; nothing where nothing was compared."""
    from fp16fix.report.words import error

    decides = found.worst
    return f", worst {decides.output}: {error(decides)}{place(decides)}" if decides is not None else ""


def study(found: Evidence, *, as_json: bool) -> None:
    """Hazards of a model."""
    from fp16fix.passes.evidence import caveats

    warnings = caveats(found.samples, found.model)
    if as_json:
        rows = [{**asdict(h), "harmless": found.proofs.get(h)} for h in found.hazards]
        about = {"model": str(found.config.model), "digest": found.model.digest, "made_up_inputs": found.samples.made_up}
        emit({**about, "warnings": warnings, "hazards": rows})
        return
    for line in warnings:
        out(f"! {line}")
    out(f"{len(found.hazards)} hazards in {len(list(found.model.nodes()))} nodes, {len(found.proofs)} proven harmless")
    for hazard in found.hazards:
        proof = found.proofs.get(hazard)
        out(
            f"  {hazard.kind.value:9s}{hazard.node}  ({hazard.tensor})\n           {hazard.why}"
            + (f"\n           harmless: {proof}" if proof else "")
        )


def located(found: Located, *, as_json: bool) -> None:
    """Triage, culprits worst first, and what must be FP32 if that was asked."""
    from fp16fix.report.located import to_json

    if as_json:
        document(escaped(to_json(found)))
        return
    for line in found.warnings:
        say(f"! {line}")
    say(found.triage.verdict)
    for line in found.triage.evidence:
        say(line, "  ")
    culprits(found)
    if found.carried:
        say(f"damaged only by what was born before: {counted(len(found.carried), 'node')}")
    if found.minor:
        say(f"lose too little to matter by themselves: {counted(len(found.minor), 'node')}")
    if found.minimal is not None:
        minimal(found.minimal, found.files.get("location", "the JSON"))
    for kind, path in sorted(found.files.items()):
        out(f"  {kind}: {path}")


def culprits(found: Located) -> None:
    """Nodes in which error is born, the first few in full."""
    from fp16fix.report.located_view import harmful, inside, pinning

    what = "damage" if harmful(found) else "error"
    if found.culprits:
        say(f"where error is born, worst first ({percent(found.explained)} of the {what} explained):")
    for number, each in enumerate(shown(found.culprits), 1):
        say(f"{number:3d}. {each.node} ({each.op}){inside(each)}", "", "     ")
        figures = f", {percent(each.share)} of the {what}, {decibels(each.sqnr_in_db)} → {decibels(each.sqnr_out_db)}"
        say(f"{each.kind}, inside" if math.isnan(each.share) else f"{each.kind}{figures}", "     ")
        if each.why:
            say(each.why, "     ")
        say(f"answered by: {each.repair}", "     ")
    more(found.culprits, found.files.get("location", "the JSON"))
    if pinning(found):
        say(pinning(found))


def minimal(found: Minimal, file: str) -> None:
    """The least that must be FP32, and how far that can be trusted."""
    from fp16fix.report.located_view import PINS, flaky, least

    say(f"least that must be FP32, by {found.oracle} ({counted(found.calls, 'call')}):")
    say(least(found), "  ")
    for name in shown(found.pins, PINS):
        say(name, "    ")
    more(found.pins, file, PINS)
    for names in shown(found.together):
        say(f"hurt only together: {' + '.join(names[:PINS])}", "  ", "    ")
    more(found.together, file)
    if found.flaky:
        say(f"! {flaky(found)}", "  ")


def more(items: Sequence[Any], file: str, most: int = SHOWN, indent: str = "  ") -> None:
    """How many of a list were not shown, and where they are."""
    left = len(items) - len(shown(items, most))
    if left:
        out(f"{indent}… and {left} more in {file}")


def say(text: str, indent: str = "", hanging: str | None = None) -> None:
    """A paragraph of at most ``WIDTH`` columns; a name is never broken, and shows as what it is."""
    rest = indent if hanging is None else hanging
    out(textwrap.fill(visible(text), WIDTH, initial_indent=indent, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False))
