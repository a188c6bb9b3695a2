"""Outcome and scratch files → the files the user asked for, all whole; the product itself only if it is verified.

A location has no product: its JSON and its page are all there is to write.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import PLANS
from fp16fix.errors import ConfigError, InputError, first_line
from fp16fix.graph.save import replacing
from fp16fix.report import located
from fp16fix.report.document import tag_of
from fp16fix.report.html import write_location, write_report
from fp16fix.report.located import Located
from fp16fix.report.outcome import Outcome, load, save


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


@dataclass(frozen=True, slots=True)
class Papers:
    """Where a location goes."""

    location: Path
    report: Path


def model_of(config: Config) -> Path:
    """The model's path.

    Raises:
        ConfigError: none was given.
    """
    if config.model is None:
        raise ConfigError("no model given", hint="name an .onnx file on the command line or as `model:` in the YAML")
    return config.model


def papers_for(config: Config, output: Path | None) -> Papers:
    """Where ``locate`` writes: ``output`` (``x.json``; by default the model's name with ``.locate.json``) and the page beside it.

    Raises:
        ConfigError: another ending, or a folder in which nothing can be written.
    """
    location = output or model_of(config).with_suffix(".locate.json")
    if location.suffix != ".json":
        raise ConfigError(
            f"the location is a JSON file, {location.name!r} is none",
            where="--output",
            hint="end it in .json; the page goes beside it, as .html",
        )
    refuse_unwritable(location)
    return Papers(location, location.with_suffix(".html"))


def products_for(config: Config) -> Products:
    """Output paths from ``config.output`` (``x.plan`` or ``x.onnx``; by default the model's name with ``.fp16.onnx``).

    Raises:
        ConfigError: an ending that says neither, or the input itself.
    """
    model = model_of(config)
    output = config.output or model.with_suffix(".fp16.onnx")
    if output.suffix not in {*PLANS, ".onnx"}:
        raise ConfigError(
            f"cannot tell from {output.name!r} what to make",
            where="output",
            hint="end it in .plan for an engine or .onnx for the repaired graph",
        )
    stem = output.with_suffix("")
    plan = None if output.suffix == ".onnx" else output
    onnx = output if plan is None else Path(f"{stem}.onnx")
    if plan is not None and onnx.resolve() == model.resolve():
        # `repair model.onnx -o model.plan`: the graph the plan is built from must not take the model's name.
        onnx = Path(f"{stem}.fp16.onnx")
    if onnx.resolve() == model.resolve():
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
    return with_page(outcome, products)


def told(outcome: Outcome, delivered: Outcome, products: Products) -> Outcome:
    """The outcome once more, with what was measured after the delivery; the product stays where it is."""
    outcome = replace(outcome, files=delivered.files, engine=delivered.engine)
    save(outcome, products.outcome)
    return with_page(outcome, products)


def with_page(outcome: Outcome, products: Products) -> Outcome:
    """Write the page; one that cannot be made is said in the outcome and costs nothing else."""
    try:
        write_report(outcome, products.report)
    except InputError:
        raise
    except Exception as error:  # noqa: BLE001 - a page only informs
        said = f"The page could not be made ({type(error).__name__}: {first_line(error)})."
        outcome = replace(outcome, warnings=(*outcome.warnings, said), files={k: v for k, v in outcome.files.items() if k != "report"})
        save(outcome, products.outcome)
    return outcome


def deliver_location(found: Located, papers: Papers) -> Located:
    """Write JSON and page, and return the location that names them."""
    found = replace(found, files={"location": str(papers.location), "report": str(papers.report)})
    located.save(found, papers.location)
    write_location(found, papers.report)
    return found


def render_again(source: Path, target: Path | None) -> Path:
    """Write the page of an outcome or a location; by default where ``repair`` and ``locate`` put it. Returns where it is.

    Raises:
        ReplayError: neither of the two.
        InputError: the folder is not writable or full.
    """
    if tag_of(source) == located.TAG:
        target = target or source.with_suffix(".html")
        write_location(located.load(source), target)
    else:
        target = target or source.with_name(source.name.removesuffix(".json").removesuffix(".outcome") + ".report.html")
        write_report(load(source), target)
    return target


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
