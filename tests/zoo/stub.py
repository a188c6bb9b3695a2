"""A worker that does what the text of its model says, and nothing else: it speaks as ``fp16fix.zoo.child`` does."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

Tell = Callable[[dict[str, Any]], None]


def main() -> int:
    wire = os.dup(1)
    os.dup2(2, 1)

    def tell(event: dict[str, Any]) -> None:
        os.write(wire, (json.dumps(event) + "\n").encode())

    return work_on(json.loads(sys.stdin.buffer.read()), tell)


def work_on(work: dict[str, Any], tell: Tell) -> int:
    model = Path(work["entry"]["model"])
    what, *rest = model.read_text().split()
    with (model.parent / "calls").open("a") as log:
        log.write(json.dumps(work["name"]) + "\n")
    (model.parent / f"{model.stem}.threads").write_text(os.environ.get("OPENBLAS_NUM_THREADS", ""))
    tell({"stage": "load", "total": None})
    tell({"stage": what, "total": 3})
    way: Callable[..., int | None] = WAYS.get(what, go_on)
    code = way(model, *rest)
    return deliver(tell, work, what) if code is None else code


def fail(*_: str) -> int:
    """Say nothing, and end as one whose input is bad."""
    return 2


def go_on(*_: Any) -> None:
    """Straight to the result."""


def wait(model: Path, *_: str) -> None:
    """Until somebody makes the file ``go`` beside it."""
    written = model.parent / f"{model.stem}.waits.{os.getpid()}"
    written.write_text(str(os.getpid()))
    written.replace(model.parent / f"{model.stem}.waits")
    began = time.monotonic()
    while not (model.parent / "go").exists() and time.monotonic() - began < 60:
        time.sleep(0.02)


def hang(model: Path, *_: str) -> int:
    """Hear no signal that can be ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("still here", file=sys.stderr, flush=True)
    (model.parent / f"{model.stem}.pid").write_text(str(os.getpid()))
    time.sleep(60)
    return 0


def eat(model: Path, mib: str, *_: str) -> int:
    """Memory, in a child of its own."""
    code = f"import time\nheld = [bytearray(1 << 20) for _ in range({mib})]\nfor each in held: each[::4096] = b'x' * 256\ntime.sleep(60)"
    subprocess.run([sys.executable, "-c", code], check=False)
    return 0


def die(model: Path, name: str, *_: str) -> int:
    print("last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), signal.Signals[name])
    time.sleep(60)
    return 0


def orphan(model: Path, *_: str) -> None:
    """Leave a process behind that has left its session, and whose parent is gone."""
    code = (
        "import os, sys, time\nif os.fork(): os._exit(0)\nos.setsid()\n"
        f"open({str(model.with_suffix('.pid'))!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    while not model.with_suffix(".pid").exists() or not model.with_suffix(".pid").read_text():
        time.sleep(0.02)
    if (model.parent / "stay").exists():
        time.sleep(60)


def deliver(tell: Tell, work: dict[str, Any], what: str) -> int:
    """A product, an outcome and a page, and the row of them."""
    from fp16fix.config import Entry
    from fp16fix.zoo.content import content_of

    entry = Entry.model_validate(work["entry"], context={"folder": Path()})
    content = content_of(entry, [])
    tell({"content": asdict(content)})
    output = Path(work["entry"]["output"])
    output.parent.mkdir(parents=True, exist_ok=True)
    stem = output.with_suffix("")
    files = {"onnx": str(output), "outcome": f"{stem}.outcome.json", "report": f"{stem}.report.html"}
    output.write_bytes(content.key.encode() * 100)
    Path(files["report"]).write_text("fp16fix page")
    Path(files["outcome"]).write_text(json.dumps({"tool": "stub", "files": files}))
    figure = {
        "output": "y",
        "sqnr_db": 60.0,
        "max_abs": float(what.partition("=")[2] or 0.02),
        "lost": 0,
        "mismatches": 0,
        "sample": "0",
        "unit": "px",
    }
    row = {"name": work["name"], "model": str(entry.model), "status": "not verified" if what == "wrong" else "verified", "work": "repaired"}
    row |= {"after": [figure], "made_up": entry.inputs is None, "conditions": ["fp32-accumulation"] if what == "conditional" else []}
    digests = {kind: hashlib.sha256(Path(path).read_bytes()).hexdigest() for kind, path in files.items()}
    products = {kind: {"path": path, "digest": digests[kind], "bytes": Path(path).stat().st_size} for kind, path in files.items()}
    tell({"row": row, "products": products})
    return 1 if what == "wrong" else 0


WAYS: dict[str, Callable[..., int | None]] = {"fail": fail, "hang": hang, "eat": eat, "die": die, "orphan": orphan, "wait": wait}
"""By the first word of a model; any other goes straight on."""


if __name__ == "__main__":
    sys.exit(main())
