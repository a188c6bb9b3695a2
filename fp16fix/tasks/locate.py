"""Config → ``Located``: triage, what breaks FP16 and where, and on request the least that must be FP32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import fp16fix
from fp16fix.config import Config, refuse_other_base
from fp16fix.location.least import is_asked, journal_of, minimal, refuse_oracle
from fp16fix.location.locate import locate as locate_in
from fp16fix.location.witnesses import summon
from fp16fix.passes.evidence import caveats, gather
from fp16fix.process.memory import seldom_collected
from fp16fix.process.versions import versions
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.report.located import Located
from fp16fix.report.summary import model_facts, sample_facts
from fp16fix.search.draft import design


@seldom_collected()
def locate(
    config: Config,
    watcher: Watcher | None = None,
    command: Sequence[str] = (),
    *,
    module: Any = None,
) -> Located:
    """Name what breaks FP16, worst first, and which repair would answer it; with an oracle, the least that must be FP32.

    Args:
        config: ``reference``, ``module``, ``engine`` and ``fp32_engine`` are for triage; ``search.minimise`` or a command in
            ``search.check`` asks for the least that must be FP32, by the oracle, within the budgets and with the journal of ``search``.
        watcher: told of progress.
        command: what reproduces this, for the report.
        module: the torch.nn.Module that the model came from, instead of ``config.module``.

    Raises:
        InputError: the model, samples, config, or what was given for triage.
        BackendError: the command of ``search.check``, a plan or TensorRT as the oracle cannot be run; a module, and PyTorch is not
            installed.
    """
    stages = Stages(watcher or Silent())
    refuse_other_base(config, "locate")
    refuse_oracle(config)
    witnesses = summon(config, module)
    found = gather(config, stages)
    with journal_of(found) as journal:
        evidence = witnesses.heard(found, stages)
        draft = design(found, stages)
        with stages.stage("locate", 3) as tick:
            location = locate_in(
                found.model,
                witnesses.looked_at(found),
                config.tolerance.of,
                ranges=found.ranges,
                hazards=found.hazards,
                draft=draft,
                proofs=found.proofs,
                evidence=evidence,
                threads=config.threads,
                tick=tick,
            )
        least = None
        if is_asked(config):
            with stages.stage("minimise") as tick:
                least = minimal(found, location, journal, tick)
    return Located(
        triage=location.triage,
        culprits=location.culprits,
        minor=location.minor,
        carried=location.carried,
        cures=location.cures,
        explained=location.explained,
        along=location.along,
        minimal=least,
        tool=fp16fix.__version__,
        command=tuple(command),
        model=model_facts(found),
        samples=sample_facts(found),
        versions=versions(),
        stages={name: round(seconds, 3) for name, seconds in stages.seconds.items()},
        warnings=caveats(found.samples, found.model),
    )
