"""The commands: parse flags, call the pipeline, print what came of it, exit by verdict."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fp16fix.cli import flags
from fp16fix.cli.app import command
from fp16fix.console import lesser, show
from fp16fix.console.text import out
from fp16fix.console.watch import watching


class FailOn(str, Enum):
    """What makes ``diagnose`` fail."""

    HAZARD = "hazard"
    ANY = "any"
    NEVER = "never"


@command("0 verified, or --dry-run · 1 repaired, but not verified")
def repair(
    model: flags.Model = None,
    output: flags.Output = None,
    inputs: flags.Inputs = None,
    config: flags.YamlConfig = None,
    shape: flags.Shape = None,
    precision: flags.Precision = None,
    io: flags.Io = None,
    wide: flags.WideFormat = None,
    headroom: flags.Headroom = None,
    only_exact: flags.OnlyExact = None,
    pin: flags.Pin = None,
    allow: flags.Allow = None,
    sqnr: flags.Tolerance = None,
    numerics: flags.Numerics = None,
    held_out: flags.HeldOut = None,
    simplify: flags.Simplify = None,
    keep_unverified: flags.Keep = None,
    fast: flags.Fast = None,
    strict_accumulation: flags.StrictSums = None,
    minimise: Annotated[bool | None, typer.Option("--minimise", help="drop every pin that the verdict can do without")] = None,
    check: Annotated[
        str | None, typer.Option("--check", help="your own oracle besides the strict one: 'cmd {model} …', 0 is good", show_default=False)
    ] = None,
    journal: flags.Journal = None,
    repeats: flags.Repeats = None,
    budget: flags.Budget = None,
    target: flags.Target = None,
    backend: flags.Backend = None,
    profile: flags.ShapeProfile = None,
    workspace: flags.Workspace = None,
    optimization_level: flags.Level = None,
    no_tf32: flags.NoTf32 = None,
    compare: Annotated[
        bool | None, typer.Option("--compare", help="build all-FP16 and FP32 too, and say what the repair costs beside them")
    ] = None,
    plugin: flags.Plugin = None,
    timeout: flags.Timeout = None,
    opset: flags.Opset = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    settings: flags.Set = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done, up to the first draft; write nothing")] = False,
    as_json: flags.Json = False,
) -> None:
    """Find what FP16 (or BF16) breaks, repair it, build the engine, verify it on held-out inputs, report."""
    settled = flags.config_from(
        config,
        settings,
        model=model,
        output=output,
        inputs=inputs,
        shapes=flags.shapes(shape),
        precision=precision,
        io=io,
        wide=wide,
        headroom=headroom,
        only_exact=only_exact,
        pin=pin,
        allow=allow,
        tolerance__sqnr_db=sqnr,
        profile=numerics,
        held_out=held_out,
        simplify=simplify,
        keep_unverified=keep_unverified,
        fast=fast,
        strict_accumulation=strict_accumulation,
        search__minimise=minimise,
        search__check=check,
        search__journal=journal,
        search__repeats=repeats,
        search__budget_s=budget,
        build__targets=flags.targets(target),
        build__backend=backend,
        build__profiles=flags.profiles(profile),
        build__workspace_mib=workspace,
        build__optimization_level=optimization_level,
        build__tf32=None if no_tf32 is None else not no_tf32,
        build__compare=compare,
        build__plugins=plugin,
        build__timeout_s=timeout,
        opset=opset,
        ort_libraries=ort_library,
        stand_ins=flags.stand_ins(stand_in),
        device=device,
        threads=threads,
    )
    from fp16fix.tasks.preview import preview
    from fp16fix.tasks.repair import repair as run

    quiet = as_json or settled.json_
    if dry_run:
        with watching(quiet) as eyes:
            lesser.preview(preview(settled, eyes), as_json=quiet)
        return
    with watching(quiet) as eyes:
        outcome = run(settled, eyes, ["fp16fix", *sys.argv[1:]])
    show.outcome(outcome, as_json=quiet)
    raise typer.Exit(0 if outcome.verified else 1)


@command("0 done · 1 what --fail-on names was found, or --box is not proven")
def diagnose(
    model: flags.Model = None,
    inputs: flags.Inputs = None,
    config: flags.YamlConfig = None,
    precision: flags.Precision = None,
    shape: flags.Shape = None,
    box: flags.Box = None,
    simplify: flags.Simplify = None,
    opset: flags.Opset = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="exit 1 on a hazard that is not proven harmless, on any, or never")
    ] = FailOn.NEVER,
    as_json: flags.Json = False,
) -> None:
    """Name every hazard of a model under FP16 (or BF16), and which are proven harmless; change nothing."""
    settled = flags.config_from(
        config,
        model=model,
        inputs=inputs,
        shapes=flags.shapes(shape),
        box=flags.box(box),
        precision=precision,
        simplify=simplify,
        opset=opset,
        ort_libraries=ort_library,
        stand_ins=flags.stand_ins(stand_in),
        device=device,
        threads=threads,
    )
    from fp16fix.tasks.diagnose import bounded
    from fp16fix.tasks.diagnose import diagnose as run

    if settled.box:
        with watching(as_json) as eyes:
            proof = bounded(settled, eyes)
        show.boxed(proof, as_json=as_json)
        raise typer.Exit(0 if proof.proven else 1)
    with watching(as_json) as eyes:
        found = run(settled, eyes)
    show.study(found, as_json=as_json)
    counted = {FailOn.NEVER: 0, FailOn.HAZARD: len(found.hazards) - len(found.proofs), FailOn.ANY: len(found.hazards)}
    raise typer.Exit(1 if counted[fail_on] else 0)


@command("0 done")
def weights(
    file: Annotated[Path, typer.Argument(help=".pth, .safetensors or .onnx")],
    as_json: flags.Json = False,
) -> None:
    """What FP16 does to every weight of a file; checkpoints are read without running any code in them."""
    from fp16fix.weights import scan

    lesser.weights(scan(file), as_json=as_json)


@command("0 verified · 1 not verified")
def verify(
    model: Annotated[Path, typer.Argument(help="the FP32 model")],
    candidate: Annotated[Path, typer.Argument(help="a mixed-precision ONNX graph, or a .plan, which is run on the GPU of this machine")],
    inputs: flags.Inputs = None,
    config: flags.YamlConfig = None,
    precision: flags.Precision = None,
    shape: flags.Shape = None,
    sqnr: flags.Tolerance = None,
    max_abs: flags.MaxAbs = None,
    max_rel: flags.MaxRel = None,
    cosine: flags.Cosine = None,
    numerics: flags.Numerics = None,
    backend: flags.Backend = None,
    no_tf32: flags.NoTf32 = None,
    strict_accumulation: flags.StrictSums = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    settings: flags.Set = None,
    as_json: flags.Json = False,
) -> None:
    """Compare a mixed-precision graph (strictly) or an engine (on the GPU) with the FP32 model; exit by verdict."""
    settled = flags.config_from(
        config,
        settings,
        model=model,
        inputs=inputs,
        shapes=flags.shapes(shape),
        precision=precision,
        tolerance__sqnr_db=sqnr,
        tolerance__max_abs=max_abs,
        tolerance__max_rel=max_rel,
        tolerance__cosine=cosine,
        profile=numerics,
        build__backend=backend,
        build__tf32=None if no_tf32 is None else not no_tf32,
        strict_accumulation=strict_accumulation,
        ort_libraries=ort_library,
        stand_ins=flags.stand_ins(stand_in),
        device=device,
        threads=threads,
    )
    from fp16fix.tasks.verify import compared

    with watching(as_json) as eyes:
        found = compared(settled, candidate, eyes)
    lesser.verdict(found, as_json=as_json)
    raise typer.Exit(0 if found.verdict.verified else 1)


@command("0 built")
def build(
    model: Annotated[Path, typer.Argument(help="a typed ONNX graph, as `repair -o x.onnx` writes it")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the plan to write")],
    config: flags.YamlConfig = None,
    target: flags.Target = None,
    backend: flags.Backend = None,
    profile: flags.ShapeProfile = None,
    workspace: flags.Workspace = None,
    optimization_level: flags.Level = None,
    no_tf32: flags.NoTf32 = None,
    plugin: flags.Plugin = None,
    timeout: flags.Timeout = None,
    settings: flags.Set = None,
    as_json: flags.Json = False,
) -> None:
    """Build an engine from a graph that carries its types, as it is."""
    settled = flags.config_from(
        config,
        settings,
        build__targets=flags.targets(target),
        build__backend=backend,
        build__profiles=flags.profiles(profile),
        build__workspace_mib=workspace,
        build__optimization_level=optimization_level,
        build__tf32=None if no_tf32 is None else not no_tf32,
        build__plugins=plugin,
        build__timeout_s=timeout,
    )
    from fp16fix.tasks.build import build_plan

    with watching(as_json) as eyes:
        found = build_plan(model, output, settled, eyes)
    lesser.built(found, as_json=as_json)


@command("0 done")
def doctor(as_json: flags.Json = False) -> None:
    """What TensorRT flavours are installed here, what works, and what each would do."""
    from fp16fix.engines.doctor import doctor as examine

    lesser.doctor(examine(), as_json=as_json)


@command("0 written")
def report(
    document: Annotated[Path, typer.Argument(help="x.outcome.json of a repair, or x.locate.json")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="the page to write", show_default=False)] = None,
) -> None:
    """Render the HTML report of a repair or a location again."""
    from fp16fix.report.delivery import render_again

    out(str(render_again(document, output)))
