"""The table of what repair makes of every ill model: ours beside AutoCast's, on the same samples, judged alike.

    python -m tools.bench.ill_table --env CACHE_DIR             writes notes/ill-table.md
    python -m tools.bench.ill_table --only layernorm            prints those rows only, without AutoCast

Exit code 1 if a row does not keep what the project promises of it; the table is written all the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fp16fix.errors import Fp16fixError
from fp16fix.graph.load import load
from fp16fix.inputs.files import write_npz
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.signature import signature
from fp16fix.inputs.split import split
from tools.bench.autocast import AutoCast, Conversion, Job, convert, environment, judged
from tools.bench.markdown import page
from tools.bench.row import Row, row
from tools.bench.subjects import Subject, subjects

NOTE = Path(__file__).parents[2] / "notes" / "ill-table.md"


def calibration(folder: Path, model: Path) -> Path:
    """The samples that ``repair`` calibrates on, as a folder of their own: AutoCast is to see no more and no less."""
    samples = load_samples(str(folder / "samples"), signature(load(model, simplified=False)), {})
    target = folder / "calibration"
    target.mkdir()
    for number, sample in enumerate(split(samples)[0]):
        write_npz(target / f"{number:03d}.npz", sample.arrays)
    return target


def rows_of(chosen: Sequence[Subject], root: Path) -> list[Row]:
    """Ours; a subject that stops the pipeline is said so and raised, for there is no row without it."""
    found = []
    for number, subject in enumerate(chosen, 1):
        print(f"{number}/{len(chosen)} {subject.name}", file=sys.stderr, flush=True)
        folder = root / subject.name
        folder.mkdir()
        try:
            found.append(row(subject, folder))
        except Fp16fixError as error:
            error.where = f"{subject.name}: {error.where}"
            raise
    return found


def autocasts(rows: Sequence[Row], root: Path, env: Path) -> dict[str, AutoCast]:
    """AutoCast's side of every row; its outputs are kept under ``env`` by the digest of what it was given."""
    kept = env / "outputs"
    kept.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for each in rows:
        name = each.subject.name
        model = root / name / f"{name}.onnx"
        job_folder = calibration(root / name, model)
        jobs[name] = Job(model, job_folder, kept / f"{digest(model, job_folder)}.onnx")
    missing = [job for job in jobs.values() if not job.output.with_suffix(".json").exists()]
    for done in convert(environment(env), missing):
        done.output.with_suffix(".json").write_text(json.dumps(asdict(done) | {"output": done.output.name}))
    found = {}
    for each in rows:
        job = jobs[each.subject.name]
        raw = json.loads(job.output.with_suffix(".json").read_text())
        conversion = Conversion(job.output, raw["seconds"], raw["error"])
        found[each.subject.name] = judged(conversion, job.model, [*each.subject.samples(), *each.subject.beyond()])
    return found


def digest(model: Path, samples: Path) -> str:
    """Of everything AutoCast is given."""
    total = hashlib.sha256(model.read_bytes())
    for path in sorted(samples.iterdir()):
        total.update(path.read_bytes())
    return total.hexdigest()[:24]


def main(arguments: Sequence[str] | None = None) -> int:
    """All rows, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, help="where AutoCast's environment is kept; its columns stay empty without")
    parser.add_argument("--only", nargs="*", default=[], help="parts of names; the rows are printed, not written")
    parser.add_argument("--out", type=Path, help="where to write instead of notes/ill-table.md")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="ill-table-") as scratch:
        rows = rows_of(subjects(given.only), Path(scratch))
        peers = {} if given.env is None else autocasts(rows, Path(scratch), given.env)
    text = page(rows, peers)
    target = given.out or (None if given.only else NOTE)
    if target is None:
        print(text)
    else:
        target.write_text(text, encoding="utf-8")
    return int(any(each.faults for each in rows))


if __name__ == "__main__":
    sys.exit(main())
