"""Config → ``Evidence``: what is wrong with a model under FP16, and what only looks wrong; or ``Boxed``: what cannot go wrong."""

from __future__ import annotations

from fp16fix.config import Config, refuse_other_base
from fp16fix.errors import ConfigError
from fp16fix.graph.load import load
from fp16fix.graph.lower import lower
from fp16fix.graph.model import element_type
from fp16fix.half import FP16
from fp16fix.inputs.made import make
from fp16fix.inputs.signature import signature, with_dims
from fp16fix.passes.evidence import Evidence, equip, gather
from fp16fix.process.memory import seldom_collected
from fp16fix.progress import Silent, Stages, Watcher
from fp16fix.strict.box import Boxed, boxed


@seldom_collected()
def diagnose(config: Config, watcher: Watcher | None = None) -> Evidence:
    """What is wrong with a model under FP16, and what only looks wrong; nothing is changed.

    Raises:
        InputError: the model, the samples or the config.
    """
    return gather(config, Stages(watcher or Silent()))


@seldom_collected()
def bounded(config: Config, watcher: Watcher | None = None) -> Boxed:
    """What holds for every input in ``config.box``, of the shapes that ``config.shapes`` settles: no sample is looked at.

    A graph that holds FP16 tensors is judged as it is typed, any other as if all of it were FP16.

    Raises:
        InputError: the model, or the box.
    """
    stages = Stages(watcher or Silent())
    refuse_other_base(config, "a box")
    if config.model is None:
        raise ConfigError("no model given", hint="name an .onnx file on the command line or as `model:` in the YAML")
    equip(config)
    with stages.stage("load"):
        typed = load(config.model, simplified=False, widened=False)
        if not any(element_type(tensor) == FP16.onnx for tensor in typed.tensors().values()):
            typed = lower(load(config.model, simplified=config.simplify), {})
        sample = make(typed, with_dims(signature(typed), config.shapes), config.shapes, count=1, seed=config.seed)[0]
    with stages.stage("bound"):
        return boxed(typed, config.box, sample.arrays, threads=config.threads)
