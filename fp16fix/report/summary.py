"""Evidence, draft, proof, engine → ``Outcome``: what is told about a repair, and how every hazard ended."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import fp16fix
from fp16fix.config import Config
from fp16fix.graph import safe
from fp16fix.graph.lone import kept_narrow
from fp16fix.graph.loops import deciders
from fp16fix.graph.lower import count_types
from fp16fix.graph.model import Constant, Model, Node, element_type
from fp16fix.graph.ops import float_inputs, float_outputs, is_float_node
from fp16fix.half import BF16, FP32, Format
from fp16fix.hazards.hazard import Hazard, Kind
from fp16fix.passes.design import Draft, matches
from fp16fix.passes.evidence import Evidence, caveats
from fp16fix.passes.place.islands import flops
from fp16fix.passes.recipe import Refusal
from fp16fix.process.versions import versions
from fp16fix.progress import Stages
from fp16fix.ranges.range import Range
from fp16fix.report.informed import Informed
from fp16fix.report.outcome import Along, Asked, Counts, Disposition, EngineFacts, ModelFacts, Outcome, SampleFacts, Wired
from fp16fix.search.answer import Answer
from fp16fix.search.trials import Trials
from fp16fix.trace.damage import Damage
from fp16fix.verdict.verdict import parts

MASK_OCTAVES = 4
"""Values in so few octaves are a mask's literals."""


def summarise(
    trials: Trials, answer: Answer, typed: Model, engine: EngineFacts, informed: Informed, stages: Stages, command: Sequence[str]
) -> Outcome:
    """The outcome, before any file is written."""
    found, draft = trials.evidence, answer.draft
    ends = dispositions(found, answer)
    return Outcome(
        tool=fp16fix.__version__,
        command=tuple(command),
        model=model_facts(found),
        samples=sample_facts(found),
        versions=versions(),
        hazards=ends,
        recipe=answer.recipe,
        refusals=(
            *draft.refusals,
            *(Refusal(e.hazard.node, e.hazard.kind.value, e.by, e.end == "harmless") for e in ends if e.end in {"harmless", "refused"}),
        ),
        verdict=answer.verdict,
        pessimistic=informed.pessimistic,
        before=informed.before,
        equivalence=informed.equivalence,
        counts=counts(draft, typed),
        along=along(found.model, informed.along_before, informed.along_after),
        ranges=tuple(found.ranges.values()),
        repaired_ranges=tuple(draft.ranges.values()),
        headroom=found.config.headroom,
        engine=engine,
        stages={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
        derivation=answer.derivation,
        independent=answer.independent,
        parts=parts(answer.verdict, len(found.calibration), 0 if found.shared else len(found.held_out)),
        warnings=warnings(found, answer, typed, informed),
        wide_tensors=wide_tensors(typed, found.model.narrow),
        conditions=answer.conditions,
        accumulate=answer.accumulate,
        certificate=answer.certificate,
        asked=asked(found),
        graph=wired(found.model),
    )


def asked(found: Evidence) -> tuple[Asked, ...]:
    """What each output is held to."""
    bounds = ((tensor.name, found.config.tolerance.of(tensor.name)) for tensor in found.model.graph.outputs)
    return tuple(Asked(name, b.sqnr_db, b.max_abs, b.max_rel, b.cosine, b.unit or "") for name, b in bounds)


def wired(model: Model) -> tuple[Wired, ...]:
    """Who reads what: the main graph without its constants."""
    return tuple(
        Wired(
            node.name,
            node.op,
            tuple(dict.fromkeys(t.name for t in node.inputs if t.name and not isinstance(t, Constant))),
            tuple(t.name for t in node.outputs if t.name),
        )
        for node in model.graph.nodes
    )


def model_facts(found: Evidence) -> ModelFacts:
    """The file as it was loaded."""
    model = found.model
    return ModelFacts(
        str(found.config.model),
        model.digest,
        model.opset,
        len(list(model.nodes())),
        simplified=found.config.simplify and not safe.is_on(),
        notes=tuple(model.notes),
    )


def sample_facts(found: Evidence) -> SampleFacts:
    """What the verdict rests on."""
    samples = found.samples
    return SampleFacts(
        samples.source,
        samples.digest(),
        len(samples),
        len(found.calibration),
        len(found.held_out),
        samples.made_up,
        found.shared,
        samples.notes,
    )


def dispositions(found: Evidence, answer: Answer) -> tuple[Disposition, ...]:
    """Every hazard of the original model with its end."""
    recipe, wide, reasons = answer.recipe, answer.recipe.wide, answer.recipe.reasons
    scaled = {name.split("→")[0]: e for name, e in recipe.exponents.items()}
    covered = {node: edit for edit in recipe.rewrites for node in (edit.node, *edit.covers)}
    left = {(hazard.node, hazard.kind) for hazard in answer.draft.remaining}
    nodes = found.model.node_map()

    def end(hazard: Hazard) -> Disposition:
        if hazard in answer.draft.proofs:
            return Disposition(hazard, "harmless", answer.draft.proofs[hazard])
        if matches(hazard.node, found.config.allow):
            return Disposition(hazard, "refused", f"the user allows this node in {found.model.narrow} as it is")
        if hazard.kind is Kind.ENDLESS and (names := [each.name for each in deciders(nodes[hazard.node]) if each.name in wide]):
            return Disposition(hazard, "pinned", f"what decides when it ends is computed in FP32: {', '.join(names)}")
        if hazard.node in wide:
            return Disposition(hazard, "pinned", f"{wide[hazard.node]}: no rule and no exponent holds it: {reasons[hazard.node]}")
        if hazard.node in covered:
            edit = covered[hazard.node]
            return Disposition(hazard, "repaired", f"{edit.by} ({edit.promise.value}): {edit.because}")
        if hazard.tensor in scaled:
            return Disposition(hazard, "rescaled", f"stored as true × 2^{-scaled[hazard.tensor]:d} (exact)")
        if hazard.internal:
            return Disposition(
                hazard, "harmless", "it is inside this operator, where FP32 is assumed (notes/arithmetic.md); strict emulation passes"
            )
        if (hazard.node, hazard.kind) in left:
            return Disposition(hazard, "refused", "nothing could be done here; see the verdict")
        return Disposition(hazard, "gone", "another repair took its cause away")

    return tuple(end(hazard) for hazard in found.hazards)


def counts(draft: Draft, typed: Model) -> Counts:
    """Nodes, casts, FLOPs and bytes of the typed graph."""
    total = {"flops": 0.0, "bytes": 0.0}
    wide, narrow = {"flops": 0.0, "bytes": 0.0}, kept_narrow(typed)
    # Sizes are known of what the FP32 graph reads, not of what casts make of it.
    exact = draft.model.node_map()
    for node in typed.nodes():
        if not is_float_node(node):
            continue
        work, moved = flops(exact.get(node.name, node), draft.ranges), traffic(node, draft.ranges)
        total["flops"] += work
        total["bytes"] += moved
        if any(element_type(t) == FP32.onnx for t in float_outputs(node)) and node.op != "Cast" and node.name not in narrow:
            wide["flops"] += work
            wide["bytes"] += moved
    return Counts(
        **count_types(typed),
        muls_added=draft.muls,
        flops_total=total["flops"],
        flops_fp32=wide["flops"],
        bytes_total=total["bytes"],
        bytes_fp32=wide["bytes"],
        island_cost_bytes=draft.island_bytes,
    )


def wide_tensors(typed: Model, narrow: Format) -> tuple[str, ...]:
    """Activations that the typed graph holds in FP32, or in BF16 where that is not the narrow type, borders aside."""
    wide = {FP32.onnx, BF16.onnx} - {narrow.onnx}
    return tuple(t.name for node in typed.graph.nodes if node.op != "Cast" for t in float_outputs(node) if element_type(t) in wide)


def traffic(node: Node, ranges: Mapping[str, Range]) -> float:
    """Bytes of float tensors a node reads and writes."""
    moved = 0.0
    for tensor in (*float_inputs(node), *float_outputs(node)):
        seen = ranges.get(tensor.name.removesuffix("/fp16").removesuffix("/bf16").removesuffix("/fp32"))
        shape = tuple(tensor.shape) if isinstance(tensor, Constant) else seen.shape if seen is not None else ()
        moved += math.prod(shape) * (4 if element_type(tensor) == FP32.onnx else 2)
    return moved


def along(model: Model, before: Mapping[str, Damage], after: Mapping[str, Damage]) -> tuple[Along, ...]:
    """Damage at the first float output of every node of the original graph."""
    steps = []
    for node in model.graph.nodes:
        outputs = float_outputs(node)
        if outputs and outputs[0].name in before:
            name = outputs[0].name
            steps.append(Along(node.name, node.op, name, before[name].damage_db, after[name].damage_db if name in after else None))
    return tuple(steps)


def tight(draft: Draft, typed: Model, headroom: float) -> list[tuple[float, str]]:
    """Head-room and name of narrow tensors that have less than asked for, the tightest first; masks and harmless overflows do not grow."""
    wide, narrow = set(wide_tensors(typed, draft.model.narrow)), draft.model.narrow
    left = {name: narrow.headroom(seen.absmax) for name, seen in draft.ranges.items()}
    masks = {name for name, seen in draft.ranges.items() if len(seen.octaves) <= MASK_OCTAVES}
    return sorted((room, name) for name, room in left.items() if room < headroom and name not in wide | draft.spared | masks)


def margin_warnings(found: Evidence, answer: Answer) -> Iterator[str]:
    """How little lies between a verdict that passes and one that does not."""
    verdict, wanted = answer.verdict, found.config.search.margin_db
    if not answer.independent:
        yield "The held-out samples failed at first and joined the search: the verdict does not rest on samples that nobody looked at."
    if verdict.verified and verdict.spare_db < wanted:
        yield f"Only {verdict.spare_db:.1f} dB lie between the verdict and its bound {verdict.spare_at}; searches aim at {wanted:g} dB."


def safe_warnings() -> tuple[str, ...]:
    """That graph optimisers were off, and why."""
    said = f"{safe.why()}: everything was repeated once in safe mode, with onnxsim and ONNX Runtime's optimisers off."
    return (said,) if safe.is_on() else ()


def base_warnings(config: Config) -> Iterator[str]:
    """That the bound is not FP16's."""
    if config.holds_to_its_own_bound:
        yield (
            f"Outputs are held to {config.tolerance.sqnr_db:g} dB, the default where the base is {config.narrow}: it rounds "
            f"{config.narrow.coarseness:g} times as coarsely as FP16. tolerance.sqnr_db (--sqnr) asks for more."
        )


def sum_warnings(answer: Answer) -> Iterator[str]:
    """Products whose FP32 sums were asked for: a kernel that adds in FP16 all the same would overflow there."""
    over = [each for each in answer.certificate if each.node in answer.recipe.sums]
    if over:
        names = ", ".join(each.node for each in over)
        yield f"Partial sums may reach {over[0].bound:.3g} in {names}: casts there ask for FP32 sums, and cost no kernel."


def warnings(found: Evidence, answer: Answer, typed: Model, informed: Informed) -> tuple[str, ...]:
    """What a reader must know before trusting the verdict."""
    said = [*caveats(found.samples, found.model), *answer.verdict.notes, *safe_warnings(), *informed.failed]
    said += [*margin_warnings(found, answer), *base_warnings(found.config)]
    said += [*sum_warnings(answer)]
    if answer.stopped:
        said.append(f"The search for pins was stopped ({answer.stopped}): what is used is the best that it had found.")
    if answer.flaky:
        said.append(f"The check command is flaky: it contradicted itself about {answer.flaky} of the candidates; such a one is not used.")
    odd = [name for name, seen in found.ranges.items() if seen.nonfinite]
    if odd:
        said.append(f"The FP32 run itself holds NaN or infinite values in {len(odd)} tensors, the first is {odd[0]!r}.")
    close = tight(answer.draft, typed, found.config.headroom)
    if close:
        room, name = close[0]
        many = f"1 {found.model.narrow} tensor has" if len(close) == 1 else f"{len(close)} {found.model.narrow} tensors have"
        when = f"driven {2.0**room:.1f} times higher, it overflows" if room > 0.0 else "it overflows already"
        said.append(
            f"{many} less head-room than the {found.config.headroom:g} octaves asked for, the least is {room:.1f} at {name!r}: {when}."
        )
    second = informed.pessimistic
    failed = second.outputs and not second.verified and second.profile == "pessimistic"
    if answer.verdict.verified and not answer.conditions and failed:
        said.append(
            "Everything stepwise in FP16 (the pessimistic profile) it would fail: it relies on FP32 inside operators, as plans show it."
        )
    return tuple(said)
