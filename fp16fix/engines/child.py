"""One JSON request on standard input → JSON lines on standard output: the only process that ever loads a TensorRT flavour.

Started as ``python -m fp16fix.engines.child``. End of input means: stop. The process leaves through ``os._exit``, because TensorRT
objects that die in the wrong order at interpreter shutdown take the process, and its exit code, with them.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

from fp16fix.engines.assemble import Assembly, load
from fp16fix.engines.listen import LibraryRefusal, Listener
from fp16fix.engines.options import options_from_json
from fp16fix.errors import ConfigError

GRACE_S = 0.5
"""What a cancelled build is given to unwind before the process ends itself."""


class Wire(Listener):
    """A listener that writes every event as one JSON line."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self._out = os.fdopen(handle, "w", encoding="utf-8")
        self._lock = threading.Lock()

    def emit(self, event: dict[str, Any]) -> None:
        """Builders report from several threads."""
        with self._lock:
            self._out.write(json.dumps(event) + "\n")
            self._out.flush()


def main() -> int:
    """Serve one request; the exit code only distinguishes a reported failure (1) from a result (0)."""
    # TensorRT and its compiler print to standard output by themselves: events keep the real one, everything else goes to the error stream.
    wire = Wire(os.dup(1))
    os.dup2(2, 1)
    raw = json.loads(sys.stdin.readline())
    target = Path(raw["plan"]) if raw["plan"] else None
    threading.Thread(target=leave_with_parent, args=(wire, target), daemon=True).start()
    try:
        wire.emit({"result": serve(raw, target, wire)})
    except LibraryRefusal as refusal:
        wire.emit({"failure": {"kind": refusal.kind, "what": str(refusal), "hint": refusal.hint, "nodes": list(refusal.nodes)}})
        return 1
    except ConfigError as error:
        wire.emit({"failure": {"kind": "ConfigError", "what": error.what, "hint": error.hint, "nodes": []}})
        return 1
    finally:
        # Nobody is left to rename or remove it.
        if wire.cancelled.is_set() and target is not None:
            target.unlink(missing_ok=True)
    return 0


def leave_with_parent(wire: Listener, target: Path | None) -> None:
    """Input ends when the parent cancels or dies: ask the builder to stop, then stop without asking, leaving no file."""
    sys.stdin.read()
    wire.cancelled.set()
    time.sleep(GRACE_S)
    if target is not None:
        target.unlink(missing_ok=True)
    os._exit(130)


def serve(raw: dict[str, Any], target: Path | None, wire: Listener) -> dict[str, Any]:
    """Do what the request says with the flavour it names."""
    options = options_from_json(raw["options"])
    wire.severity = options.log_severity
    wire.stage("load", 0.0)
    if raw["task"] in {"run", "latency", "intermediates"}:
        return execute(raw, wire)
    assembly: Assembly = flavour_module(raw).assembly(options, wire)
    if raw["task"] == "status":
        return {"version": assembly.version}
    assembly.parse(Path(raw["onnx"]))
    if target is not None:
        assembly.write(target)
    return assembly.result()


def flavour_module(raw: dict[str, Any]) -> Any:
    """The file of the flavour that a request names."""
    return importlib.import_module(f"fp16fix.engines.flavours.{raw['flavour']}")


def execute(raw: dict[str, Any], wire: Listener) -> dict[str, Any]:
    """Run a plan on the samples in a folder; arrays come back through the same folder."""
    from fp16fix.engines.device import open_device
    from fp16fix.engines.execute import read_arrays, write_arrays
    from fp16fix.engines.runner import Runner

    runner = Runner(load(flavour_module(raw).FLAVOUR.module), Path(raw["onnx"]), open_device(), wire)
    folder = Path(raw["folder"])
    samples = [read_arrays(folder / f"in_{index}.npz") for index in range(raw["count"])]
    wire.stage("run", 0.0)
    if raw["task"] == "latency":
        return {"times_ms": runner.latencies(samples[0], warm_up=raw["warm_up"], repeats=raw["repeats"])}
    work = runner.run if raw["task"] == "run" else runner.intermediates
    for index, sample in enumerate(samples):
        write_arrays(folder / f"out_{index}.npz", work(sample))
        wire.stage("run", (index + 1) / len(samples))
    return {}


if __name__ == "__main__":
    code = 70
    try:
        code = main()
    except Exception:  # noqa: BLE001 - the parent shows the traceback; leaving by os._exit would lose it
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(code)
