"""The whole tool on one screen: Config → evidence → answer → engine → ``Outcome``, and files that appear last."""

from __future__ import annotations

from collections.abc import Sequence

from fp16fix.config import Config
from fp16fix.graph.exchange import scratch_beside
from fp16fix.process.memory import seldom_collected
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.report.delivery import deliver, told
from fp16fix.report.informed import Informed, inform, uninformed
from fp16fix.report.outcome import Outcome
from fp16fix.report.summary import summarise
from fp16fix.search.accumulation import gated
from fp16fix.search.answer import settle_on
from fp16fix.search.trials import trials
from fp16fix.tasks.engine import graph_only, with_engine
from fp16fix.tasks.prepare import prepared


@seldom_collected()
def repair(config: Config, watcher: Watcher | None = None, command: Sequence[str] = ()) -> Outcome:
    """Find, repair, build, verify, report; see notes/architecture.md for what flows where.

    Files appear at ``config.output`` and beside it only at the end, and the product itself only if the verdict passes (or
    ``config.keep_unverified`` asks for it under another name).

    Raises:
        InputError: the model, the samples or the config.
        BackendError: a plan was asked for and TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    begun = prepared(config, stages)
    products, evidence = begun.products, begun.evidence
    with evidence.blaming(), trials(evidence, stages) as tried:
        answer = gated(tried, settle_on(tried, stages), stages)
        with scratch_beside(products.main) as scratch:
            path = scratch / products.onnx.name
            product = with_engine(tried, answer, path, stages) if begun.wants_plan else graph_only(tried, answer, path)
            answer, typed, facts = product.answer, product.typed, product.facts

            def outcome(informed: Informed) -> Outcome:
                return summarise(tried, answer, typed, facts, informed, stages, command)

            # The product and its verdict are safe before anything runs that only informs.
            why = "it was left out (fast)" if config.fast else "it was not measured"
            delivered = deliver(outcome(uninformed(tried, why)), products, path)
        return delivered if config.fast else told(delivered, products, lambda: outcome(inform(tried, answer, typed, stages)))
