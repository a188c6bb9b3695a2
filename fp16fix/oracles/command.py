"""``--check 'command {model} …'`` → an oracle: the candidate is written as ONNX, the command's exit code is the answer."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, ClassVar

from fp16fix.config import Config
from fp16fix.errors import BackendError, ConfigError
from fp16fix.graph.model import Model
from fp16fix.graph.save import save_model
from fp16fix.oracles.oracle import Score
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.passes.workshop import Workshop

SKIP = 125
"""Exit code for "cannot be tested", as in ``git bisect run``."""
TAIL = 400
"""Characters of the command's last output that a score or an error quotes."""

Build = Callable[[Recipe], Model]
"""The typed graph of a recipe."""


@dataclass(frozen=True)
class Command:
    """An oracle made of a command: exit code 0 is good, 125 cannot be tested, 1 to 127 is bad; anything else stops the search.

    A command that runs out of time cannot be tested either: it says nothing about the numbers.
    """

    name: ClassVar[str] = "command"
    steady: ClassVar[bool] = False
    arguments: tuple[str, ...]
    """Each with ``{model}`` where the file's path goes."""
    build: Build
    timeout_s: float | None = None

    @property
    def words(self) -> str:
        """The command."""
        return shlex.join(self.arguments)

    @classmethod
    def refuse(cls, config: Config) -> None:
        """Raises as ``words_of``."""
        if config.search.check is not None:
            words_of(config.search.check)

    @classmethod
    @contextmanager
    def opened(cls, evidence: Evidence, workshop: Workshop) -> Iterator[Command]:
        """The command of ``search.check``. Raises as ``words_of``."""
        config = evidence.config
        yield check(config.search.check or "", workshop.typed, timeout_s=config.build.timeout_s)

    def ask(self, recipe: Recipe) -> Score:
        """Write the candidate to a folder of its own, run, and clean up.

        Raises:
            BackendError: the command cannot be started, was killed by a signal, or exits above 127.
        """
        with tempfile.TemporaryDirectory(prefix="fp16fix-check-") as folder:
            path = Path(folder) / "model.onnx"
            save_model(self.build(recipe), path)
            with tempfile.TemporaryFile() as output:
                code = self.run([argument.replace("{model}", str(path)) for argument in self.arguments], output)
                return self.score(code, tail(output))

    def run(self, arguments: list[str], output: IO[bytes]) -> int | None:
        """Exit code, None when out of time; the command's whole process group ends with it."""
        try:
            process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        except OSError as error:
            raise BackendError(
                f"the check command cannot be started ({error.strerror})",
                where=shlex.join(self.arguments),
                hint="give the program's full path",
            ) from error
        try:
            return process.wait(timeout=self.timeout_s)
        except subprocess.TimeoutExpired:
            return None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def score(self, code: int | None, said: str) -> Score:
        """What an exit code means."""
        quoted = f": {said}" if said else ""
        if code is None:
            return Score(None, why=f"the check command took longer than {self.timeout_s:g} s{quoted}")
        if code == 0:
            return Score(good=True, why="the check command exits 0")
        if code == SKIP:
            return Score(None, why=f"the check command cannot test it (exit {SKIP}){quoted}")
        if 0 < code <= 127:
            return Score(good=False, why=f"the check command exits {code}{quoted}")
        how = f"was killed by signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exits {code}"
        raise BackendError(
            f"the check command {how}{quoted}",
            where=shlex.join(self.arguments),
            hint=f"exit 0 for good, 1 to 127 for bad, {SKIP} for a model that cannot be tested; a crash that means bad must be caught",
        )


def check(command: str, build: Build, *, timeout_s: float | None = None) -> Command:
    """The oracle of a command line. Raises as ``words_of``."""
    return Command(words_of(command), build, timeout_s)


def words_of(command: str) -> tuple[str, ...]:
    """A command line, split as a shell would but run without one.

    Raises:
        ConfigError: unbalanced quotes, nothing to run, or no ``{model}``.
        BackendError: there is no such program.
    """
    try:
        words = tuple(shlex.split(command))
    except ValueError as error:
        raise ConfigError(f"cannot be split into words ({error})", where=f"--check {command!r}") from error
    if not words:
        raise ConfigError("is empty", where="--check", hint="--check 'python eval.py {model}'")
    if not any("{model}" in word for word in words):
        raise ConfigError("does not say where the model's path goes", where=f"--check {command!r}", hint=f"--check '{command} {{model}}'")
    if shutil.which(words[0]) is None:
        raise BackendError(f"there is no program {words[0]!r} to run", where=f"--check {command!r}", hint="give the program's full path")
    return words


def tail(output: IO[bytes]) -> str:
    """The end of what the command printed, on one line."""
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - 4 * TAIL))
    return " ".join(output.read().decode(errors="replace").split())[-TAIL:]
