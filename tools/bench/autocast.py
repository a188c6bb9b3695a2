"""Models and samples → what NVIDIA ModelOpt AutoCast makes of them in an environment of its own, judged by this package's strict emulator.

    python -m tools.bench.autocast --env CACHE_DIR model.onnx SAMPLES_DIR

prints JSON: FP32 nodes, casts, strict error. The environment is made on first use: torch first, then ``nvidia-modelopt[onnx]``.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
import venv
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from fp16fix.config import Tolerance
from fp16fix.errors import Fp16fixError
from fp16fix.graph.load import load
from fp16fix.graph.lower import count_types
from fp16fix.inputs.load import load as load_samples
from fp16fix.inputs.signature import signature
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.oracles.reference import Sample
from fp16fix.passes.evidence import Arrays
from fp16fix.report.document import portable

REQUIREMENTS = (("torch==2.13.0",), ("nvidia-modelopt[onnx]==0.47.*",))
"""Installed in this order: ModelOpt would otherwise bring a CUDA build of torch along."""
CHILD = Path(__file__).with_name("autocast_child.py")


@dataclass(frozen=True, slots=True)
class Job:
    """One model for AutoCast."""

    model: Path
    calibration: Path
    """A folder of ``.npz``, one sample each."""
    output: Path


@dataclass(frozen=True, slots=True)
class Conversion:
    """How a job went."""

    output: Path
    seconds: float
    """Without starting Python and importing ModelOpt."""
    error: str
    """Empty if the output is there."""


@dataclass(frozen=True, slots=True)
class AutoCast:
    """What AutoCast made of a model."""

    fp32_nodes: int = 0
    float_nodes: int = 0
    casts: int = 0
    db: float = math.nan
    """Least SQNR of any output, strictly; −inf if integers differ."""
    nonfinite: int = 0
    right: bool = False
    seconds: float = 0.0
    error: str = ""
    """Why there is nothing to judge."""


def environment(folder: Path) -> Path:
    """The Python that has AutoCast; the environment is made under ``folder`` unless it is there already."""
    python = folder / "venv" / "bin" / "python"
    ready = folder / "venv" / "ready"
    if not ready.exists():
        venv.create(folder / "venv", with_pip=True, clear=True)
        for requirement in REQUIREMENTS:
            subprocess.run([python, "-m", "pip", "install", "--quiet", *requirement], check=True)
        ready.write_text("\n".join(name for names in REQUIREMENTS for name in names))
    return python


def convert(python: Path, jobs: Sequence[Job]) -> list[Conversion]:
    """Run jobs one after another in one process; one that takes the process with it is recorded, and the rest go on in another."""
    left, found = list(jobs), []
    while left:
        done = conversions(python, left)
        found += done
        left = left[len(done) :]
        if left:
            found.append(Conversion(left[0].output, 0.0, "the process died"))
            left = left[1:]
    return found


def conversions(python: Path, jobs: Sequence[Job]) -> list[Conversion]:
    """What one process gets done."""
    spelled = [{"model": str(job.model), "calibration": str(job.calibration), "output": str(job.output)} for job in jobs]
    with tempfile.TemporaryDirectory(prefix="autocast-") as elsewhere:
        # AutoCast deletes a file called model.onnx_data from the folder it runs in.
        ran = subprocess.run([python, str(CHILD)], input=json.dumps(spelled), capture_output=True, text=True, cwd=elsewhere, check=False)
    lines = [json.loads(line) for line in ran.stdout.splitlines() if line.startswith('{"output"')]
    return [Conversion(Path(line["output"]), float(line["seconds"]), str(line["error"])) for line in lines]


def judged(conversion: Conversion, reference: Path, samples: Sequence[Sample]) -> AutoCast:
    """AutoCast's graph under the emulator and the tolerance that our own graphs are held to."""
    if conversion.error:
        return AutoCast(seconds=conversion.seconds, error=conversion.error)
    try:
        typed = load(conversion.output, simplified=False, widened=False)
        with StrictOracle(load(reference, simplified=False), samples, Tolerance().of) as oracle:
            verdict = oracle.verdict(typed)
    except Fp16fixError as error:
        return AutoCast(seconds=conversion.seconds, error=f"its output does not run: {' '.join(error.what.split())[:200]}")
    counts = count_types(typed)
    return AutoCast(
        fp32_nodes=counts["fp32_nodes"],
        float_nodes=counts["float_nodes"],
        casts=counts["casts"],
        db=min(-math.inf if each.mismatches else each.sqnr_db for each in verdict.outputs),
        nonfinite=sum(each.lost for each in verdict.outputs),
        right=verdict.verified,
        seconds=conversion.seconds,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """One model from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="where the environment is kept")
    parser.add_argument("model", type=Path)
    parser.add_argument("samples", type=Path, help="a folder of .npz, one sample each")
    given = parser.parse_args(arguments)
    samples = load_samples(str(given.samples), signature(load(given.model, simplified=False)), {})
    with tempfile.TemporaryDirectory(prefix="autocast-") as folder:
        job = Job(given.model.resolve(), given.samples.resolve(), Path(folder) / "autocast.onnx")
        found = judged(convert(environment(given.env), [job])[0], given.model, Arrays(samples))
    print(json.dumps(portable(asdict(found)), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
