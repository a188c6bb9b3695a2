"""``fp16fix locate``: what breaks FP16, and where."""

from __future__ import annotations

import sys
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fp16fix.cli import flags
from fp16fix.cli.app import command
from fp16fix.console import show
from fp16fix.console.watch import watching


class FailOn(str, Enum):
    """What makes ``locate`` fail."""

    FAULT = "fault"
    NEVER = "never"


@command("0 done · 1 what --fail-on names was found")
def locate(
    model: flags.Model = None,
    inputs: flags.Inputs = None,
    config: flags.YamlConfig = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="x.json; the page goes to x.html [<model>.locate.json]", show_default=False)
    ] = None,
    shape: flags.Shape = None,
    reference: Annotated[
        Path | None, typer.Option("--reference", help="folder of .npz: the framework's outputs of each sample", show_default=False)
    ] = None,
    module: Annotated[
        str | None,
        typer.Option("--module", help="file.py:function that returns the PyTorch module: FP32 and autocast", show_default=False),
    ] = None,
    engine: Annotated[
        Path | None,
        typer.Option("--engine", help="the wrong FP16 engine: folder of .npz with its outputs, or a plan to run here", show_default=False),
    ] = None,
    fp32_engine: Annotated[
        Path | None, typer.Option("--fp32-engine", help="the same of an FP32 engine: is that right?", show_default=False)
    ] = None,
    check: Annotated[
        str | None, typer.Option("--check", help="oracle by exit code, as in git bisect run: 'cmd {model} …'", show_default=False)
    ] = None,
    oracle: Annotated[
        str | None, typer.Option("--oracle", help="without --check: strict, or tensorrt on this machine's GPU", show_default=False)
    ] = None,
    minimise: Annotated[
        bool | None, typer.Option("--minimise", help="also find the least that must be FP32; --check implies it", show_default=False)
    ] = None,
    journal: flags.Journal = None,
    repeats: flags.Repeats = None,
    budget: flags.Budget = None,
    calls: Annotated[int | None, typer.Option("--calls", help="how often the oracle may be asked", show_default=False)] = None,
    backend: flags.Backend = None,
    sqnr: flags.Tolerance = None,
    simplify: flags.Simplify = None,
    opset: flags.Opset = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
    device: flags.Device = None,
    threads: flags.Threads = None,
    fail_on: Annotated[FailOn, typer.Option("--fail-on", help="exit 1 where FP16 or FP32 is at fault, or never")] = FailOn.NEVER,
    as_json: flags.Json = False,
) -> None:
    """Name what breaks FP16 and where, worst first, and which repair would answer it."""
    settled = flags.config_from(
        config,
        model=model,
        inputs=inputs,
        shapes=flags.shapes(shape),
        reference=reference,
        module=module,
        engine=engine,
        fp32_engine=fp32_engine,
        build__backend=backend,
        search__check=check,
        search__oracle=oracle,
        search__minimise=minimise,
        search__journal=journal,
        search__repeats=repeats,
        search__budget_s=budget,
        search__calls=calls,
        tolerance__sqnr_db=sqnr,
        simplify=simplify,
        opset=opset,
        ort_libraries=ort_library,
        stand_ins=flags.stand_ins(stand_in),
        device=device,
        threads=threads,
    )
    from fp16fix.location.triage import Fault
    from fp16fix.report.delivery import deliver_location, papers_for
    from fp16fix.tasks.locate import locate as run

    papers = papers_for(settled, output)
    with watching(as_json) as eyes:
        found = run(settled, eyes, ["fp16fix", *sys.argv[1:]])
    show.located(deliver_location(found, papers), as_json=as_json)
    raise typer.Exit(1 if fail_on is FailOn.FAULT and found.triage.fault not in {Fault.ELSEWHERE, Fault.ENGINE_RIGHT} else 0)
