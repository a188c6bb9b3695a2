"""Config → ``Evidence``: what is wrong with a model under FP16, and what only looks wrong."""

from __future__ import annotations

from fp16fix.config import Config
from fp16fix.passes.evidence import Evidence, gather
from fp16fix.progress import Silent, Stages, Watcher


def diagnose(config: Config, watcher: Watcher | None = None) -> Evidence:
    """What is wrong with a model under FP16, and what only looks wrong; nothing is changed.

    Raises:
        InputError: the model, the samples or the config.
    """
    return gather(config, Stages(watcher or Silent()))
