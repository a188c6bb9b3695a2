"""The fuzzer: seeded mutants through ``repair``, and a table of how they end.

    python -m tools.bench.fuzz --write            2,000 mutants, notes/fuzz.md
    python -m tools.bench.fuzz --only 17 --count 1     one of them, with what it says

Exit code 1 if one ends as none may: with a traceback, a crash, no end, or a verdict that is wrong.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from tools.bench.fuzz.trial import FAILURES, LIMIT_DB, SANE, SECONDS, End, trial

NOTE = Path(__file__).parents[3] / "notes" / "fuzz.md"
COUNT = 2000
SHOWN = 12
"""Reasons that the table lists."""
HEAD = """# What becomes of mutants

Made by `python -m tools.bench.fuzz --write`. {count:,} seeded mutants of {seeds} small models (products that overflow, a norm, attention with a mask,
a convolution, If, Loop, an embedding, a local function, QDQ, opset 9), each with one or two mutations of the graph, its weights, what it
declares, its samples or the bytes of a file, go through `fp16fix.tasks.repair.repair`, each in a process of its own that is given
{seconds:g} s. *Wrong verdict*: verified, and ONNX's reference evaluator, which computes in NumPy's FP16, finds new non-finite values,
another shape or less than {limit:g} dB.
"""


def main() -> int:
    """Run them, and say how they ended."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--only", type=int, default=0, help="the first mutant's number")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--write", action="store_true", help=f"write {NOTE.name}")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    ends = run(range(given.only, given.only + given.count), given.jobs)
    for end in ends:
        if end.kind in FAILURES or given.count == 1:
            print(f"{end.number} {end.seed} ({', '.join(end.mutations)}): {end.kind}\n{end.why}\n")
    text = page(ends)
    if given.write:
        NOTE.write_text(text)
    print(text)
    return int(any(end.kind in FAILURES for end in ends))


def run(numbers: Sequence[int], jobs: int) -> list[End]:
    """Every mutant, several at a time; this process only imports, so that its forks are sound. Ctrl-C leaves those that were tried."""
    if jobs <= 1:
        return [trial(number) for number in numbers]
    found: list[End] = []
    with suppress(KeyboardInterrupt), multiprocessing.get_context("fork").Pool(jobs) as pool:
        for end in pool.imap_unordered(trial, numbers):
            found.append(end)
            print(f"\r{len(found)}/{len(numbers)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return sorted(found, key=lambda end: end.number)


def page(ends: Sequence[End]) -> str:
    """The note: ends by mutation, and why what ONNX Runtime runs was refused."""
    kinds = (*SANE, *FAILURES)
    rows = {
        name: Counter(end.kind for end in ends if name in end.mutations)
        for name in sorted({name for end in ends for name in end.mutations})
    }
    rows["**all**"] = Counter(end.kind for end in ends)
    seeds = len({end.seed for end in ends})
    lines = [HEAD.format(count=len(ends), seeds=seeds, seconds=SECONDS, limit=LIMIT_DB)]
    lines += ["| mutation | " + " | ".join(kinds) + " |", "|---|" + "---:|" * len(kinds)]
    lines += [f"| {name} | " + " | ".join(str(counts[kind]) for kind in kinds) + " |" for name, counts in rows.items()]
    reasons = Counter(gist(end.why) for end in ends if end.kind == SANE[3])
    lines += ["", "Refused though ONNX Runtime runs them to finite values, by reason:", ""]
    lines += [f"- {count} × {why}" for why, count in reasons.most_common(SHOWN)] or ["- none"]
    return "\n".join(lines) + "\n"


def gist(why: str) -> str:
    """A reason without what differs from mutant to mutant."""
    words = (why.splitlines() or ["?"])[0].split(" ")
    return " ".join("…" if any(sign in word for sign in "'\"[]0123456789/") else word for word in words)[:110]


if __name__ == "__main__":
    sys.exit(main())
