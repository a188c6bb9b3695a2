"""Config and a typed graph → a plan, with progress: what the builder is given, and whatever would stop it, found before any work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import Backend, BuildOptions, BuildStoppedError, Built, choose
from fp16fix.engines import build as build_plan
from fp16fix.engines.profiles import profiles_of, settled, unweighted
from fp16fix.errors import BackendError, ConfigError
from fp16fix.graph.model import Model
from fp16fix.graph.ops import DEFAULT_DOMAINS
from fp16fix.graph.save import save_model
from fp16fix.half import BF16
from fp16fix.progress import Stages, Tick
from fp16fix.strict.insides import INSIDES, How

STARTS = {"load": 0, "parse": 2, "build": 10, "write": 96, "prove": 98}
"""Percent of a build that are over when a stage begins, as its bar shows it; builds take most of the time."""
PERCENT = 100
WEAK = "weak"
"""The flavour that is told types by pins."""
PLUGIN = "give the library of the operator's plugin (--plugin x.so), or stop at the repaired graph (-o x.onnx)"
"""What to do about an operator that the parser does not take."""


def build_options(config: Config) -> BuildOptions:
    """The ``build`` section as the backends take it."""
    section = config.build
    return BuildOptions(
        backend=section.backend,
        targets=section.targets,
        profiles=profiles_of(config),
        workspace_mib=section.workspace_mib or 0,
        optimization_level=section.optimization_level,
        timing_cache=str(section.timing_cache or ""),
        version_compatible=section.version_compatible,
        hardware_compatible="ampere_plus" if section.hardware_compatible else "",
        refit=section.refit,
        strip_plan=section.strip_plan,
        tf32=section.tf32 is not False,
        plugins=tuple(str(path) for path in section.plugins),
        capability=section.capability,
        timeout_s=section.timeout_s,
        memory_mib=section.memory_mib or 0,
    )


def ready(config: Config) -> Config:
    """Whatever would stop the build later, before any analysis; the config with what its profiles and shapes say of each other.

    Raises:
        BackendError: no TensorRT flavour serves the options, or it does not start here.
        InputError: see ``profiles.settled``.
    """
    backend = choose(build_options(config))
    status = backend.status()
    if not status.works:
        raise BackendError(f"backend {status.name!r} does not start here: {status.why}", where="build", hint=status.how_to_install)
    if config.narrow is BF16 and backend.name == WEAK:
        hint = "--backend strong or rtx; or -o x.onnx, which any TensorRT from 10 on builds strongly typed"
        said = "weak typing makes FP16 of whatever is not pinned; BF16 as a base is built strongly typed"
        raise ConfigError(said, where="precision", hint=hint)
    config = settled(config)
    refuse_options(config, backend)
    return config


def refuse_options(config: Config, backend: Backend) -> None:
    """What a build would be refused for at its end: a plugin that is not there, a target, operators that no rewrite takes away.

    Raises:
        ConfigError: a plugin or a target.
        BuildError: the parser's words on such an operator.
    """
    for plugin in config.build.plugins:
        if not plugin.is_file():
            raise ConfigError(
                f"plugin library {str(plugin)!r} does not exist", where="build.plugins", hint="--plugin takes a shared library"
            )
    odd = odd_operators(config.model or Path())
    if not odd and not config.build.targets:
        return
    try:
        backend.check(config.model or Path(), build_options(config))
    except BuildStoppedError as error:
        if any(f"({op})" in error.what for op in odd):
            error.hint = error.hint or PLUGIN
            raise


def odd_operators(path: Path) -> set[str]:
    """Operators of a file that TensorRT may know only by a plugin, or not at all."""
    graph = unweighted(path).graph
    own = {DEFAULT_DOMAINS[1], DEFAULT_DOMAINS[2]}
    refused = {op for op, inside in INSIDES.items() if inside.how is How.REFUSED}
    return {node.op_type for node in graph.node if node.domain not in own or node.op_type in refused}


class Meter:
    """A build's stages and fractions as ticks, one a percent; never backwards."""

    def __init__(self, tick: Tick) -> None:
        self.tick = tick
        self.told = 0

    def __call__(self, stage: str, done: float) -> None:
        begin = STARTS.get(stage, 0)
        end = min((start for start in STARTS.values() if start > begin), default=PERCENT)
        while self.told < int(begin + (end - begin) * done):
            self.tick()
            self.told += 1


def watched(onnx_path: Path, plan_path: Path, options: BuildOptions, stages: Stages, name: str = "build engine") -> Built:
    """Build with progress; whatever the watcher raises (Ctrl-C too) ends the child, and nothing is left. Raises as ``build.build``."""
    with stages.stage(name, PERCENT) as tick:
        return build_plan(onnx_path, plan_path, options, Meter(tick))


def source_of(config: Config, wide: Model, pins: Mapping[str, str], onnx_path: Path) -> tuple[Path, BuildOptions]:
    """What a builder is given: the typed graph saved at ``onnx_path``, or for weak typing the FP32 graph, saved beside it, and pins."""
    options = build_options(config)
    if choose(options).name != WEAK or config.io != "fp32":
        return onnx_path, options
    source = onnx_path.with_name(f"wide.{onnx_path.name}")
    save_model(wide, source)
    return source, replace(options, pins=tuple(sorted(pins.items())))
