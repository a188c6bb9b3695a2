"""A zoo of models that are ill, lie, hang or cannot be repaired, worked on in every way that a batch knows; and how its cost grows.

    python -m tools.bench.zoo FOLDER                        makes the zoo there, and prints a line a way of working on it
    python -m tools.bench.zoo FOLDER --ways local check     those only
    python -m tools.bench.zoo FOLDER --growth 500           a zoo of so many models without work, and a tenth as many with

The ways: `single` (one at a time), `local`, `killed` (three times at random, then resumed), `check` (before and after one sample is
touched), `ray` (two nodes, one killed), `s3` (a server of this machine).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import yaml

from fp16fix.inputs.files import write_npz
from fp16fix.report.batch import DOCUMENT, Batch
from fp16fix.zoo import storage
from tests.ill.case import case

ROOT = Path(__file__).parents[2]
ILL = """architecture-convnext architecture-llama architecture-vit attention-einsum coordinates-yolo-decode constants-huge-divisor
detector-boxes-off eps-log-mel exponential-softmax-written-out harmless-mish instancenorm-16-bit-image l2norm-overflow layernorm-pow-opset13
layernorm2d-channel-first mask-minus-1e9 probability-ctc-log-softmax residual-t5-ffn rmsnorm-massive subgraph-if-layernorm
weights-huge-after-tiny""".split()
"""Names in tests/ill."""
LOADERS = {
    "hangs": "import time\ndef samples():\n    time.sleep(3600)\n    yield {}\n",
    "eats": "import time\ndef samples():\n    held = []\n    while True:\n        held.append(bytearray(b'x' * (16 << 20)))\n",
    "lies": (
        "import json, os\ndef samples():\n    row = {'name': 'lies', 'model': 'm', 'status': 'verified', 'work': 'repaired'}\n"
        "    print(json.dumps({'row': row, 'products': {}}), flush=True)\n    os._exit(0)\n    yield {}\n"
    ),
}
"""What becomes of those who ask these for samples."""
PLAIN = '<ir_version: 10, opset_import: ["" : 23]>'
SMALL = f"{PLAIN} g (float[4,16] x) => (float[4,16] y) <float k = {{100000.0}}, float d = {{%s}}> {{ a = Mul (x, k) y = Mul (a, d) }}"
ATTENTION = f"{PLAIN} g (float[2,16,32] x) => (float[2,16,32] y) {{ [attn] y = Attention <q_num_heads = 1, kv_num_heads = 1> (x, x, x) }}"
"""Ends TensorRT-RTX's builder as it is (notes/engines.md); `allow` and one build keep repair from writing it out."""
EXPECTED = {
    "corrupt": "bad input",
    "shortened": "bad input",
    "hangs": "timed out",
    "eats": "out of memory",
    "lies": "crashed",
    "ends-the-builder": "backend failed",
    "past-its-output": "not verified",
    "wants-fp16-only": "not verified",
}
"""Any other is verified."""


def samples_of(folder: Path, feeds: list[dict[str, Any]]) -> str:
    folder.mkdir(parents=True)
    for number, each in enumerate(feeds):
        write_npz(folder / f"{number:02d}.npz", each)
    return str(folder)


def noise(shape: tuple[int, ...], scale: float = 1.0) -> list[dict[str, Any]]:
    return [{"x": (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)} for seed in range(4)]


def make(root: Path) -> Path:
    """The zoo of 28."""
    models = root / "models"
    entries: list[dict[str, Any]] = []
    models.mkdir(parents=True)
    for name in ILL:
        found = case(name)
        onnx.save(found.build(), models / f"{name}.onnx")
        entries.append({"model": f"models/{name}.onnx", "inputs": samples_of(root / "samples" / name, found.samples())})
    some = samples_of(root / "samples" / "small", noise((4, 16)))
    for name in (*LOADERS, "past-its-output"):
        onnx.save(onnx.parser.parse_model(SMALL % ("1.0" if name == "past-its-output" else "0.00001")), models / f"{name}.onnx")
    for name, text in LOADERS.items():
        (root / f"{name}.py").write_text(text)
        limits = {"hangs": {"time_s": 10}, "eats": {"memory_mib": 1500}}.get(name, {})
        entries.append({"model": f"models/{name}.onnx", "inputs": f"{name}.py:samples", "limits": limits})
    entries.append({"model": "models/past-its-output.onnx", "inputs": some, "io": "fp16"})
    angles = case("angles-fourier-features")
    onnx.save(angles.build(), models / "wants-fp16-only.onnx")
    wants = samples_of(root / "samples" / "angles", angles.samples())
    entries.append({"model": "models/wants-fp16-only.onnx", "inputs": wants, "allow": ["*"]})
    (models / "corrupt.onnx").write_bytes((models / "architecture-vit.onnx").read_bytes()[:10_000])
    entries.append({"model": "models/corrupt.onnx"})
    shortened = onnx.load(models / "architecture-vit.onnx")
    onnx.save(shortened, models / "shortened.onnx", save_as_external_data=True, location="shortened.bin", size_threshold=0)
    os.truncate(models / "shortened.bin", 1000)
    entries.append({"model": "models/shortened.onnx"})
    onnx.save(onnx.parser.parse_model(ATTENTION), models / "ends-the-builder.onnx")
    attention = samples_of(root / "samples" / "attention", noise((2, 16, 32)))
    ends: dict[str, Any] = {"inputs": attention, "output": "out/ends-the-builder.plan", "allow": ["attn"], "search": {"builds": 1}}
    entries.append({"model": "models/ends-the-builder.onnx", "build": {"targets": ["sm89"]}, **ends})
    (root / "zoo.yaml").write_text(yaml.safe_dump({"output_dir": "out", "defaults": {"limits": {"time_s": 300}}, "models": entries}))
    return root / "zoo.yaml"


@dataclass
class Spent:
    """One way of working."""

    wall_s: float
    cpu_s: float
    peak_mib: float
    """Of all processes."""
    parent_mib: float
    """Of the batch's own."""
    left: int
    """Processes of a batch that was killed which are there two seconds later."""
    said: str


def runs(process: psutil.Process) -> bool:
    """Not one that has ended, and that the system has yet to let go."""
    with contextlib.suppress(psutil.Error):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def cpu_of(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def batch(path: Path, *arguments: str, kill_after_s: float | None = None, start: tuple[str, ...] = ("-m", "fp16fix")) -> Spent:
    """`fp16fix batch` in a process of its own, watched."""
    words = [sys.executable, *start, "batch", str(path), *arguments]
    began, peak, parent, cpu, left = time.monotonic(), 0.0, 0.0, 0.0, 0
    with tempfile.TemporaryFile("w+") as said:
        running = psutil.Popen(words, stdout=said, stderr=said, env={**os.environ, "PYTHONPATH": str(ROOT)})
        while running.poll() is None:
            with contextlib.suppress(psutil.Error):
                family = running.children(recursive=True)
                sizes = [each.memory_info().rss / 2**20 for each in family]
                peak, parent = max(peak, sum(sizes)), max(parent, sizes[0] if sizes else 0.0)
                cpu = max(cpu, cpu_of(running))
            if kill_after_s is not None and time.monotonic() - began > kill_after_s:
                family = running.children(recursive=True)
                running.children()[0].send_signal(signal.SIGKILL)
                running.send_signal(signal.SIGKILL)
                running.wait()
                left = sum(runs(each) for each in psutil.wait_procs(family, timeout=2)[1])
            time.sleep(0.1)
        said.seek(0)
        return Spent(time.monotonic() - began, cpu, peak, parent, left, said.read())


def judged(root: Path) -> Batch:
    """The summary; every status is what it must be."""
    made = DOCUMENT.load(root / "out" / "summary.json")
    wrong = {row.name: row.status for row in made.rows if row.status != EXPECTED.get(row.name, "verified")}
    if wrong or made.waiting:
        print(f"  NOT AS EXPECTED: {wrong} {made.waiting}")
    return made


def line(way: str, spent: Spent, note: str) -> None:
    print(f"| {way} | {spent.wall_s:.0f} | {spent.peak_mib:.0f} | {spent.parent_mib:.0f} | {note} |", flush=True)


def cleared(root: Path) -> None:
    shutil.rmtree(root / "out", ignore_errors=True)
    (root / "fp16fix.lock").unlink(missing_ok=True)


def counts(made: Batch) -> str:
    statuses: dict[str, int] = {}
    for row in made.rows:
        statuses[row.status] = statuses.get(row.status, 0) + 1
    return ", ".join(f"{count} {status}" for status, count in statuses.items())


def single(root: Path) -> None:
    cleared(root)
    line("one at a time", batch(root / "zoo.yaml", "-j", "1"), counts(judged(root)))


def local(root: Path) -> None:
    cleared(root)
    line("as many as fit", batch(root / "zoo.yaml"), counts(judged(root)))
    again = batch(root / "zoo.yaml")
    line("the same again", again, ", ".join(f"{count} {kind}" for kind, count in judged(root).counts().items()))
    shutil.rmtree(root / "kept", ignore_errors=True)
    shutil.copytree(root / "out", root / "kept")


def worked(said: str) -> set[str]:
    return set(re.findall(r"^  ([^:\s]+): load", said, re.MULTILINE))


def killed(root: Path) -> None:
    """Three kills at random; nothing that had ended well is begun again."""
    cleared(root)
    rng, done, twice, left, flying, wall = random.Random(7), set[str](), 0, 0, [], 0.0
    for _ in range(3):
        spent = batch(root / "zoo.yaml", kill_after_s=rng.uniform(15, 60))
        told = DOCUMENT.load(root / "out" / "summary.json")
        twice += len(worked(spent.said) & done)
        done |= {row.name for row in told.rows if row.judged}
        flying.append(len(worked(spent.said) - {row.name for row in told.rows}))
        wall, left = wall + spent.wall_s, left + spent.left
    spent = batch(root / "zoo.yaml")
    twice += len(worked(spent.said) & done)
    spent.wall_s += wall
    line(
        "killed three times, then resumed",
        spent,
        f"{counts(judged(root))}; in flight {flying}, done twice that had ended: {twice}, left running: {left}",
    )


def check(root: Path) -> None:
    """Before and after touching one sample, and after changing it."""
    before = batch(root / "zoo.yaml", "--check", "--fail-on", "never")
    sample = root / "samples" / "l2norm-overflow" / "00.npz"
    whole = sample.read_bytes()
    os.utime(sample)
    touched = batch(root / "zoo.yaml", "--check")
    write_npz(sample, {name: array * 1.01 for name, array in np.load(sample).items()})
    changed = batch(root / "zoo.yaml", "--check")
    sample.write_bytes(whole)
    stale = re.findall(r"✗ (\S+): (stale.*)", changed.said)
    line(
        "--check",
        before,
        f"stale before {len(re.findall('stale', before.said))}, touched {len(re.findall('stale', touched.said))}, changed {stale}",
    )


def outcomes(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in sorted(folder.glob("*.outcome.json")):
        raw = json.loads(each.read_text())
        raw["stages"] = sorted(raw["stages"])
        found[each.name] = raw
    return found | {each.name: each.read_bytes() for each in sorted(folder.glob("*.onnx"))}


def on_ray(root: Path) -> None:
    """A cluster of two nodes, one of which dies on the way."""
    import ray
    from ray.cluster_utils import Cluster

    cleared(root)
    os.environ["PYTHONPATH"] = str(ROOT)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    node = cluster.add_node(num_cpus=1)
    try:
        with contextlib.ExitStack() as stack:
            stack.callback(later(40, lambda: cluster.remove_node(node, allow_graceful=False)).join)
            spent = batch(root / "zoo.yaml", "--executor", "ray", "--address", cluster.address)
        made = judged(root)
    finally:
        ray.shutdown()
        cluster.shutdown()
    here, there = outcomes(root / "kept"), outcomes(root / "out")
    same = sum(there.get(name) == value for name, value in here.items())
    line("Ray, one of two nodes killed", spent, f"{counts(made)}; {same} of {len(here)} outcomes and graphs as locally, times apart")


def later(seconds: float, what: Callable[[], Any]) -> Any:
    import threading

    timer = threading.Timer(seconds, what)
    timer.start()
    return timer


def s3(root: Path) -> None:
    """Models, samples and outputs on a server of this machine."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        os.environ.update(
            AWS_ENDPOINT_URL=f"http://{host}:{port}", AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="x", AWS_DEFAULT_REGION="us-east-1"
        )
        import fsspec

        fsspec.filesystem("s3").mkdir("zoo")
        for each in (file for folder in ("models", "samples") for file in (root / folder).rglob("*") if file.is_file()):
            storage.send(each, Path(f"s3://zoo/{each.relative_to(root)}"))
        raw = yaml.safe_load((root / "zoo.yaml").read_text())
        for entry in raw["models"]:
            entry["model"] = f"s3://zoo/{entry['model']}"
            if not entry.get("inputs", ".py:").partition(".py:")[1]:
                entry["inputs"] = f"s3://zoo/{Path(entry['inputs']).relative_to(root)}"
            if "output" in entry:
                entry["output"] = f"s3://zoo/{entry['output']}"
        raw |= {"output_dir": "s3://zoo/out", "cache": "s3-cache", "lock": "s3.lock", "scratch": {"limit_mib": 400}}
        (root / "s3.yaml").write_text(yaml.safe_dump(raw))
        spent = batch(root / "s3.yaml")
        cleared(root)
        storage.fetch(Path("s3://zoo/out/summary.json"), root / "out" / "summary.json")
        line("from and to S3", spent, counts(judged(root)))
    finally:
        server.stop()


IDLE = "import sys; sys.argv[0] = 'fp16fix'; import fp16fix.zoo.task as task; task.WORKER = 'tests.zoo.stub'; from fp16fix.cli import run; run()"
"""`fp16fix` whose workers do next to nothing (tests/zoo/stub.py): what is left is the cost of a batch."""


def small(number: int) -> bytes:
    return bytes(onnx.parser.parse_model(SMALL % f"0.00001{number:04d}").SerializeToString())


def growth(root: Path, count: int, start: tuple[str, ...], text: Callable[[int], bytes], what: str) -> None:
    """Many small models, each another."""
    (root / "models").mkdir(parents=True)
    samples = samples_of(root / "samples", noise((4, 16)))
    for number in range(count):
        (root / "models" / f"m{number:04d}.onnx").write_bytes(text(number))
    defaults = {"inputs": samples, "simplify": False, "jitter": 1, "blends": 0}
    (root / "zoo.yaml").write_text(yaml.safe_dump({"models": ["models/*.onnx"], "defaults": defaults}))
    spent = batch(root / "zoo.yaml", start=start)
    made = DOCUMENT.load(root / "out" / "summary.json")
    work = sum(row.seconds for row in made.rows) / count
    line(
        f"{count} {what}",
        spent,
        f"{counts(made)}; {spent.wall_s / count:.2f} s, CPU {spent.cpu_s / count:.2f} s a model; each took {work:.2f} s",
    )
    spent = batch(root / "zoo.yaml", start=start)
    line("the same again", spent, f"{1000 * spent.wall_s / count:.0f} ms a model")


WAYS: Mapping[str, Callable[[Path], None]] = {"single": single, "local": local, "check": check, "killed": killed, "ray": on_ray, "s3": s3}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--growth", type=int, default=0)
    given = parser.parse_args()
    print("| way | wall s | peak MiB of all | MiB of the batch itself | |\n|---|---|---|---|---|")
    if given.growth:
        folder, plain = given.folder.absolute(), ("-m", "fp16fix")
        growth(folder / "idle", given.growth, ("-P", "-c", IDLE), lambda number: f"good {number}".encode(), "models without work")
        growth(folder / "small", given.growth // 10, plain, small, "small models")
        return 0
    root = given.folder.absolute()
    if not (root / "zoo.yaml").exists():
        make(root)
    for way in given.ways:
        WAYS[way](root)
    return 0


if __name__ == "__main__":
    sys.exit(main())
