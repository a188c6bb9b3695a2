"""``BuildOptions`` → the TensorRT flavour that serves them: one file of ``flavours`` each, found by its being there."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from fp16fix.engines import flavours
from fp16fix.engines.flavour import Backend, BackendStatus, Built, Checked, Flavour, Progress
from fp16fix.engines.options import BuildOptions
from fp16fix.errors import BackendError, BackendMissingError, ConfigError

__all__ = ["FLAVOURS", "RTX", "STRONG", "Backend", "BackendStatus", "Built", "Checked", "Flavour", "Progress", "choose"]


def found() -> dict[str, Flavour]:
    """The ``FLAVOUR`` of every file; none of them imports its TensorRT."""
    modules = [import_module(f"{flavours.__name__}.{info.name}") for info in iter_modules(flavours.__path__)]
    return {module.FLAVOUR.name: module.FLAVOUR for module in modules}


FLAVOURS = found()
RTX, STRONG = FLAVOURS["rtx"], FLAVOURS["strong"]


def choose(options: BuildOptions) -> Backend:
    """The backend that serves ``options``.

    ``auto`` takes TensorRT-RTX if it is installed, else TensorRT strongly typed, else (TensorRT below 10) weakly typed. Options
    that only one family knows decide first: ``targets`` asks for TensorRT-RTX, ``hardware_compatible`` and ``pins`` for TensorRT.

    Raises:
        BackendMissingError: what was asked for is not installed; the hint is the pip line.
        BackendError: weak typing on TensorRT ≥ 11, which removed it; strong typing on TensorRT < 10.
    """
    name = options.backend
    if name == "auto":
        name = automatic(options)
    if name not in FLAVOURS:
        raise ConfigError(f"there is no backend {name!r}", where="build.backend", hint=f"choose auto or one of {', '.join(FLAVOURS)}")
    flavour = FLAVOURS[name]
    flavour.require()
    check_version(flavour)
    return flavour


def automatic(options: BuildOptions) -> str:
    """What ``auto`` means here."""
    if options.pins:
        return "weak"
    wants_tensorrt = bool(options.hardware_compatible) and not options.targets
    if RTX.importable() and not (wants_tensorrt and STRONG.importable()):
        return "rtx"
    if not STRONG.importable():
        ways = f"{RTX.pip}\n    {STRONG.pip}\n    or write the repaired graph with -o model.onnx"
        raise BackendMissingError("no TensorRT flavour is installed", where="build", hint=ways)
    return "strong" if major(STRONG.version()) >= 10 else "weak"


def check_version(flavour: Flavour) -> None:
    """Refuse a flavour whose typing the installed TensorRT does not have."""
    version = flavour.version()
    if flavour.name == "weak" and major(version) >= 11:
        raise BackendError(
            f"TensorRT {version} has no weak typing: the FP16 flag and layer precisions were removed in 11",
            where="build",
            hint="use --backend strong (the repaired graph carries its types), or pip install 'tensorrt<11'",
        )
    if flavour.name == "strong" and 0 < major(version) < 10:
        raise BackendMissingError(
            f"TensorRT {version} is too old for strongly typed networks",
            where="build",
            hint="pip install 'tensorrt>=10', or --backend weak",
        )


def major(version: str) -> int:
    """``10.13.3.9`` → 10; 0 if there is no version."""
    head = version.split(".", 1)[0]
    return int(head) if head.isdigit() else 0
