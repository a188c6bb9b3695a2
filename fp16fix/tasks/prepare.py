"""Config → what a repair, or a preview of one, begins with; everything that can be refused is."""

from __future__ import annotations

from dataclasses import dataclass

from fp16fix.config import Config
from fp16fix.engines.compile import ready
from fp16fix.engines.profiles import in_files, refuse_uncovered
from fp16fix.passes.evidence import Arrays, Evidence, equip, gather
from fp16fix.progress import Stages
from fp16fix.report.delivery import Products, products_for
from fp16fix.search.trials import refuse_search
from fp16fix.tasks.engine import refuse_no_builds
from fp16fix.tasks.tf32 import judged_with


@dataclass(frozen=True, slots=True)
class Prepared:
    """What is known before anything is tried."""

    products: Products
    evidence: Evidence
    """Its config is what was settled for the engine, if one is wanted."""

    @property
    def wants_plan(self) -> bool:
        """Whether an engine is to be built."""
        return self.products.plan is not None


def prepared(config: Config, stages: Stages) -> Prepared:
    """Settle the config, load, measure, diagnose.

    Raises:
        InputError: the model, the samples or the config.
        BackendError: a plan was asked for and TensorRT is missing or failed.
    """
    equip(config)
    products = products_for(config)
    wants_plan = products.plan is not None
    refuse_search(config)
    refuse_no_builds(config, plan=wants_plan)
    config = judged_with(ready(config) if wants_plan else config)
    evidence = gather(config, stages)
    if wants_plan and not in_files(config):
        refuse_uncovered(config, Arrays(evidence.samples))
    return Prepared(products, evidence)
