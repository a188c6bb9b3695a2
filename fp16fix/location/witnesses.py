"""Config → everything else that knows a model's outputs (framework, module, engines), and the ``Hearing`` that they give for triage."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fp16fix.config import Config
from fp16fix.engines import PLANS
from fp16fix.engines.execute import run
from fp16fix.errors import ConfigError, SampleError, absent
from fp16fix.location.hearing import Hearing, in_fp16, in_fp32
from fp16fix.location.recorded import HINT, Given, Witness, read_outputs
from fp16fix.oracles.engine import refuse_unrunnable
from fp16fix.passes.evidence import Arrays, Evidence
from fp16fix.progress import Stages

if TYPE_CHECKING:
    from fp16fix.location.twin import Twin


@dataclass(slots=True)
class Witnesses:
    """What the user gave beside model and samples."""

    config: Config
    module: Any = None
    """A torch.nn.Module; let go once it was heard."""

    def looked_at(self, found: Evidence) -> Arrays:
        """Samples that the fault is looked for in: all that an engine was run on, else those that calibrate."""
        return Arrays(found.samples) if self.config.engine is not None else found.calibration

    def heard(self, found: Evidence, stages: Stages) -> Hearing:
        """Everything compared: in FP32 over all samples, in FP16 over ``looked_at``.

        Raises:
            SampleError: outputs that do not fit the samples or the model, or a module that fails.
            BuildError: a plan that does not run.
        """
        config, model = self.config, found.model
        tolerance, threads, names = config.tolerance.of, config.threads, Arrays(found.samples).names
        twin = None if self.module is None else twin_of(self.module, found)
        reference = None if config.reference is None else Witness(model, recorded(config.reference, found), "reference", names)
        if reference is None and twin is not None:
            reference = Witness(model, twin.run(found.samples), "module", names)
        fp32_engine, engine = (told_by(place, found, stages) for place in (config.fp32_engine, config.engine))
        samples, looked = Arrays(found.samples), self.looked_at(found)
        with stages.stage("triage", len(looked) + (len(samples) if reference or fp32_engine else 0)) as tick:
            framework, wide = in_fp32(model, samples, tolerance, reference=reference, engine=fp32_engine, threads=threads, tick=tick)
            if twin is not None and config.reference is not None:
                twin.exhaust(found.samples)
            narrow = in_fp16(model, looked, tolerance, engine=engine, names=looked.names, threads=threads, tick=tick)
        self.module = None
        return replace(narrow, reference=framework, fp32_engine=wide, autocast=None if twin is None else twin.verdict(tolerance))


def summon(config: Config, module: Any = None) -> Witnesses:
    """Find out before any work whether what the user gave can be used.

    Raises:
        SampleError: a path that leads nowhere, or code that gives no module.
        BackendMissingError: a plan that cannot run here, or a module without PyTorch.
        ConfigError: outputs without the inputs they were computed from.
    """
    places = {"reference": config.reference, "engine": config.engine, "fp32_engine": config.fp32_engine}
    for key, place in places.items():
        if place is None:
            continue
        if place.suffix in PLANS and key != "reference":
            if not place.is_file():
                raise SampleError(absent(place, "plan"), where=str(place))
            refuse_unrunnable(place, f"do this where the GPU of the plan is, or record its outputs there and give the folder: {HINT}")
        elif not place.is_dir() and place.suffix != ".npz":
            raise SampleError(f"is no folder of outputs{'' if key == 'reference' else ', and no plan'}", where=str(place), hint=HINT)
        elif config.inputs is None:
            raise ConfigError("outputs are of use only with the inputs they were computed from", where=key, hint="give them with -i")
    if module is None and config.module is not None:
        from fp16fix.location.twin import built

        module = built(config.module)
    return Witnesses(config, module)


def twin_of(module: Any, found: Evidence) -> Twin:
    """The module beside the model."""
    from fp16fix.location.twin import Twin

    graph = found.model.graph
    return Twin(module, [entry.name for entry in found.samples.contract.inputs], [tensor.name for tensor in graph.outputs])


def told_by(place: Path | None, found: Evidence, stages: Stages) -> Witness | None:
    """An engine's outputs, recorded or made here and now."""
    if place is None:
        return None
    names = Arrays(found.samples).names
    if place.suffix not in PLANS:
        return Witness(found.model, recorded(place, found), "recorded", names)
    build = found.config.build
    with stages.stage("run engine", len(found.samples)):
        outputs = run(place, Arrays(found.samples), backend=build.backend, timeout_s=build.timeout_s)
    return Witness(found.model, own(place, outputs, found), "tensorrt", names)


def own(plan: Path, outputs: Sequence[dict[str, Any]], found: Evidence) -> Iterator[Given]:
    """Outputs that the plan shares with the model; it may have others, for debugging."""
    names = {tensor.name for tensor in found.model.graph.outputs}
    for arrays in outputs:
        yield Given(str(plan), {name: value for name, value in arrays.items() if name in names})


def recorded(place: Path, found: Evidence) -> Iterator[Given]:
    """Outputs on disk, by the samples' names."""
    return read_outputs(place, [sample.name for sample in found.samples])
