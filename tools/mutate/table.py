"""Results → ``notes/mutation.md``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tools.mutate.bench import Result

HEAD = """# Faults that the tests must notice

`python -m tools.mutate` makes each fault below in a copy of the package, one at a time, runs the tests that it names, and wants one to
fail. It exits with 1 if a fault survives that is not known to, or a known survivor is killed; `--only NAME` tries single ones. This
table is written by `--write`. `tests/test_mutate.py` holds the faults to the code, so that none is lost when a line changes.
"""


def page(results: Mapping[str, Sequence[Result]]) -> str:
    """The note."""
    everything = [each for some in results.values() for each in some]
    killed = [each for each in everything if each.killed_by]
    lines = [HEAD, f"{len(everything)} faults, {len(killed)} killed ({100 * len(killed) / max(1, len(everything)):.0f} %).", ""]
    for area, some in results.items():
        lines += [f"## {area}", "", "| fault | file | what goes wrong | killed by |", "|---|---|---|---|"]
        lines += [row(each) for each in some]
        lines.append("")
    return "\n".join(lines)


def row(result: Result) -> str:
    """One fault."""
    fault = result.fault
    end = f"`{cell(result.killed_by)}`" if result.killed_by else f"**survives**: {cell(fault.survives)}"
    return f"| {fault.name} | {', '.join(dict.fromkeys(change.file for change in fault.changes))} | {cell(fault.why)} | {end} |"


def cell(text: str) -> str:
    """What may stand in a cell."""
    return text.replace("|", "\\|").replace("\n", " ")
