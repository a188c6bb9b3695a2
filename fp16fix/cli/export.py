"""``fp16fix replay`` and ``fp16fix export``: what an outcome's recipe gives, here and in other tools."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from fp16fix.cli import flags
from fp16fix.cli.app import command
from fp16fix.console.manner import manner
from fp16fix.console.text import document, out
from fp16fix.errors import ConfigError
from fp16fix.report.words import visible


class ExportFormat(str, Enum):
    """What to write."""

    TRTEXEC = "trtexec"
    POLYGRAPHY = "polygraphy"
    ONNX = "onnx"


@command("0 written")
def export(
    outcome: Annotated[Path, typer.Argument(help="x.outcome.json of a repair")],
    to: Annotated[ExportFormat, typer.Option("--format", help="trtexec flags, a Polygraphy script, or the FP32 graph that both speak of")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="file to write [standard output]", show_default=False)] = None,
    model: Annotated[Path | None, typer.Option("--model", help="the model that was repaired, if it has moved", show_default=False)] = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
) -> None:
    """Write a recipe's pins for a weakly typed TensorRT (8.6 to 10), or the FP32 graph they belong to."""
    from fp16fix.graph.save import save_model, write_atomically
    from fp16fix.passes.evidence import equip
    from fp16fix.report.outcome import load
    from fp16fix.report.replay import changed, pins_for, wide_graph

    found = load(outcome)
    if to is ExportFormat.ONNX:
        if output is None:
            raise ConfigError("a graph needs a file to go to", where="export", hint="add -o repaired.fp32.onnx")
        equip(flags.config_from(None, ort_libraries=ort_library, stand_ins=flags.stand_ins(stand_in)))
        save_model(wide_graph(found, model), output)
        return
    text = pins_for(found, to.value)
    if output is not None:
        write_atomically(output, text.encode())
    else:
        text = text if text.endswith("\n") else f"{text}\n"
        document(visible(text) if manner().stdout.isatty() else text)
    if changed(found):
        said = f"these pins are for the rewritten graph: fp16fix export {outcome} --format onnx -o repaired.fp32.onnx"
        typer.echo(visible(said), err=True)


@command("0 written")
def replay(
    outcome: Annotated[Path, typer.Argument(help="x.outcome.json of a repair")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the graph to write, y.onnx")],
    model: Annotated[Path | None, typer.Option("--model", help="the model that was repaired, if it has moved", show_default=False)] = None,
    ort_library: flags.OrtLibrary = None,
    stand_in: flags.StandIn = None,
) -> None:
    """Make the repaired graph again from its recipe and the model: byte for byte what was delivered."""
    from fp16fix.tasks.replay import replay as run

    if output.suffix != ".onnx":
        raise ConfigError(f"a graph is an .onnx file, {output.name!r} is none", where="--output", hint="end it in .onnx")
    settled = flags.config_from(None, ort_libraries=ort_library, stand_ins=flags.stand_ins(stand_in))
    out(str(run(outcome, output, model, settled)))
