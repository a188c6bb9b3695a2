"""A command in a process of its own: one that a library ends from within is repeated once in safe mode, and that is said."""

from __future__ import annotations

import atexit
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NoReturn

from fp16fix.graph import safe
from fp16fix.process.family import end_with_parent

PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT", "SIGCONT")
"""Signals that are meant for the command and reach the process that waits for it."""
INTERRUPTED = 130
"""What shells report of a process ended by Ctrl-C."""
LOST = 120
"""What Python exits with where its last words reach nobody."""


def survive(command: Callable[[], None]) -> NoReturn:
    """Run a command, which exits by itself, and exit as it does; where there is no fork, it runs here."""
    if not hasattr(os, "fork"):
        command()
        sys.exit(0)
    code = attempt(command)
    reason = safe.ended_by_library(code)
    if reason:
        sys.stderr.write(f"fp16fix: {reason[0].lower()}{reason[1:]}; once more in safe mode, with graph optimisers off\n")
        os.environ[safe.VARIABLE] = reason
        code = attempt(command)
    if code < 0:
        ended(-code)
    sys.exit(code)


def attempt(command: Callable[[], None]) -> int:
    """The exit code of one run in a child process, or minus the signal that ended it."""
    sys.stdout.flush()
    sys.stderr.flush()
    held = {getattr(signal, name) for name in PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, held)
    child = os.fork()
    if not child:
        alone(held, command)
    with passing_on(child) as woken:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        while True:
            gone, status = os.waitpid(child, os.WNOHANG)
            if gone:
                return os.waitstatus_to_exitcode(status)
            select.select([woken], [], [])
            os.read(woken, 4096)


def alone(held: set[signal.Signals], command: Callable[[], None]) -> NoReturn:
    """The child's part: a group of its own, so that a terminal's Ctrl-C reaches it once; it ends with its parent."""
    os.setpgid(0, 0)
    end_with_parent(signal.SIGTERM)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, held)
        command()
    except KeyboardInterrupt:
        # It came before the command line could say so itself.
        from fp16fix.cli import left

        sys.stderr.write(f"fp16fix: interrupted; {left()}\n")
        leave(INTERRUPTED)
    except SystemExit as end:
        leave(end.code if isinstance(end.code, int) else 0 if end.code is None else 1)
    leave(0)


def leave(code: int) -> NoReturn:
    """End a forked process: what was registered for the end runs, but nobody looks through millions of objects only to free them."""
    atexit._run_exitfuncs()  # noqa: SLF001 - what the interpreter calls at its end
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            code = code or LOST
    os._exit(code)


@contextmanager
def passing_on(child: int) -> Iterator[int]:
    """Hand signals on, and stop together with the child.

    Yields a file that can be read after any signal, the child's end among them. Python calls a handler between two
    instructions of its own: of a signal that comes just before ``waitpid`` begins to wait, it would hear when the child ends.
    """

    def pass_on(number: int, _: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def pause(_number: int, _frame: FrameType | None) -> None:
        os.kill(child, signal.SIGSTOP)
        os.kill(os.getpid(), signal.SIGSTOP)

    before = {getattr(signal, name): signal.signal(getattr(signal, name), pass_on) for name in PASSED_ON}
    before[signal.SIGTSTP] = signal.signal(signal.SIGTSTP, pause)
    before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    written_before = signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    try:
        yield woken
    finally:
        signal.set_wakeup_fd(written_before)
        os.close(woken)
        os.close(wakes)
        for number, handler in before.items():
            signal.signal(number, handler)


def ended(number: int) -> NoReturn:
    """Say what ended a command that nothing could be saved of, and end as it did for whoever started this."""
    name = signal.Signals(number).name
    if name in safe.DEADLY:
        said = "a library ended the process, in safe mode too: please send the model, and the versions that `fp16fix doctor` prints"
        sys.stderr.write(f"fp16fix: {name}: {said}\n")
        sys.exit(4)
    if name == "SIGKILL":
        sys.stderr.write("fp16fix: the process was killed from outside, most likely for want of memory\n")
    sys.exit(128 + number)
