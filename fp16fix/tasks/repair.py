"""The whole tool on one screen: Config → study → draft → proven graph → engine → ``Outcome``, and files that appear last."""

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
from fp16fix.search.leave_out import settle
from fp16fix.search.trials import attempts, refuse_search
from fp16fix.tasks import engine


def repair(config: Config, watcher: Watcher | None = None, command: Sequence[str] = ()) -> Outcome:
    """Find, repair, build, verify, report; see DESIGN's data flow in the README.

    Files appear at ``config.output`` and beside it only at the end, and the product itself only if the verdict passes (or
    ``config.keep_unverified`` asks for it under another name).

    Raises:
        InputError: the model, the samples or the config.
        BackendError: a plan was asked for and TensorRT is missing or failed.
    """
    stages = Stages(watcher or Silent())
    products = products_for(config)
    refuse_search(config)
    if products.plan is not None:
        config = ready(config)
    found = gather(config, stages)
    if products.plan is not None and not in_files(config):
        refuse_uncovered(config, Arrays(found.samples))
    with attempts(found, stages) as tries, tempfile.TemporaryDirectory(prefix="fp16fix-") as scratch:
        draft, proven = settle(tries, stages)
        onnx_path = Path(scratch) / products.onnx.name
        made = engine.make(tries, draft, proven, onnx_path, stages, plan=products.plan is not None)
        outcome = summarise(found, made.draft, made.proven, made.facts, stages, command)
        return deliver(outcome, products, onnx_path)
