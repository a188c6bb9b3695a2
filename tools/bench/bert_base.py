"""Wall time and peak memory of ``fp16fix repair`` and of AutoCast on a BERT-base with random weights, side by side in one run.

    python -m tools.bench.bert_base --env CACHE_DIR      writes notes/autocast.md

Both are whole processes started from nothing, one after the other, on the same 439 MB file and the same eight samples; ours also
verifies its result on half of them. What they made is judged afterwards, outside the measurement. Needs torch and transformers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.inputs.files import write_npz
from fp16fix.report.outcome import load as load_outcome
from tools.bench.autocast import AutoCast, Conversion, environment, judged
from tools.bench.markdown import score
from tools.bench.row import Score

NOTE = Path(__file__).parents[2] / "notes" / "autocast.md"
LENGTH, SAMPLES, SEED = 128, 8, 11

LAUNCHER = """
import resource, subprocess, sys, time
began = time.perf_counter()
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
spent = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.perf_counter() - began, spent.ru_utime + spent.ru_stime, spent.ru_maxrss)
sys.exit(code)
"""
"""A small process between: Linux counts what a process held before exec, so a child of this one would start from our own peak."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one process took."""

    seconds: float
    cpu_seconds: float
    """Over all cores; what else the machine does hardly touches it."""
    peak_mib: float
    """Largest resident set of the process or of a child it waited for."""


def export(path: Path) -> None:
    """BERT-base as transformers configures it, random weights, ids and attention mask in, hidden states out."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(SEED)
    eager: dict[str, Any] = {"attn_implementation": "eager"}
    model: Any = BertModel(BertConfig(**eager))
    model.train(mode=False)

    class Hidden(torch.nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self) -> None:
            super().__init__()
            self.bert = model

        def forward(self, ids: Any, mask: Any) -> Any:
            found = self.bert(input_ids=ids, attention_mask=mask)
            return found.last_hidden_state, found.pooler_output

    example = tuple(torch.from_numpy(array) for array in sentence(0).values())
    names: dict[str, Any] = {"input_names": list(sentence(0)), "output_names": ["last_hidden_state", "pooler_output"]}
    torch.onnx.export(Hidden(), example, str(path), opset_version=17, dynamo=False, **names)


def sentence(number: int) -> dict[str, np.ndarray]:
    """Token ids with a mask of padding; the first has none."""
    rng = np.random.default_rng(SEED + number)
    kept = LENGTH if number == 0 else int(rng.integers(LENGTH // 4, LENGTH))
    mask = (np.arange(LENGTH) < kept).astype(np.int64)[None]
    return {"input_ids": rng.integers(1000, 30000, (1, LENGTH), dtype=np.int64) * mask, "attention_mask": mask}


def measured(command: Sequence[str | Path], folder: Path, allowed: Sequence[int] = (0,)) -> Cost:
    """Run a command to its end.

    Raises:
        subprocess.CalledProcessError: it ends with a code that is not ``allowed``; its words are on stderr.
    """
    # Bytecode is kept, as it is of what is installed.
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    launched = [sys.executable, "-c", LAUNCHER, *map(str, command)]
    ran = subprocess.run(launched, cwd=folder, stdout=subprocess.PIPE, text=True, check=False, env=kept)
    if ran.returncode not in allowed:
        raise subprocess.CalledProcessError(ran.returncode, ran.args)
    seconds, cpu_seconds, peak_kib = ran.stdout.split()
    return Cost(float(seconds), float(cpu_seconds), int(peak_kib) / 1024)


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the model, run both, write the note."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", type=Path, required=True, help="where AutoCast's environment is kept")
    parser.add_argument("--out", type=Path, default=NOTE)
    given = parser.parse_args(arguments)
    python = environment(given.env.resolve())
    with tempfile.TemporaryDirectory(prefix="bert-base-") as scratch:
        folder = Path(scratch)
        model, samples = folder / "bert.onnx", folder / "samples"
        subprocess.run([sys.executable, "-c", f"from tools.bench.bert_base import *; export(Path({str(model)!r}))"], check=True)
        samples.mkdir()
        for number in range(SAMPLES):
            write_npz(samples / f"{number}.npz", sentence(number))
        ours = measured([sys.executable, "-m", "fp16fix", "repair", model, "-o", folder / "ours.onnx", "--inputs", samples], Path.cwd())
        theirs_onnx = folder / "autocast.onnx"
        flags: list[str | Path] = ["--onnx_path", model, "--output_path", theirs_onnx, "--calibration_data", samples, "--keep_io_types"]
        theirs = measured([python, "-m", "modelopt.onnx.autocast", *flags], folder)
        peer = judged(Conversion(theirs_onnx, theirs.seconds, ""), model, [sentence(number) for number in range(SAMPLES)])
        given.out.write_text(note(ours, theirs, folder / "ours.outcome.json", peer, model.stat().st_size / 2**20), encoding="utf-8")
    print(given.out.read_text(encoding="utf-8"))
    return 0


def note(ours: Cost, theirs: Cost, outcome_path: Path, peer: AutoCast, model_mib: float) -> str:
    """The page."""
    outcome = load_outcome(outcome_path)
    worst, plain = Score.of(outcome.verdict), min(each.sqnr_db for each in outcome.before)
    lost = sum(each.lost for each in outcome.before)
    return f"""# Beside AutoCast on BERT-base

Made by `python -m tools.bench.bert_base --env CACHE_DIR`, on {os.cpu_count()} cores: BERT-base from its transformers configuration
with random weights ({model_mib:.0f} MiB of ONNX, sequence {LENGTH}), {SAMPLES} samples with padding. Whole processes, one after the
other in one run. `fp16fix repair` loads, simplifies, measures, repairs, verifies on {outcome.verdict.samples} samples (half of them held out, each also under three seeds of jitter) and
writes the report; AutoCast 0.47 converts.

| | fp16fix | AutoCast | AutoCast / fp16fix |
|---|---|---|---|
| wall time | {ours.seconds:.1f} s | {theirs.seconds:.1f} s | {theirs.seconds / ours.seconds:.1f} |
| CPU time | {ours.cpu_seconds:.1f} s | {theirs.cpu_seconds:.1f} s | {theirs.cpu_seconds / ours.cpu_seconds:.1f} |
| peak memory | {ours.peak_mib:.0f} MiB | {theirs.peak_mib:.0f} MiB | {theirs.peak_mib / ours.peak_mib:.1f} |
| peak memory / model file | {ours.peak_mib / model_mib:.1f} | {theirs.peak_mib / model_mib:.1f} | |
| FP32 nodes / float nodes | {outcome.counts.fp32_nodes} / {outcome.counts.float_nodes} | {peer.fp32_nodes} / {peer.float_nodes} | |
| casts | {outcome.counts.casts} | {peer.casts} | |
| strict, worst output, dB | {score(worst.db, worst.nonfinite, worst.right)} | {score(peer.db, peer.nonfinite, peer.right)} | |
| plain FP16, dB | {score(plain, lost, lost == 0)} | | |

Stages of fp16fix, in seconds: {", ".join(f"{name} {seconds:.1f}" for name, seconds in outcome.stages.items())}.
"""


if __name__ == "__main__":
    sys.exit(main())
