"""The command line: the only package that prints or exits."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer

from fp16fix.errors import Fp16fixError, OwnFaultError
from fp16fix.process.interrupts import in_place, terminable

UsageError: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")
"""typer brings its own copy of click from 0.20 on; this is the class either way."""


INTERRUPTED = 130
"""What shells report of a process ended by Ctrl-C."""
TERMINATED = 143
"""What they report of one ended by SIGTERM."""


def run() -> None:
    """Run the command line; every error becomes its exit code and a few plain lines, never a traceback."""
    from fp16fix.cli.all import app
    from fp16fix.cli.fault import described

    try:
        with terminable() as came:
            code = app(standalone_mode=False)
    except OwnFaultError as error:
        stop(described(error), error.exit_code)
    except Fp16fixError as error:
        stop(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except UsageError as error:
        format_message = getattr(error, "format_message", error.__str__)
        stop(f"{format_message()}\n  → fp16fix --help", 2)
    except Exception as error:  # noqa: BLE001 - whatever nobody foresaw is a fault of ours, and said as one
        stop(described(error), OwnFaultError.exit_code)
    if code == INTERRUPTED:  # typer turns Ctrl-C into this result by itself
        stop(f"interrupted; {left()}", TERMINATED if came else INTERRUPTED)
    sys.exit(code if isinstance(code, int) else 0)


def left() -> str:
    """What an interrupted run left behind: files appear whole and all at once, so that is all of them, or none."""
    files = ", ".join(str(path) for path in in_place())
    return f"what it made was in place by then: {files}" if files else "nothing was written, and what stood at the output path is as it was"


def stop(text: str, code: int) -> NoReturn:
    """Say why, and exit."""
    from fp16fix.report.words import visible

    typer.echo(f"fp16fix: {visible(text)}", err=True)
    sys.exit(code)
