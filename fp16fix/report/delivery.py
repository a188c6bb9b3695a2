"""Outcome and scratch files → the files the user asked for, all whole; the product itself only if it is verified.

A location has no product: its JSON and its page are all there is to write.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fp16fix.config import Config
from fp16fix.engines import PLANS
from fp16fix.errors import ConfigError, Fp16fixError, ModelError, absent, first_line
from fp16fix.graph.exchange import Move, exchange, scratch_beside, staged
from fp16fix.graph.save import weights_beside
from fp16fix.report import located
from fp16fix.report.document import tag_of
from fp16fix.report.html import write_location, write_report
from fp16fix.report.located import Located
from fp16fix.report.outcome import Outcome, from_json, load, save, to_json

WEIGHTS = "weights"
"""Kind of the file beside a graph past 2 GiB."""
SNIFFED = 4096
"""Characters of a file that tell whose it is."""


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
        ModelError: a folder was.
    """
    if config.model is None:
        raise ConfigError("no model given", hint="name an .onnx file on the command line or as `model:` in the YAML")
    if config.model.is_dir():
        raise ModelError(absent(config.model), where=str(config.model), hint="give the path of the .onnx file in it")
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
    refuse_folder(location)
    refuse_folder(location.with_suffix(".html"))
    refuse_foreign(location.with_suffix(".html"), "fp16fix")
    return Papers(location, location.with_suffix(".html"))


def products_for(config: Config) -> Products:
    """Output paths from ``config.output`` (``x.plan`` or ``x.onnx``; by default the model's name with ``.fp16.onnx``, or ``.bf16.onnx``).

    Raises:
        ConfigError: an ending that says neither, or the input itself.
    """
    model = model_of(config)
    output = config.output or model.with_suffix(f".{config.precision}.onnx")
    if output.suffix not in {*PLANS, ".onnx"}:
        raise ConfigError(
            f"cannot tell from {output.name!r} what to make",
            where="output",
            hint="end it in .plan for an engine or .onnx for the repaired graph",
        )
    stem = output.with_suffix("")
    outcome, report = Path(f"{stem}.outcome.json"), Path(f"{stem}.report.html")
    plan = None if output.suffix == ".onnx" else output
    onnx = output if plan is None else graph_beside(f"{stem}.{config.precision}", model, former(outcome))
    if output.resolve() == model.resolve():
        raise ConfigError("the output would overwrite the model", where=str(output), hint="choose another name with -o")
    refuse_unwritable(output)
    for path in (output, onnx, outcome, report):
        refuse_folder(path)
    refuse_foreign(outcome, '"tool"')
    refuse_foreign(report, "fp16fix")
    return Products(plan, onnx, outcome, report, config.keep_unverified)


def graph_beside(stem: str, model: Path, ours: Collection[Path]) -> Path:
    """Where the graph that a plan is built from goes: ``x.fp16.onnx``, or a numbered name where that is the model's or somebody else's."""
    names = itertools.chain([f"{stem}.onnx"], (f"{stem}-{number}.onnx" for number in itertools.count(2)))
    paths = (Path(name) for name in names)
    return next(path for path in paths if path.resolve() != model.resolve() and (path in ours or not path.exists()))


def former(outcome: Path) -> list[Path]:
    """Products that the run which wrote ``outcome`` left beside it; none where nothing readable stands there."""
    try:
        files = json.loads(outcome.read_text(encoding="utf-8"))["files"].values()
        names = {Path(str(file)).name for file in files}
    except (OSError, ValueError, RecursionError, TypeError, KeyError, AttributeError):
        return []
    stem = outcome.name.removesuffix("outcome.json")
    paths = (outcome.with_name(name) for name in sorted(names) if name.startswith(stem) and Path(name).suffix in {*PLANS, ".onnx"})
    return [path for path in paths if path.is_file()]


def refuse_folder(path: Path) -> None:
    """A folder in the way is found out before the work. Raises ConfigError."""
    if path.is_dir():
        raise ConfigError("is a folder, and a file is to be written there", where=str(path), hint="choose another name with -o")


def refuse_foreign(path: Path, mark: str) -> None:
    """A file that goes beside the product is not named by the user, so it may only replace one of ours.

    Raises:
        ConfigError: what stands there has not the ``mark`` of one.
    """
    if path.is_file() and mark not in path.read_text(encoding="utf-8", errors="replace")[:SNIFFED]:
        raise ConfigError("exists and is not fp16fix's", where=str(path), hint="choose another name with -o, or move it away")


def deliver(outcome: Outcome, products: Products, onnx_path: Path) -> Outcome:
    """Put files in place, all or none, and return the outcome that names them.

    Args:
        outcome: always written; so is the report, unless it cannot be made, which is a warning.
        products: where everything goes. What a former run left there and this one does not replace is moved aside, so that nothing
            lies beside an outcome that is not its own.
        onnx_path: the typed graph; its weights and the plan lie beside it, if there are any. They are moved.

    Raises:
        InputError: a file cannot be put in place; everything is as it was then.
    """
    with scratch_beside(products.main) as scratch:
        goods = made(outcome, products, onnx_path, scratch)
        targets = [each.target for each in goods.values()]
        aside = [Move(path, free(path)) for path in stale(products, targets)]
        outcome = signed(outcome, products, goods, aside)
        outcome, papers = written(outcome, products, scratch)
        unneeded = weights_beside(products.onnx) - {*targets} if products.onnx in targets else set()
        exchange([*goods.values(), *papers], aside)
        for each in unneeded:
            each.unlink(missing_ok=True)
        return outcome


def made(outcome: Outcome, products: Products, onnx_path: Path, scratch: Path) -> dict[str, Move]:
    """What is delivered, by kind, in the order of delivery: weights before the graph that names them."""
    if not outcome.verified and not products.keep_unverified:
        return {}
    sources = [(WEIGHTS, path, path.name) for path in sorted(weights_beside(onnx_path))]
    for kind, source, target in (("onnx", onnx_path, products.onnx), ("plan", onnx_path.with_suffix(".plan"), products.plan)):
        if target is not None and (outcome.verified or source.exists()):
            named = target if outcome.verified else target.with_suffix(f".unverified{target.suffix}")
            sources.append((kind if outcome.verified else f"{kind} (unverified)", source, named.name))
    return {kind: Move(staged(source, scratch), products.main.with_name(name)) for kind, source, name in sources}


def signed(outcome: Outcome, products: Products, goods: Mapping[str, Move], aside: Sequence[Move]) -> Outcome:
    """The outcome with what was written, and what was moved to make room for it."""
    files = {"outcome": str(products.outcome), "report": str(products.report)}
    files |= {kind: str(each.target) for kind, each in goods.items()}
    engine = replace(outcome.engine, path=files.get("plan", files.get("plan (unverified)", "")))
    moved = (f"{each.source.name} of a former run was moved to {each.target.name}." for each in aside)
    return replace(outcome, files=files, engine=engine, warnings=(*outcome.warnings, *moved))


def stale(products: Products, targets: Sequence[Path]) -> list[Path]:
    """What a former run delivered and this one does not replace, and whatever stands where its product would."""
    stands = [products.main] if products.main.is_file() else []
    return [path for path in dict.fromkeys([*former(products.outcome), *stands]) if path not in targets]


def free(path: Path) -> Path:
    """``x.former.plan``, or a numbered name where that is taken."""
    names = itertools.chain([".former"], (f".former-{number}" for number in itertools.count(2)))
    return next(other for name in names if not (other := path.with_suffix(f"{name}{path.suffix}")).exists())


def told(delivered: Outcome, products: Products, informed: Callable[[], Outcome]) -> Outcome:
    """The outcome once more, with what is measured after the delivery; whatever comes of that, what was delivered stands.

    Args:
        delivered: as it lies beside the product.
        products: where.
        informed: measures, and gives the same outcome with what it found.
    """
    try:
        outcome = informed()
        more = [line for line in delivered.warnings if line not in outcome.warnings]
        outcome = replace(outcome, files=delivered.files, engine=delivered.engine, warnings=(*outcome.warnings, *more))
        with scratch_beside(products.main) as scratch:
            outcome, papers = written(outcome, products, scratch)
            exchange(papers, [])
    except Exception as error:  # noqa: BLE001 - nothing that only informs may cost a product
        said = f"What is told beside the verdict could not be ({type(error).__name__}: {first_line(error)}); the verdict does not need it."
        return replace(delivered, warnings=(*delivered.warnings, said))
    return outcome


def written(outcome: Outcome, products: Products, scratch: Path) -> tuple[Outcome, list[Move]]:
    """The report and the outcome, which comes last, made in ``scratch``; a report that cannot be made is a warning."""
    page, sheet = Move(scratch / "report.html", products.report), Move(scratch / "outcome.json", products.outcome)
    papers = [page, sheet]
    try:
        write_report(outcome, page.source)
    except Fp16fixError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever goes wrong in a page that only informs
        said = f"The report could not be made ({type(error).__name__}: {first_line(error)})."
        files = {kind: file for kind, file in outcome.files.items() if kind != "report"}
        outcome, papers = replace(outcome, files=files, warnings=tuple(dict.fromkeys((*outcome.warnings, said)))), [sheet]
    save(outcome, sheet.source)
    return outcome, papers


def retold(outcome: Outcome, places: Mapping[str, str]) -> Outcome:
    """The outcome with folders and files of this machine (the keys of ``places``) called by what they stand for."""
    text = to_json(outcome)
    for here, there in places.items():
        text = text.replace(quoted(here), quoted(there))
    return from_json(text)


def quoted(text: str) -> str:
    """As it stands within a string of JSON."""
    return json.dumps(text, ensure_ascii=False)[1:-1]


def tell_again(outcome: Outcome, files: Mapping[str, str]) -> None:
    """Write the outcome and its page anew, where ``files`` has them."""
    save(outcome, Path(files["outcome"]))
    if "report" in files:
        write_report(outcome, Path(files["report"]))


def deliver_location(found: Located, papers: Papers) -> Located:
    """Write JSON and page, and return the location that names them."""
    found = replace(found, files={"location": str(papers.location), "report": str(papers.report)})
    with scratch_beside(papers.location) as scratch:
        page, sheet = Move(scratch / "page.html", papers.report), Move(scratch / "location.json", papers.location)
        located.save(found, sheet.source)
        write_location(found, page.source)
        exchange([page, sheet])
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
