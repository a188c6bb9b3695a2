"""The application, and what every command has: how it speaks, what its exit codes mean."""

from __future__ import annotations

import inspect
import traceback
import typing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from fp16fix import __version__
from fp16fix.console.manner import Color, Manner, manner, speaking
from fp16fix.errors import Fp16fixError

app = typer.Typer(
    help="Repair ONNX models that break in FP16, and prove it: a verified TensorRT engine, or a named reason why not.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
FAILING = "2 bad input, config or use · 3 backend missing or failed · 4 our fault · 130, 143 interrupted"
"""Exit codes that any command may have."""
Command = Callable[..., None]


def version(wanted: bool) -> None:
    """Print the version and stop."""
    if wanted:
        typer.echo(f"fp16fix {__version__}")
        raise typer.Exit


@app.callback(epilog=f"Exit codes: 0 and 1 as each command says · {FAILING}.")
def common(_version: Annotated[bool, typer.Option("--version", callback=version, is_eager=True, help="print the version")] = False) -> None:
    """What comes before a command."""


def manners(
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="errors only; the exit code says the rest")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="every row of every list, edits, refusals, stages")] = False,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", help="append all that is told, with the time; it changes no exit code", show_default=False)
    ] = None,
    color: Annotated[Color, typer.Option("--color", help="colour")] = Color.AUTO,
) -> tuple[Manner, Path | None]:
    """What every command takes beside its own."""
    return Manner(quiet, verbose, color), log_file


@contextmanager
def noting() -> Iterator[None]:
    """The log holds why a command ended early."""
    try:
        yield
    except Fp16fixError as error:
        manner().noted(f"error: {error}")
        raise
    except typer.Exit:
        raise
    except Exception:
        manner().noted(traceback.format_exc())
        raise


def command(exits: str) -> Callable[[Command], Command]:
    """Register a command.

    Args:
        exits: what 0 and, where it has it, 1 mean.
    """

    def register(function: Command) -> Command:
        said = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
        own, shared = inspect.signature(function), inspect.signature(manners)

        @wraps(function)
        def run(**given: Any) -> None:
            how, log = manners(**{name: given.pop(name) for name in shared.parameters})
            with speaking(how, log), noting():
                function(**given)

        hints = {each: typing.get_type_hints(each, include_extras=True) for each in (function, manners)}
        parameters = [
            parameter.replace(annotation=hints[source][name])
            for source, signature in ((function, own), (manners, shared))
            for name, parameter in signature.parameters.items()
        ]
        run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        app.command(name=function.__name__, short_help=said, epilog=f"Exit codes: {exits} · {FAILING}.")(run)
        return run

    return register
