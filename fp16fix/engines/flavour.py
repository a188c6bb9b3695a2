"""``Flavour``: one TensorRT, how it is found, and the child process that works with it; ``Built`` and ``Checked``, what comes of it."""

from __future__ import annotations

import importlib.metadata
import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fp16fix.engines.options import BuildOptions
from fp16fix.engines.proof import Proof, proof_from_json
from fp16fix.engines.supervise import Request, supervise
from fp16fix.errors import BackendError, BackendMissingError, BuildError

Progress = Callable[[str, float], None]
"""Stage (``load``, ``parse``, ``build``, ``write``, ``prove``) and the fraction of it done, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class BackendStatus:
    """What ``doctor`` says of one flavour."""

    name: str
    installed: bool
    version: str
    works: bool
    """A builder could be created; always False if not installed."""
    why: str
    """Why it does not work, in the library's own words; empty if it does."""
    how_to_install: str
    would: str
    """What it would do with a repaired graph."""


@dataclass(frozen=True, slots=True)
class Built:
    """A plan on disk, and how it came about."""

    plan: Path
    plan_bytes: int
    backend: str
    backend_version: str
    targets: tuple[str, ...]
    """Compute capabilities it was compiled for; empty: the GPU of this machine."""
    parse_s: float
    build_s: float
    peak_mib: int
    """Largest resident memory of the child process."""
    warnings: tuple[str, ...]
    """The builder's, each once, and what of the options could not be honoured."""
    proof: Proof


@dataclass(frozen=True, slots=True)
class Checked:
    """A graph the parser accepts."""

    parse_s: float
    warnings: tuple[str, ...]
    proof: Proof


class Backend(Protocol):
    """A TensorRT flavour. Every method works in a child process: parsers and builders of this family can take the process with them."""

    @property
    def name(self) -> str:
        """``rtx``, ``strong`` or ``weak``."""

    def status(self) -> BackendStatus:
        """Whether it is installed and a builder can be created."""

    def check(self, onnx_path: Path, options: BuildOptions) -> Checked:
        """Parse only."""

    def build(self, onnx_path: Path, plan_path: Path, options: BuildOptions, progress: Progress | None = None) -> Built:
        """Parse, build, and put the plan at ``plan_path`` whole or not at all."""


@dataclass(frozen=True, slots=True)
class Flavour:
    """The one implementation of ``Backend``; flavours differ in what the child process does with them."""

    name: str
    module: str
    """Import name."""
    distribution: tuple[str, ...]
    """PyPI names under which the version is found."""
    pip: str
    would: str

    def importable(self) -> bool:
        """Whether the module is there; nothing is imported."""
        return importlib.util.find_spec(self.module) is not None

    def version(self) -> str:
        """Of the installed distribution; empty if it is not found."""
        installed = (found for name in self.distribution for found in importlib.metadata.distributions(name=name))
        return next((found.version for found in installed), "")

    def status(self) -> BackendStatus:
        """Creates a builder in a child process; ``works`` says whether that succeeded."""
        if not self.importable():
            return BackendStatus(self.name, False, "", False, f"the Python module {self.module!r} is not installed", self.pip, self.would)
        try:
            found = supervise(Request("status", self.name, BuildOptions(backend=self.name, timeout_s=120.0)), None)
        except BackendError as error:
            return BackendStatus(self.name, True, self.version(), False, error.what, error.hint or self.pip, self.would)
        return BackendStatus(self.name, True, str(found["version"]), True, "", self.pip, self.would)

    def check(self, onnx_path: Path, options: BuildOptions) -> Checked:
        """Parse in a child process.

        Raises:
            BackendMissingError: not installed.
            BuildError: the parser refuses, crashes or runs out of time or memory.
            ConfigError: profiles that do not fit the inputs.
        """
        self.require()
        found = supervise(Request("check", self.name, options, existing(onnx_path)), None)
        return Checked(found["parse_s"], tuple(found["warnings"]), proof_from_json(found["proof"]))

    def build(self, onnx_path: Path, plan_path: Path, options: BuildOptions, progress: Progress | None = None) -> Built:
        """Build in a child process; nothing is left at or beside ``plan_path`` unless it succeeds.

        Raises:
            BackendMissingError: not installed.
            BuildError: the parser or builder fails, crashes or runs out of time or memory (``BuildStoppedError``).
            ConfigError: profiles that do not fit the inputs, options the flavour cannot honour.
        """
        self.require()
        found = supervise(Request("build", self.name, options, existing(onnx_path), plan_path.resolve()), progress)
        return built_from_json(plan_path, self.name, found)

    def require(self) -> None:
        """Raise BackendMissingError with the pip line unless the module can be imported."""
        if not self.importable():
            raise BackendMissingError(
                f"backend {self.name!r} needs the Python module {self.module!r}, which is not installed", hint=self.pip
            )


def existing(path: Path) -> Path:
    """The absolute path of an ONNX file that is there; the parser's own words for a missing one are poor."""
    if not path.is_file():
        raise BuildError("no such ONNX file", where=str(path))
    return path.resolve()


def built_from_json(plan_path: Path, name: str, found: dict[str, Any]) -> Built:
    """The child's result line → ``Built``."""
    return Built(
        plan=plan_path,
        plan_bytes=found["plan_bytes"],
        backend=name,
        backend_version=found["version"],
        targets=tuple(found["targets"]),
        parse_s=found["parse_s"],
        build_s=found["build_s"],
        peak_mib=found["peak_mib"],
        warnings=tuple(found["warnings"]),
        proof=proof_from_json(found["proof"]),
    )
