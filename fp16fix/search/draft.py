"""Evidence → ``Draft``: rules, exponents and islands as the config wants them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from fp16fix.graph.model import Model
from fp16fix.hazards.hazard import Hazard
from fp16fix.passes.design import Design, Draft, Options
from fp16fix.passes.evidence import Evidence, acquitted
from fp16fix.passes.recipe import Edit
from fp16fix.progress import Stages
from fp16fix.ranges.range import Ranges
from fp16fix.strict.profiles import profile_named
from fp16fix.trace.harmless import presumed


def design(evidence: Evidence, stages: Stages, without: frozenset[str] = frozenset(), *, calm: bool = False) -> Draft:
    """The first draft.

    Args:
        evidence: what is known of the model.
        stages: for progress.
        without: edits to leave out, by key.
        calm: see ``Options.calm``.
    """
    with stages.stage("diagnose"):
        proofs = presumed(evidence.hazards, evidence.model.narrow) if calm else dict(evidence.proofs)
    with stages.stage("design repairs"):
        return designer(evidence, without, calm=calm).draft(evidence.hazards, proofs)


def extended(evidence: Evidence, draft: Draft, edits: Sequence[Edit], stages: Stages) -> Draft:
    """A draft with more rewrites."""
    with stages.stage("design repairs"):
        return designer(evidence).extended(draft, edits)


def reaching(evidence: Evidence, draft: Draft, reaches: Mapping[str, float], stages: Stages) -> Draft:
    """A draft made as another was, with exponents that keep partial sums inside of FP16: see ``Options.reaches``."""
    with stages.stage("design repairs"):
        return designed(evidence, replace(draft.options, reaches=reaches)).draft(evidence.hazards, draft.proofs)


def designer(evidence: Evidence, without: frozenset[str] = frozenset(), *, calm: bool = False) -> Design:
    """Whoever makes drafts for a config."""
    config = evidence.config
    options = Options(
        headroom=config.headroom,
        headroom_down=config.headroom_down,
        only_exact=config.only_exact,
        wide=config.wide,
        pin=config.pin,
        allow=config.allow,
        sums_in_half=profile_named(config.profile).sums_in_half,
        io=evidence.plain.io,
        apart=evidence.plain.apart,
        max_fp32_share=config.max_fp32_share,
        threads=config.threads,
        without=without,
        calm=calm,
    )
    return designed(evidence, options)


def designed(evidence: Evidence, options: Options) -> Design:
    """Whoever makes drafts with some options."""
    config = evidence.config

    def acquit(model: Model, hazards: Sequence[Hazard], ranges: Ranges) -> dict[Hazard, str]:
        return presumed(hazards, model.narrow) if options.calm else acquitted(model, hazards, evidence.seen, ranges, config.threads)

    return Design(evidence.model, evidence.ranges, evidence.seen, options, acquit)
