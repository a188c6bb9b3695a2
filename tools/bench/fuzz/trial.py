"""One mutant through ``repair``, in a process of its own that is given a minute, and what came of it."""

from __future__ import annotations

import os
import pickle
import select
import shutil
import signal
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx.reference import ReferenceEvaluator
from onnx.reference.ops.op_reduce_l2 import ReduceL2_1

from fp16fix.config import Config
from fp16fix.errors import BackendError, Fp16fixError
from fp16fix.inputs.files import write_npz
from fp16fix.tasks.repair import repair
from tools.bench.fuzz.mutations import BYTES, MUTATIONS, damaged, pick
from tools.bench.fuzz.seeds import SEEDS, Feeds

SECONDS = 60.0
"""Thirty times what a repair of these models takes."""
LIMIT_DB = 20.0
"""A verified product whose outputs, in NumPy's FP16, are further off than this is a wrong verdict; NumPy sums in FP16 too."""
FAILURES = ("traceback", "crash", "hang", "wrong verdict")
"""Ends that must not be."""
SANE = ("verified", "not verified", "refused", "refused, though ONNX Runtime runs it")
"""Ends that may be."""


@dataclass(frozen=True, slots=True)
class End:
    """What came of one mutant."""

    number: int
    seed: str
    mutations: tuple[str, ...]
    kind: str
    why: str = ""


def trial(number: int) -> End:
    """Make mutant ``number`` and repair it; the same number is the same mutant."""
    rng = np.random.default_rng([12, number])
    folder = Path(tempfile.mkdtemp(prefix="fp16fix-fuzz-"))
    try:
        seed, mutations = write(folder, rng)
        kind, why = apart(lambda: ended(folder), SECONDS)
        return End(number, seed, mutations, kind, why)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def write(folder: Path, rng: np.random.Generator) -> tuple[str, tuple[str, ...]]:
    """A mutant and its samples; the seed's name and what was done to it."""
    seed = pick(rng, SEEDS)
    model, samples = seed.model(), seed.samples(rng)
    chosen = [pick(rng, (*MUTATIONS, *BYTES)) for _ in range(1 + int(rng.integers(5)) // 3)]
    for each in chosen:
        if each not in BYTES:
            # What an earlier mutation broke may have nothing left to change.
            with suppress(Exception):
                each.change(model, samples, rng)
    path, inputs = folder / "m.onnx", folder / "samples"
    inputs.mkdir()
    path.write_bytes(model.SerializeToString())
    for index, sample in enumerate(samples):
        write_npz(inputs / f"{index}.npz", sample)
    for each, file in zip(BYTES, (path, inputs / "0.npz"), strict=True):
        if each in chosen:
            file.write_bytes(damaged(file.read_bytes(), rng))
    return seed.name, tuple(each if isinstance(each, str) else each.name for each in chosen)


def apart(work: Callable[[], tuple[str, str]], seconds: float) -> tuple[str, str]:
    """What ``work`` returns in a fork of this process; a crash and an end that does not come are ends as well."""
    out, into = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(out)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1), os.dup2(quiet, 2)
        try:
            os.write(into, pickle.dumps(work()))
        finally:
            # Whatever is raised here is the fuzzer's own fault: it counts as a crash.
            os._exit(0)
    os.close(into)
    said, until = b"", time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0 and select.select([out], [], [], left)[0]:
        piece = os.read(out, 1 << 16)
        if not piece:
            break
        said += piece
    else:
        os.kill(child, signal.SIGKILL)
    os.close(out)
    _, status = os.waitpid(child, 0)
    if said:
        found: tuple[str, str] = pickle.loads(said)
        return found
    return ("hang", f"no end within {seconds:g} s") if os.WTERMSIG(status) == signal.SIGKILL else ("crash", f"status {status}")


def ended(folder: Path) -> tuple[str, str]:
    """How the repair ends, in one of ``FAILURES`` or ``SANE``."""
    try:
        outcome = repair(Config(model=folder / "m.onnx", inputs=str(folder / "samples"), output=folder / "o.onnx", threads=1))
    except BackendError as error:
        return "traceback", f"a backend was asked for: {error.what}"
    except Fp16fixError as error:
        if error.exit_code != BackendError.exit_code - 1:
            return "traceback", error.what
        return ("refused, though ONNX Runtime runs it" if runs(folder) else "refused"), error.what
    except Exception:  # noqa: BLE001 - that is what is looked for
        return "traceback", "\n".join(traceback.format_exc().splitlines()[-6:])
    if not outcome.verified:
        return "not verified", "; ".join(outcome.verdict.reasons)
    wrong = fault(folder)
    return ("wrong verdict", wrong) if wrong else ("verified", "")


def samples_of(folder: Path) -> list[Feeds]:
    return [dict(np.load(path, allow_pickle=False)) for path in sorted((folder / "samples").iterdir())]


def original(folder: Path) -> Callable[[Feeds], dict[str, Any]]:
    """The mutant in ONNX Runtime, as it stands."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(str(folder / "m.onnx"), options, providers=["CPUExecutionProvider"])
    names = {value.name for value in session.get_inputs()}

    def run(sample: Feeds) -> dict[str, Any]:
        values = session.run(None, {name: array for name, array in sample.items() if name in names})
        return dict(zip((output.name for output in session.get_outputs()), values, strict=True))

    return run


def runs(folder: Path) -> bool:
    """Whether ONNX Runtime runs the mutant on the very samples, to finite values."""
    try:
        run = original(folder)
        found = [np.asarray(output) for sample in samples_of(folder) for output in run(sample).values()]
    except Exception:  # noqa: BLE001 - it does not
        return False
    return bool(found) and all(array.dtype.kind != "f" or np.isfinite(array).all() for array in found)


def fault(folder: Path) -> str:
    """What is wrong with a verified product by ONNX's own reference evaluator, which computes in NumPy's FP16; empty if nothing is.

    The evaluator lacks many operators, and QuantizeLinear is wrong in it past 2³¹ steps: what it cannot run as ONNX Runtime does, in FP32,
    it cannot accuse.
    """
    try:
        run, exact, half = original(folder), evaluated(folder / "m.onnx"), evaluated(folder / "o.onnx")
        triples = [(run(sample), exact(sample), half(sample)) for sample in samples_of(folder)]
    except Exception:  # noqa: BLE001 - its errors share no base class
        return ""
    return next((why for truth, own, found in triples if not apart_from(truth, own) and (why := apart_from(truth, found))), "")


def apart_from(exact: Feeds, found: Feeds) -> str:
    """What is wrong with the outputs for one sample."""
    if exact.keys() != found.keys():
        return f"outputs {sorted(found)} for {sorted(exact)}"
    whys = (f"{name}: {why}" for name, value in exact.items() if (why := off(np.asarray(value), np.asarray(found[name]))))
    return next(whys, "")


def evaluated(path: Path) -> Callable[[Feeds], Feeds]:
    """A model in ONNX's reference evaluator."""
    proto = onnx.load(path)
    judge = ReferenceEvaluator(proto, new_ops=[ReduceL2] if proto.opset_import[0].version < AXES_READ else [])
    return lambda sample: dict(zip(judge.output_names, judge.run(None, cast(judge, sample)), strict=True))


class ReduceL2(ReduceL2_1):
    """With its squares in FP32, as compiled plans have them (notes/arithmetic.md)."""

    op_domain = ""

    def _run(self, data: Any, axes: Any = None, keepdims: Any = None) -> Any:
        found = super()._run(data.astype(np.float32), axes, keepdims)  # type: ignore[no-untyped-call]
        return tuple(each.astype(data.dtype) for each in found)


AXES_READ = 18
"""Opset from which ReduceL2 reads its axes (ONNX operator changelog)."""


def cast(judge: ReferenceEvaluator, sample: Feeds) -> dict[str, np.ndarray]:
    """Samples in the types that the product takes."""
    types = dict(zip(judge.input_names, judge.input_types, strict=True))
    return {
        name: sample[name].astype(onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type))
        for name, kind in types.items()
        if name in sample
    }


def off(exact: np.ndarray, found: np.ndarray) -> str:
    """What is wrong with one output."""
    if exact.shape != found.shape:
        return f"shape {found.shape} for {exact.shape}"
    if exact.dtype.kind != "f":
        return ""
    seen = np.isfinite(exact) & (np.abs(exact) < 65504)
    if not np.isfinite(found[seen]).all():
        return "not finite where FP32 is"
    signal_, noise = np.square(exact[seen], dtype=np.float64).sum(), np.square(exact[seen].astype(np.float64) - found[seen]).sum()
    db = 10 * np.log10(signal_ / noise) if noise and signal_ else np.inf
    return f"{db:.1f} dB" if db < LIMIT_DB and noise > 1e-12 else ""
