"""The whole tool on one screen: Config → evidence → answer → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines.compile import ready
from fp16fix.engines.profiles import in_files, refuse_uncovered
from fp16fix.passes.evidence import Arrays, gather
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.report.delivery import deliver, products_for
from fp16fix.report.outcome import Outcome
from fp16fix.report.summary import summarise
from fp16fix.search.accumulation import gated
from fp16fix.search.answer import settle_on
from fp16fix.search.trials import refuse_search, trials
from fp16fix.tasks.engine import graph_only, refuse_no_builds, with_engine
from fp16fix.tasks.tf32 import judged_with


def repair(config: Config, watcher: Watcher | None = None, command: Sequence[str] = ()) -> Outcome:
    """Find, repair, build, verify, report; see notes/architecture.md for what flows where.

    Files appear at ``config.output`` and beside it only at the end, and the product itself only if the verdict passes (or
    ``config.keep_unverified`` asks for it under another name).

    Raises:
        InputError: the model, the samples or the config.
        BackendError: a plan was asked for and TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    products = products_for(config)
    wants_plan = products.plan is not None
    refuse_search(config)
    refuse_no_builds(config, plan=wants_plan)
    config = judged_with(ready(config) if wants_plan else config)
    evidence = gather(config, stages)
    if wants_plan and not in_files(config):
        refuse_uncovered(config, Arrays(evidence.samples))
    with trials(evidence, stages) as tried, tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        answer = gated(tried, settle_on(tried, stages), stages)
        path = Path(scratch) / products.onnx.name
        product = with_engine(tried, answer, path, stages) if wants_plan else graph_only(tried, answer, path)
        outcome = summarise(tried, product.answer, product.typed, product.facts, stages, command)
        return deliver(outcome, products, path)
