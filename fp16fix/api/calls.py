"""The public functions: what was given, on disk, through a task, and back into memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from typing_extensions import Unpack

from fp16fix.api.options import Keys, Options, PathLike, config_of
from fp16fix.api.outcome import Outcome
from fp16fix.api.progress import Onlooker, watching
from fp16fix.api.staging import Staged, staged
from fp16fix.errors import ModelError
from fp16fix.progress import Stages, Watcher

if TYPE_CHECKING:
    from collections.abc import Mapping

    from fp16fix.config import Config
    from fp16fix.hazards.hazard import Hazard
    from fp16fix.ranges.range import Ranges
    from fp16fix.report.located import Located
    from fp16fix.report.outcome import Outcome as Document
    from fp16fix.verdict.verdict import Verdict
    from fp16fix.weights.export import Axes

TRUSTED = 8
"""Samples that a module and its export are compared on."""


def repair(
    model: Any = None,
    inputs: Any = None,
    output: PathLike | None = None,
    *,
    config: PathLike | Keys | None = None,
    module: Any = None,
    dynamic_axes: Axes | None = None,
    progress: Onlooker = False,
    **options: Unpack[Options],
) -> Outcome:
    """Find what FP16 breaks, repair it, verify it on samples that no search asked about, and build an engine if one is wanted.

    Args:
        model: path of an ONNX file, an ``onnx.ModelProto`` (which stays as it is), or a ``torch.nn.Module`` in FP32, which is exported
            by its first sample.
        inputs: real samples. A path or ``"file.py:function"`` as ``--inputs`` takes it; or, in memory, one sample or whatever yields
            them (a list, a generator, a DataLoader). A sample is an array or tensor for a model of one input, a mapping of them by input
            name, or a tuple in the order of the inputs. Shapes and types are the model's; floats may be of another width. None makes
            samples up, and every surface says so.
        output: ``x.onnx``, or ``x.plan`` for an engine; page and JSON go beside it, as from the command line. None leaves nothing on
            disk, and the graph is ``Outcome.model``.
        config: a YAML file, or its keys as a mapping; keywords win.
        module: the ``torch.nn.Module`` that an ONNX model came from, or ``"file.py:function"`` that returns it: its own FP32 outputs are
            what the model is checked against first, and its autocast is measured beside.
        dynamic_axes: free dimensions of a module's export, ``{"x": {0: "batch"}}``; every other one is fixed at its size in the first
            sample.
        progress: True for bars, or a function that is called with a ``Progress`` at every step.
        **options: every key of the YAML, see ``Options``; a module is exported in ``opset``, too.

    Raises:
        InputError: the model, the samples, or a keyword (``ConfigError``, which says what was meant); a model that does not compute what
            its module computes.
        BackendError: TensorRT or PyTorch is needed and missing, or failed.
    """
    from fp16fix.tasks.repair import repair as run

    base = config_of(config, options)
    given, exported = staged(
        model if model is not None else base.model, inputs, opset=options.get("opset"), dynamic_axes=dynamic_axes, yaml_inputs=base.inputs
    )
    twin = module_of(base, module if module is not None else exported)
    kept = output is not None or base.output is not None
    place = output if kept else given.scratch.folder / "repaired.onnx"
    settled = config_of(config, options, model=given.model, inputs=given.inputs, output=place)
    with watching(progress) as eyes, given.telling():
        framework, autocast, said = heard(twin, settled, eyes)
        made = run(settled, eyes)
    products = {kind: Path(path) for kind, path in made.files.items()}
    return Outcome(told(made, given, said, kept=kept), products if kept else {}, framework, autocast, products, given.scratch)


def told(made: Document, given: Staged, said: tuple[str, ...], *, kept: bool) -> Document:
    """The document in the words of whoever called: nothing of it names a file that goes with the outcome."""
    from fp16fix.report.delivery import retold, tell_again

    if not given.names and not said and kept:
        return made
    noted = replace(made, model=replace(made.model, notes=(*made.model.notes, *said)))
    found = retold(noted if kept else replace(noted, files={}), given.names)
    if kept:
        tell_again(found, made.files)
    return found


def module_of(config: Config, module: Any) -> Any:
    """The module itself, where it is named by file and function."""
    named = module if isinstance(module, str) else config.module if module is None else None
    if named is None:
        return module
    from fp16fix.location.twin import built

    return built(named)


def heard(module: Any, config: Config, watcher: Watcher) -> tuple[Verdict | None, Verdict | None, tuple[str, ...]]:
    """What the module says of the model, what its autocast gives, and both in words; nothing without a module, or of one that draws.

    Raises:
        ModelError: the model does not compute what its module does, so that a repair would keep the wrong function.
    """
    if module is None:
        return None, None, ()
    from fp16fix.graph.load import load
    from fp16fix.graph.random import random_nodes
    from fp16fix.location.hearing import in_fp32
    from fp16fix.location.recorded import Witness
    from fp16fix.location.twin import Twin
    from fp16fix.passes.evidence import Arrays, equip, samples_for
    from fp16fix.report.words import error

    equip(config)
    with Stages(watcher).stage("compare with PyTorch"):
        model = load(config.model or Path(), simplified=False)
        if random_nodes(model):
            return None, None, ("it draws random numbers, so it was not compared with its PyTorch module",)
        samples = samples_for(config, model)[:TRUSTED]
        twin = Twin(module, [each.name for each in samples.contract.inputs], [each.name for each in model.graph.outputs])
        arrays = Arrays(samples)
        witness = Witness(model, twin.run(samples), "module", arrays.names)
        framework, _ = in_fp32(model, arrays, config.tolerance.of, reference=witness, threads=config.threads)
    assert framework is not None
    if not framework.verified:
        why = "; ".join(framework.reasons)
        hint = "export it again in eval mode; a branch or a size that tracing fixed is the usual cause"
        raise ModelError(f"the ONNX model does not compute what its PyTorch module does in FP32: {why}", where=str(config.model), hint=hint)
    autocast = twin.verdict(config.tolerance.of)
    worst = framework.worst, autocast.worst
    figures = [f"{each.output} {error(each)}" if each is not None else "nothing to compare" for each in worst]
    return framework, autocast, (f"its PyTorch module agrees in FP32 ({figures[0]}); under autocast to FP16 it gives {figures[1]}",)


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What FP16 would do to a model that nothing was changed in."""

    hazards: tuple[Hazard, ...]
    """In graph order, the harmless ones too."""
    harmless: Mapping[Hazard, str]
    """Those that are proven harmless, with the proof in a sentence."""
    ranges: Ranges
    """What calibration saw of every tensor, by name, in graph order."""
    warnings: tuple[str, ...]
    """What is weak about the samples."""


def diagnose(
    model: Any = None,
    inputs: Any = None,
    *,
    config: PathLike | Keys | None = None,
    progress: Onlooker = False,
    **options: Unpack[Options],
) -> Diagnosis:
    """Name every hazard of a model under FP16, and which are proven harmless; change nothing.

    Args:
        model: a path or an ``onnx.ModelProto``.
        inputs: samples, as for ``repair``.
        config: a YAML file, or its keys.
        progress: True for bars, or a callback.
        **options: every key of the YAML.

    Raises:
        InputError: the model, the samples, or a keyword.
    """
    from fp16fix.passes.evidence import caveats
    from fp16fix.tasks.diagnose import diagnose as run

    given, settled = prepared(model, inputs, config, options)
    with watching(progress) as eyes, given.telling():
        found = run(settled, eyes)
    return Diagnosis(found.hazards, found.proofs, found.ranges, caveats(found.samples, found.model))


def locate(
    model: Any = None,
    inputs: Any = None,
    *,
    config: PathLike | Keys | None = None,
    module: Any = None,
    dynamic_axes: Axes | None = None,
    progress: Onlooker = False,
    **options: Unpack[Options],
) -> Located:
    """Name what breaks FP16, worst first, and which repair would answer it; writes nothing.

    Args:
        model: a path, an ``onnx.ModelProto`` or a ``torch.nn.Module``.
        inputs: samples, as for ``repair``.
        config: a YAML file, or its keys.
        module: the PyTorch module of an ONNX model: what its FP32 and its autocast give is evidence for triage.
        dynamic_axes: of a module's export, as for ``repair``.
        progress: True for bars, or a callback.
        **options: every key of the YAML; ``reference``, ``engine`` and ``fp32_engine`` are for triage, ``search`` for the least that must
            be FP32.

    Raises:
        InputError: the model, the samples, a keyword, or what was given for triage.
        BackendError: an oracle, a plan or PyTorch is needed and cannot be run here.
    """
    from fp16fix.tasks.locate import locate as run

    base = config_of(config, options)
    given, exported = staged(
        model if model is not None else base.model, inputs, opset=options.get("opset"), dynamic_axes=dynamic_axes, yaml_inputs=base.inputs
    )
    twin = module_of(base, module if module is not None else exported)
    settled = config_of(config, options, model=given.model, inputs=given.inputs)
    with watching(progress) as eyes, given.telling():
        found = run(settled, eyes, module=twin)
    path, source = (given.names.get(each, each) for each in (found.model.path, found.samples.source))
    return replace(found, model=replace(found.model, path=path), samples=replace(found.samples, source=source))


def verify(
    model: Any,
    candidate: Any,
    inputs: Any = None,
    *,
    config: PathLike | Keys | None = None,
    progress: Onlooker = False,
    **options: Unpack[Options],
) -> Verdict:
    """Hold a mixed-precision graph (strictly emulated) or a plan (run on this machine's GPU) against the FP32 model.

    Args:
        model: the FP32 model, a path or an ``onnx.ModelProto``.
        candidate: likewise, or the path of a ``.plan``.
        inputs: samples, as for ``repair``.
        config: a YAML file, or its keys.
        progress: True for bars, or a callback.
        **options: every key of the YAML; ``tolerance`` says what passes.

    Raises:
        InputError: either model, the samples, or a keyword.
        BackendError: a plan, and none can run here.
    """
    from fp16fix.api.staging import model_file
    from fp16fix.inputs.spool import Spool
    from fp16fix.tasks.verify import verify as run

    given, settled = prepared(model, inputs, config, options)
    other = Staged(Spool())
    with watching(progress) as eyes, given.telling(), other.telling():
        return run(settled, model_file(other, candidate), eyes)


def prepared(model: Any, inputs: Any, config: PathLike | Keys | None, options: Options) -> tuple[Staged, Config]:
    """What a call was given, on disk, and the config that says so."""
    base = config_of(config, options)
    given, _ = staged(model if model is not None else base.model, inputs, yaml_inputs=base.inputs)
    return given, config_of(config, options, model=given.model, inputs=given.inputs)


def replay(outcome: Outcome | PathLike, output: PathLike, model: PathLike | None = None, **options: Unpack[Options]) -> Path:
    """Write the graph that a repair delivered once more, byte for byte, from its recipe and the model.

    Args:
        outcome: of the repair, or the path of its ``x.outcome.json``.
        output: where the graph goes, whole or not at all.
        model: the file that was repaired, if it has moved, or was not a file.
        **options: ``ort_libraries`` and ``stand_ins`` of a model with custom operators.

    Returns:
        ``output``.

    Raises:
        ModelError: the model is not there.
        ReplayError: no outcome, another model, or one that loads differently than it did.
        InputError: ``output`` cannot be written.
    """
    from fp16fix.tasks.replay import replay as run

    return run(outcome.document if isinstance(outcome, Outcome) else outcome, output, model, config_of(None, options))
