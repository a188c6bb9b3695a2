"""How a command speaks: how much, in colour or not, into which log; and a standard output that nobody else writes to."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from fp16fix.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console


class Color(str, Enum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Manner:
    """What was asked for on the command line; from Python, nothing."""

    quiet: bool = False
    """Errors only; documents, which were asked for, are none of it."""
    verbose: bool = False
    """Every row of every list, what loading said, each edit and stage."""
    color: Color = Color.AUTO
    log: TextIO | None = None
    """Is told everything but documents, with the time."""
    output: TextIO | None = None
    """The real standard output, where ``alone`` has put it aside."""

    @property
    def stdout(self) -> TextIO:
        """Where results go."""
        return self.output or sys.stdout

    def colored(self, stream: TextIO) -> bool:
        """Whether text for a stream may be coloured; NO_COLOR (no-color.org) says no where nothing else was said."""
        if self.color is Color.AUTO:
            return stream.isatty() and not os.environ.get("NO_COLOR")
        return self.color is Color.ALWAYS

    def console(self, stream: TextIO) -> Console:
        """Rich on a stream, in this manner."""
        from rich.console import Console

        return Console(file=stream, no_color=not self.colored(stream), force_terminal=True if self.color is Color.ALWAYS else None)

    def noted(self, line: str) -> None:
        """Into the log, if there is one."""
        if self.log is not None:
            self.log.write(f"{time.strftime('%H:%M:%S')} {line}\n")


_current = Manner()


def manner() -> Manner:
    """The one that holds now."""
    return _current


@contextmanager
def speaking(wanted: Manner, log: Path | None = None) -> Iterator[None]:
    """Speak like this within the block, and have standard output alone.

    Raises:
        ConfigError: the log cannot be written, or quiet and verbose at once.
    """
    global _current  # noqa: PLW0603 - one process has one standard output
    if wanted.quiet and wanted.verbose:
        raise ConfigError("quiet and verbose exclude each other", where="-q -v")
    before = _current
    with opened(log) as stream, alone() as output:
        _current = replace(wanted, log=stream, output=output)
        try:
            yield
        finally:
            _current = before


@contextmanager
def opened(log: Path | None) -> Iterator[TextIO | None]:
    """The log, each line written as it comes."""
    if log is None:
        yield None
        return
    try:
        stream = log.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise ConfigError(f"cannot be written: {error.strerror or error}", where=f"--log-file {log}") from error
    with stream:
        yield stream


@contextmanager
def alone() -> Iterator[TextIO]:
    """The real standard output; what anybody else prints meanwhile, native libraries too, goes to standard error."""
    real = sys.stdout
    if not is_descriptor(real, 1):
        with redirect_stdout(sys.stderr):
            yield real
        return
    real.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr), os.fdopen(os.dup(kept), "w", encoding=real.encoding, errors=real.errors) as stream:
            yield stream
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def is_descriptor(stream: TextIO, number: int) -> bool:
    """Whether a stream writes to this descriptor of the process; one that a test or a notebook put there does not."""
    try:
        return stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False
