"""An answer that passes → the same, with what kernels that add in FP16 would make of it: certificate, second gate, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fp16fix.config import Config
from fp16fix.errors import Fp16fixError, first_line
from fp16fix.graph.model import Model
from fp16fix.half import LARGEST
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.passes.design import matches
from fp16fix.passes.evidence import Arrays
from fp16fix.passes.place.attention import around, outside_attention
from fp16fix.passes.recipe import asking, placements_of
from fp16fix.process.memory import given_back
from fp16fix.progress import Stages, Tick
from fp16fix.search.answer import Answer
from fp16fix.search.draft import reaching
from fp16fix.search.trials import Trials
from fp16fix.strict.certificate import certified
from fp16fix.strict.profiles.accumulate import Accumulate
from fp16fix.verdict.condition import Bounded, Condition
from fp16fix.verdict.verdict import Verdict

KIND = "fp32-accumulation"
MOST = 4 * 10**9
"""Rounded additions that the second gate may take: some 20 s on two cores; BERT-base with 128 tokens takes 7e8."""
NAMED = 5
"""Products that a condition names."""


def gated(trials: Trials, answer: Answer, stages: Stages) -> Answer:
    """The answer with its certificate, its verdict under ``accumulate``, and its conditions; fails where the config allows none."""
    evidence = trials.evidence
    if not answer.verdict.verified or evidence.config.profile == Accumulate.name or not evidence.model.narrow.narrow_sums:
        return answer
    with stages.stage("sums in FP16", len(evidence.judged) + 1) as tick:
        typed = trials.typed(answer.recipe)
        found = examined(trials.strict, typed, evidence.judged, answer.verdict, tick, answer.recipe.digest)
        asked = with_sums(trials, answer, [name for each in found.conditions for name in outside_attention(typed, each.nodes)])
        if asked is not answer:
            answer, before = asked, found
            found = examined(trials.strict, trials.typed(answer.recipe), evidence.judged, answer.verdict, tick, answer.recipe.digest)
            found = replace(found, certificate=before.certificate)
        if found.conditions:
            answer, found = shifted(trials, answer, found, stages, tick)
        if found.conditions and evidence.config.strict_accumulation:
            answer, found = apart(trials, answer, found, tick)
    answer = replace(answer, certificate=found.certificate, accumulate=found.verdict, conditions=found.conditions)
    return replace(answer, verdict=held_to(evidence.config, answer.verdict, found.conditions))


def with_sums(trials: Trials, answer: Answer, nodes: Sequence[str]) -> Answer:
    """The answer with these products asked to add in FP32, judged again; itself where there are none, or that fails."""
    if not nodes:
        return answer
    recipe = replace(answer.recipe, edits=(*answer.recipe.edits, *map(asking, nodes)))
    verdict = trials.verdict(recipe, "sums", f"FP32 sums of {', '.join(nodes[:NAMED])}")
    return replace(answer, recipe=recipe, verdict=verdict, derivation=tuple(trials.told.values())) if verdict.verified else answer


def shifted(trials: Trials, answer: Answer, found: Examined, stages: Stages, tick: Tick) -> tuple[Answer, Examined]:
    """The answer with exponents that keep the partial sums of products inside of FP16, whatever the order; what it was where that fails.

    It is for what cannot be asked to add in FP32: of an attention with thousands of keys the shares, undivided while they are added, sum to
    the largest value times the number of keys, and exponents of V fold into the weights before and behind.
    """
    evidence, made = trials.evidence, trials.workshop.prepared(answer.recipe).node_map()
    named = {name for each in found.conditions for name in each.nodes}
    over = {
        made[each.node].outputs[0].name: each.bound
        for each in found.certificate
        if each.node in named & made.keys() and each.bound > LARGEST
    }
    if not over:
        return answer, found
    reaches = {tensor: bound * 2.0 ** answer.recipe.exponents.get(tensor, 0) for tensor, bound in over.items()}
    draft = reaching(evidence, answer.draft, reaches, stages)
    before, after = ({edit.key for edit in each.recipe.rewrites} for each in (answer.draft, draft))
    if not before <= after or draft.recipe.exponents == answer.draft.recipe.exponents:
        return answer, found
    trials.workshop.keep(draft.recipe, draft.model, draft.ranges)
    kept = {name: fmt for name, fmt in answer.recipe.wide.items() if name in draft.model.node_map()}
    recipe = draft.pinned(draft.recipe.wide | kept, answer.recipe.reasons)
    recipe = replace(recipe, edits=(*recipe.edits, *map(asking, sorted(answer.recipe.sums))))
    verdict = trials.verdict(recipe, "sums", f"exponents until partial sums of {', '.join(sorted(over)[:NAMED])} fit")
    if not verdict.verified or trials.too_wide(recipe):
        return answer, found
    again = examined(trials.strict, trials.typed(recipe), evidence.judged, verdict, tick, recipe.digest)
    if again.conditions:
        return answer, found
    return replace(answer, draft=draft, recipe=recipe, verdict=verdict, derivation=tuple(trials.told.values())), again


def apart(trials: Trials, answer: Answer, found: Examined, tick: Tick) -> tuple[Answer, Examined]:
    """The answer with the attentions that conditions name in FP32, which makes separate products of them; what it was where that fails.

    NVIDIA's way to FP32 sums in attention is to cast Q, K and V up (TensorRT 11 release notes); it costs what one kernel saves, so only
    whoever asks for sums that hold anywhere gets it.
    """
    evidence, typed = trials.evidence, trials.typed(answer.recipe)
    inside = sorted({name for each in found.conditions for name in around(typed, each.nodes)} - set(answer.recipe.wide))
    known = evidence.config.allow
    prepared = trials.workshop.prepared(answer.recipe).node_map()
    inside = [name for name in inside if name in prepared and not matches(name, known)]
    if not inside:
        return answer, found
    why = "in one kernel its sums may be FP16's: with Q, K and V in FP32 it is separate products"
    recipe = replace(answer.recipe, edits=(*answer.recipe.edits, *placements_of(dict.fromkeys(inside, "fp32"), why)))
    if trials.too_wide(recipe):
        return answer, found
    verdict = trials.verdict(recipe, "sums", f"attention in FP32 around {', '.join(inside[:NAMED])}")
    if not verdict.verified:
        return answer, found
    again = examined(trials.strict, trials.typed(recipe), evidence.judged, verdict, tick, recipe.digest)
    if again.conditions:
        return answer, found
    return replace(answer, recipe=recipe, verdict=verdict, derivation=tuple(trials.told.values())), replace(
        again, certificate=found.certificate
    )


@dataclass(frozen=True, slots=True)
class Examined:
    """What is known of a typed graph with the sums of its products in FP16."""

    conditions: tuple[Condition, ...]
    verdict: Verdict | None = None
    """Of the worst sample."""
    certificate: tuple[Bounded, ...] = ()


def examined(strict: StrictOracle, typed: Model, samples: Arrays, verdict: Verdict, tick: Tick, key: str) -> Examined:
    """Certificate on all samples, second gate on that which the verdict is worst on: sums in blocks take ten times as long as products.

    ``key``: what the verdict was measured under, see ``StrictOracle.verdict``.
    """
    try:
        bounds = certified(typed, samples, strict.bounds(key, verdict.profile), threads=strict.own.threads, tick=tick)
        if (work := sum(each.steps for each in bounds)) > MOST:
            return Examined((unasked(work, bounds),), None, bounds)
        with given_back(), strict.alone("" if verdict.worst is None else verdict.worst.sample) as oracle:
            second = oracle.verdict(typed, profile=Accumulate.name, tick=tick)
    except Exception as error:  # noqa: BLE001 - an answer that passes is not lost over what may only qualify it
        said = error.what if isinstance(error, Fp16fixError) else f"{type(error).__name__}: {first_line(error)}"
        return Examined((Condition(KIND, (), f"sums in FP16 could not be examined: {said}"),))
    return Examined(() if second.verified else (condition(second, bounds),), second, bounds)


def unasked(work: int, bounds: tuple[Bounded, ...]) -> Condition:
    """What is said of a model too large for the second gate."""
    over = tuple(each.node for each in bounds if each.bound > LARGEST)
    why = f"sums of products in FP16 were not computed: {work:.1e} rounded additions, more than {MOST:.0e}{reach(bounds)}"
    return Condition(KIND, over, why)


def reach(bounds: tuple[Bounded, ...]) -> str:
    """How far partial sums may go, where that is past FP16."""
    over = [each for each in bounds if each.bound > LARGEST]
    return f"; partial sums may reach {over[0].bound:.3g} in {', '.join(each.node for each in over[:NAMED])}" if over else ""


def condition(verdict: Verdict, bounds: tuple[Bounded, ...]) -> Condition:
    """What a verdict that fails under ``accumulate`` leaves to be said."""
    over = tuple(each.node for each in bounds if each.bound > LARGEST)
    return Condition(KIND, over, f"with sums of products in FP16, {verdict.reasons[0]}{reach(bounds)}")


def held_to(config: Config, verdict: Verdict, conditions: tuple[Condition, ...]) -> Verdict:
    """Where the config allows no conditions, they are why it fails."""
    if not conditions or not config.strict_accumulation:
        return verdict
    return replace(verdict, verified=False, reasons=(*verdict.reasons, *(each.why for each in conditions)))
