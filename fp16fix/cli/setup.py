"""``fp16fix init`` and ``fp16fix schema``: a YAML to begin with, and what an editor completes it by."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fp16fix.cli.app import command
from fp16fix.console.text import document, out

__all__ = ["init", "schema"]


@command("0 written")
def init(
    model: Annotated[Path, typer.Argument(help="ONNX model")],
    output: Annotated[Path, typer.Option("-o", "--output", help="the YAML to write; one that exists stays")] = Path("fp16fix.yaml"),
) -> None:
    """Write a commented YAML for a model: its profile, the samples beside it, bounds in its own units. Runs the model once."""
    from fp16fix.tasks.init import init as run

    made = run(model, output)
    out(f"{made.config}  (samples: {made.inputs or 'none found, they will be made up'})")
    out(f"{made.schema}  (what editors complete it by)")
    out(f"fp16fix repair --config {made.config}")


@command("0 written")
def schema(
    zoo: Annotated[bool, typer.Option("--zoo", help="of the YAML of fp16fix batch")] = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="file to write [standard output]", show_default=False)] = None,
) -> None:
    """Write the JSON Schema of the YAML; name it in the first line: # yaml-language-server: $schema=FILE."""
    from fp16fix.config.published import shipped
    from fp16fix.graph.save import write_atomically

    text = shipped(zoo=zoo)
    if output is None:
        document(text)
    else:
        write_atomically(output, text.encode())
