"""Outcome and scratch files → the files the user asked for, all whole; the product itself only if it is verified."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.errors import ConfigError
from fp16fix.graph.save import replacing
from fp16fix.report.html import write_report
from fp16fix.report.outcome import Outcome, save

PLANS = (".plan", ".engine")
"""Endings of engine files."""


@dataclass(frozen=True, slots=True)
class Products:
    """Where everything goes."""

    plan: Path | None
    """None if a graph, not an engine, was asked for."""
    onnx: Path
    outcome: Path
    report: Path
    keep_unverified: bool

    @property
    def main(self) -> Path:
        """What ``-o`` named."""
        return self.plan or self.onnx


def products_for(config: Config) -> Products:
    """Output paths from ``config.output`` (``x.plan`` or ``x.onnx``; by default the model's name with ``.fp16.onnx``).

    Raises:
        ConfigError: an ending that says neither, or the input itself.
    """
    if config.model is None:
        raise ConfigError("no model given", hint="name an .onnx file on the command line or as `model:` in the YAML")
    output = config.output or config.model.with_suffix(".fp16.onnx")
    if output.suffix not in {*PLANS, ".onnx"}:
        raise ConfigError(
            f"cannot tell from {output.name!r} what to make",
            where="output",
            hint="end it in .plan for an engine or .onnx for the repaired graph",
        )
    stem = output.with_suffix("")
    plan = None if output.suffix == ".onnx" else output
    onnx = output if plan is None else Path(f"{stem}.onnx")
    if plan is not None and onnx.resolve() == config.model.resolve():
        # `repair model.onnx -o model.plan`: the graph the plan is built from must not take the model's name.
        onnx = Path(f"{stem}.fp16.onnx")
    if onnx.resolve() == config.model.resolve():
        raise ConfigError("the output would overwrite the model", where=str(onnx), hint="choose another name with -o")
    refuse_unwritable(output)
    return Products(plan, onnx, Path(f"{stem}.outcome.json"), Path(f"{stem}.report.html"), config.keep_unverified)


def deliver(outcome: Outcome, products: Products, onnx_path: Path) -> Outcome:
    """Put files in place and return the outcome that names them; outcome and report are always written."""
    files = {"outcome": str(products.outcome), "report": str(products.report)}
    plan = onnx_path.with_suffix(".plan")
    made = [("onnx", onnx_path, products.onnx)]
    if products.plan is not None:
        made.append(("plan", plan, products.plan))
    for kind, source, target in made:
        if outcome.verified:
            place(source, target)
            files[kind] = str(target)
        elif products.keep_unverified and source.exists():
            kept = target.with_suffix(f".unverified{target.suffix}")
            place(source, kept)
            files[f"{kind} (unverified)"] = str(kept)
    engine = replace(outcome.engine, path=files.get("plan", files.get("plan (unverified)", "")))
    outcome = replace(outcome, files=files, engine=engine)
    save(outcome, products.outcome)
    write_report(outcome, products.report)
    return outcome


def refuse_unwritable(output: Path) -> None:
    """Find out before the work, not after it.

    Raises:
        ConfigError: the folder of ``output`` is no folder, or nothing can be written there.
    """
    folder = output.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"nothing can be written in {str(folder)!r}", where=str(output), hint="choose another folder with -o")


def place(source: Path, target: Path) -> None:
    """Copy a scratch file (and its weights file) to where it belongs, whole."""
    data = source.with_suffix(source.suffix + ".data")
    if data.exists():
        with replacing(target.parent / data.name) as temporary:
            shutil.copyfile(data, temporary)
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
