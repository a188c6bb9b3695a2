"""What a builder says while it works → events: the logger and the progress monitor that TensorRT calls back, and how it refuses."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from fp16fix.engines.options import SEVERITIES
from fp16fix.engines.table import HEADING

DRIVERLESS = ("CUDA driver version is insufficient", "cudaError 35")
"""Follow-up noise on machines without a driver; never the reason why a parse or a build failed there."""
STEP = 0.01
"""Least change of a fraction worth an event."""


class LibraryRefusal(Exception):  # noqa: N818 - it is the library's answer, turned into an error on the other side of the pipe
    """The parser or builder said no."""

    def __init__(self, what: str, *, hint: str = "", nodes: Sequence[str] = (), kind: str = "BuildError") -> None:
        super().__init__(what)
        self.hint = hint
        self.nodes = tuple(nodes)
        self.kind = kind
        """Name of the ``fp16fix.errors`` class the parent raises."""


class Listener:
    """Gathers what is said; a subclass passes events on."""

    def __init__(self, severity: str = "warning") -> None:
        self.severity = severity
        self.warnings: dict[str, None] = {}
        """Ordered, each once."""
        self.errors: list[str] = []
        self.table = ""
        """The builder's last table of layers, whatever ``severity`` asks for."""
        self.cancelled = threading.Event()

    def emit(self, event: dict[str, Any]) -> None:
        """Pass one event on; here, to nobody."""

    def stage(self, name: str, done: float) -> None:
        """``done`` of stage ``name``, a fraction."""
        self.emit({"stage": name, "done": round(done, 4)})

    def say(self, severity: str, text: str) -> None:
        """One message of the library; errors and warnings are kept, others only if ``severity`` asks for them."""
        if any(noise in text for noise in DRIVERLESS):
            return
        if severity == "error":
            self.errors.append(text)
        if text.startswith(HEADING):
            self.table = text
        if SEVERITIES.index(severity) <= max(SEVERITIES.index(self.severity), SEVERITIES.index("warning")):
            self.emit({"message": f"[{severity}] {text}"})
        if severity != "error" and SEVERITIES.index(severity) <= SEVERITIES.index(self.severity):
            self.warnings.setdefault(text)

    def warn(self, text: str) -> None:
        """Something of the request that cannot be honoured; always kept."""
        self.warnings.setdefault(text)


def logger(trt: Any, listener: Listener) -> Any:
    """An ``ILogger`` that speaks to ``listener``."""

    class Ears(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            name = severity.name.lower()
            listener.say("error" if name == "internal_error" else name, message.strip())

    return Ears()


def monitor(trt: Any, listener: Listener) -> Any | None:
    """An ``IProgressMonitor`` that reports the build stage and stops it once cancelled; None where TensorRT has none (8.x)."""
    if not hasattr(trt, "IProgressMonitor"):
        return None
    phases = Phases()

    class Eyes(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            done = phases.step(phase_name, step)
            if done is not None:
                listener.stage("build", done)
            return not listener.cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Eyes()


class Phases:
    """TensorRT's nested phases → one fraction that never falls. Called from several threads."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[str | None, int, int]] = {}
        """Phase → (parent, steps, steps done)."""
        self._lock = threading.Lock()
        self._told = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase of ``steps`` steps begins inside ``parent``."""
        with self._lock:
            self._open[name] = (parent, max(1, steps), 0)

    def finish(self, name: str) -> None:
        """A phase ends."""
        with self._lock:
            self._open.pop(name, None)

    def step(self, name: str, step: int) -> float | None:
        """Step ``step`` (from 0) of a phase is done; the overall fraction if it is worth telling, else None."""
        with self._lock:
            parent, steps, _ = self._open.get(name, (None, step + 1, 0))
            self._open[name] = (parent, steps, step + 1)
            fraction = self.fraction(name)
            if fraction < self._told + STEP:
                return None
            self._told = fraction
            return fraction

    def fraction(self, name: str) -> float:
        """Each phase fills one step of its parent."""
        share, at, seen = 0.0, name, {name}
        while True:
            parent, steps, done = self._open[at]
            share = min(1.0, (done + (share if at != name else 0.0)) / steps)
            if parent is None or parent not in self._open or parent in seen:
                return share
            seen.add(parent)
            at = parent
