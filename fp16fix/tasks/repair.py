"""The whole tool on one screen: Config → evidence → answer → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

from collections.abc import Sequence

from fp16fix.config import Config
from fp16fix.engines.compile import ready
from fp16fix.engines.profiles import in_files, refuse_uncovered
from fp16fix.graph.exchange import scratch_beside
from fp16fix.passes.evidence import Arrays, gather
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.report.delivery import deliver, products_for, told
from fp16fix.report.informed import Informed, inform, uninformed
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
    with evidence.blaming(), trials(evidence, stages) as tried:
        answer = gated(tried, settle_on(tried, stages), stages)
        with scratch_beside(products.main) as scratch:
            path = scratch / products.onnx.name
            product = with_engine(tried, answer, path, stages) if wants_plan else graph_only(tried, answer, path)
            answer, typed, facts = product.answer, product.typed, product.facts

            def outcome(informed: Informed) -> Outcome:
                return summarise(tried, answer, typed, facts, informed, stages, command)

            # The product and its verdict are safe before anything runs that only informs.
            why = "it was left out (fast)" if config.fast else "it was not measured"
            delivered = deliver(outcome(uninformed(tried, why)), products, path)
        return delivered if config.fast else told(delivered, products, lambda: outcome(inform(tried, answer, typed, stages)))
