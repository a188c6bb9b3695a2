"""Whether an engine's FP32 products may round their operands to TF32, as builders do unless they are told otherwise."""

from __future__ import annotations

from fp16fix.config import Config
from fp16fix.graph.lone import wide_products
from fp16fix.graph.model import Model
from fp16fix.search.answer import Answer
from fp16fix.search.trials import Trials
from fp16fix.strict.profiles.compiled import Compiled
from fp16fix.strict.profiles.compiled_tf32 import CompiledTf32

OFF = (
    "FP32 products of this graph need TF32 off, or the error is another one: build it with --noTF32 (trtexec), "
    "config.clear_flag(BuilderFlag.TF32), or fp16fix build, which does that."
)
"""What whoever builds a graph must be told."""


def judged_with(config: Config) -> Config:
    """The config whose profile has TF32 where the user wants it whatever comes of it."""
    return config.model_copy(update={"profile": profile_for(config)}) if config.build.tf32 else config


def profile_for(config: Config) -> str:
    """The profile that decides where TF32 is on."""
    return CompiledTf32.name if config.profile == Compiled.name else config.profile


def allowed(trials: Trials, answer: Answer, typed: Model) -> bool:
    """As the config says; else where there is no FP32 product, or the verdict holds with TF32 too."""
    config = trials.evidence.config
    if config.build.tf32 is not None or not wide_products(typed):
        return config.build.tf32 is not False
    return answer.verdict.verified and trials.strict.verdict(typed, profile=CompiledTf32.name, jitter=config.jitter).verified
