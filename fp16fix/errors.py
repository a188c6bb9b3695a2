"""Every way to stop, as a tree with exit codes; only ``cli`` turns them into a process exit.

Fp16fixError
├── UnverifiedError (exit 1) a product was asked for that is not verified
├── InputError (exit 2)      the user's model, samples, config or command
│   ├── ModelError           an ONNX file that does not load, check or run
│   │   └── UnraisableError  or whose opset cannot be raised
│   ├── SampleError          inputs that do not fit the model
│   ├── ConfigError          YAML or flags
│   └── ReplayError          a recipe or an outcome that does not fit the model
├── BackendError (exit 3)    TensorRT is missing, or failed
│   ├── BackendMissingError  not installed, or too old for what was asked
│   └── BuildError           parser error, builder error, crash, time-out
└── OwnFaultError (exit 4)   a fault of fp16fix itself, which its user cannot mend
"""

from __future__ import annotations

from pathlib import Path


class Fp16fixError(Exception):
    """Says what is wrong, where, and what to do next."""

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", hint: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        hint = f"\n  → {self.hint}" if self.hint else ""
        return f"{where}{self.what}{hint}"

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.hint)


def absent(path: Path, noun: str = "file") -> str:
    """What to say of a path that is no file: there is nothing, or a folder."""
    return f"is a folder, not a {noun}" if path.is_dir() else f"no such {noun}"


def first_line(error: BaseException) -> str:
    """The first non-empty line of an exception's text; compilers of other projects print pages."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


def _rebuild(cls: type[Fp16fixError], what: str, where: str, hint: str) -> Fp16fixError:
    """Errors cross process borders; keyword arguments do not survive pickling by themselves."""
    return cls(what, where=where, hint=hint)


class UnverifiedError(Fp16fixError):
    """A product was asked for that is not verified, so there is none."""

    exit_code = 1


class InputError(Fp16fixError):
    """Something the user gave is wrong."""


class ModelError(InputError):
    """An ONNX file that does not load, check or run."""


class UnraisableError(ModelError):
    """An operator of an old opset has no conversion to a newer one that something needs."""


class SampleError(InputError):
    """Inputs that do not fit the model's signature."""


class ConfigError(InputError):
    """A YAML key or a flag that means nothing, or values that contradict each other."""


class ReplayError(InputError):
    """A recipe or an outcome that does not fit the model it is applied to."""


class BackendError(Fp16fixError):
    """TensorRT could not do its part."""

    exit_code = 3


class BackendMissingError(BackendError):
    """The backend asked for is not installed here, or is too old or too new for the request."""


class BuildError(BackendError):
    """The parser refused, the builder failed, crashed or ran out of time."""


class OwnFaultError(Fp16fixError):
    """A graph that fp16fix made itself does not run, though the user's does; or anything else that nobody foresaw."""

    exit_code = 4
