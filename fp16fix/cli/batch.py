"""``fp16fix batch`` and ``fp16fix diff``: many models, and two results of the same."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fp16fix.cli import flags
from fp16fix.cli.app import command
from fp16fix.console.manner import manner
from fp16fix.console.show import emit
from fp16fix.console.text import out
from fp16fix.console.watch import crowd
from fp16fix.report.words import visible

if TYPE_CHECKING:
    from fp16fix.report.batch import Batch
    from fp16fix.zoo.check import Checked

__all__ = ["batch", "diff"]
FAIL_ON = ("unverified", "conditions", "made-up", "error", "never")


@command("0 as asked · 1 what --fail-on names happened, or --check found a row that is stale, missing or unverified")
def batch(
    zoo: Annotated[Path, typer.Argument(help="YAML: defaults, models (paths, URLs, globs, overrides), output_dir, jobs, …")],
    jobs: Annotated[
        int | None,
        typer.Option("-j", "--jobs", min=0, help="models at a time, 0 for as many as cores and memory allow", show_default=False),
    ] = None,
    only: Annotated[list[str] | None, typer.Option("--only", help="just the model of this name (repeatable)", show_default=False)] = None,
    check: Annotated[bool, typer.Option("--check", help="work on nothing; fail if anything is stale, missing or unverified")] = False,
    locked: Annotated[bool, typer.Option("--locked", help="refuse inputs that are not as fp16fix.lock has them")] = False,
    lock: Annotated[
        bool, typer.Option("--lock", help="write fp16fix.lock anew: what this run gives is what later ones compare with")
    ] = False,
    fail_on: Annotated[
        list[str] | None, typer.Option("--fail-on", help=f"{', '.join(FAIL_ON)} (repeatable) [unverified]", show_default=False)
    ] = None,
    wait: Annotated[float, typer.Option("--wait", min=0, help="seconds to wait for another run on the same output folder")] = 0.0,
    executor: Annotated[str, typer.Option("--executor", help="local, or ray")] = "local",
    address: Annotated[str | None, typer.Option("--address", help="of the Ray cluster [one of this machine]", show_default=False)] = None,
    as_json: flags.Json = False,
) -> None:
    """Repair many models, each in its own process; what is unchanged since the last run stays, and one that fails never stops the rest."""
    from fp16fix.config import load_zoo
    from fp16fix.config.zoo import failures
    from fp16fix.zoo.check import check as look
    from fp16fix.zoo.run import Options, run_zoo

    plan = load_zoo(zoo)
    options = Options(jobs, failures(fail_on), tuple(only or ()), locked, lock, wait, executor, address)
    if check:
        found = look(plan, options)
        checked(found, as_json=as_json)
        raise typer.Exit(0 if all(each.good for each in found) else 1)
    eyes = crowd(quiet=as_json)
    try:
        made = run_zoo(plan, eyes, options, ["fp16fix", *sys.argv[1:]])
    finally:
        eyes.close()
    table(made, as_json=as_json)
    raise typer.Exit(1 if made.failed else 0)


@command("0 nothing became worse · 1 something did")
def diff(
    then: Annotated[Path, typer.Argument(help="x.outcome.json, or the summary.json of a batch")],
    now: Annotated[Path, typer.Argument(help="the same of a later run")],
    as_json: flags.Json = False,
) -> None:
    """What became worse or better between two outcomes or two summaries; fails if anything became worse."""
    from fp16fix.zoo.diff import differences

    found = differences(then, now)
    if as_json:
        emit([asdict(each) for each in found])
    for each in () if as_json else found:
        out(f"{'✗' if each.worse else '·'} {each.said()}")
    if not found and not as_json:
        out("nothing changed that is worth a line")
    raise typer.Exit(1 if any(each.worse for each in found) else 0)


def checked(found: list[Checked], *, as_json: bool) -> None:
    """What ``--check`` saw."""
    if as_json:
        emit([asdict(each) for each in found])
        return
    for each in sorted(found, key=lambda each: each.good):
        out(f"{'✓' if each.good else '✗'} {each.name}: {each.why}")
        for line in each.worse:
            out(f"    {line} since the locked run")


def table(made: Batch, *, as_json: bool) -> None:
    """A batch."""
    if as_json:
        emit(asdict(made))
        return
    if manner().quiet:
        return
    from rich.markup import escape
    from rich.table import Table

    from fp16fix.report.batch import worst
    from fp16fix.report.index import caveats

    grid = Table("model", "verdict", "unrepaired", "repaired", "FP32 nodes", "seconds", "work")
    for row in made.rows:
        figures = [found.said() if (found := worst(each)) is not None else "–" for each in (row.before, row.after)]
        verdict = "\n".join([row.status, *caveats(row)])
        grid.add_row(escape(visible(row.name)), verdict, *figures, str(row.fp32_nodes), f"{row.seconds:.0f}", row.work)
    manner().console(manner().stdout).print(grid)
    for row in made.rows:
        for line in (*row.reasons, *(f"{each} since the locked run" for each in row.worse)):
            out(f"{row.name}: {line}")
    for kind in ("summary", "junit", "index"):
        out(made.files[kind])
