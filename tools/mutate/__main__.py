"""Make faults one at a time and see whether the tests notice.

python -m tools.mutate [--only NAME ...] [--list] [--write]
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from tools.mutate.bench import Bench, BenchError, Result
from tools.mutate.fault import ROOT, Fault, faults, named
from tools.mutate.table import page

NOTE = ROOT / "notes" / "mutation.md"
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells give it."""


def main(arguments: list[str] | None = None) -> int:
    """Exit code: 0 as the table of faults says, 1 otherwise, 2 if nothing can be said, 130 after Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.mutate", description="Make faults one at a time and see whether the tests notice."
    )
    parser.add_argument("--only", nargs="+", default=(), metavar="NAME", help="these faults")
    parser.add_argument("--list", action="store_true", help="name the faults and stop")
    parser.add_argument("--write", nargs="?", type=Path, const=NOTE, metavar="FILE", help=f"write the table, to {NOTE.name} by default")
    asked = parser.parse_args(arguments)
    if asked.write is not None and asked.only:
        parser.error("--write takes all faults: a table of some would lose the others")
    try:
        chosen = named(tuple(asked.only))
        if asked.list:
            print(listing())
            return 0
        results = tried(chosen)
    except (BenchError, ValueError) as error:
        print(f"mutate: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED
    if asked.write is not None:
        by_name = {each.fault.name: each for each in results}
        asked.write.write_text(page({area: [by_name[fault.name] for fault in some] for area, some in faults().items()}))
    return summed_up(results)


def listing() -> str:
    """Every fault by area."""
    return "\n".join(f"{area:10} {fault.name:36} {fault.why}" for area, some in faults().items() for fault in some)


def tried(chosen: list[Fault]) -> list[Result]:
    """One after another, told as they come."""
    results = []
    with Bench.opened() as bench:
        bench.check(chosen)
        for number, fault in enumerate(chosen, 1):
            began = time.monotonic()
            result = bench.tried(fault)
            results.append(result)
            end = f"killed by {result.killed_by}" if result.killed_by else "survived"
            odd = "" if result.expected else " (not as listed)"
            print(f"[{number}/{len(chosen)}] {fault.name}: {end}{odd}, {time.monotonic() - began:.0f} s", flush=True)
    return results


def summed_up(results: list[Result]) -> int:
    """The last line, and the exit code."""
    killed = sum(bool(each.killed_by) for each in results)
    odd = [each.fault.name for each in results if not each.expected]
    print(f"{killed} of {len(results)} killed" + (f"; not as listed: {', '.join(odd)}" if odd else ""))
    return 1 if odd else 0


if __name__ == "__main__":
    sys.exit(main())
