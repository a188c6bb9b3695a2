"""The command line: the only package that prints or exits."""

from __future__ import annotations

import sys

import typer

from fp16fix.errors import Fp16fixError


def run() -> None:
    """Run the command line; every ``Fp16fixError`` becomes its exit code and three plain lines, never a traceback."""
    from fp16fix.cli.commands import app

    try:
        app(standalone_mode=False)
    except Fp16fixError as error:
        typer.echo(f"fp16fix: {error}", err=True)
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        typer.echo("fp16fix: interrupted; nothing was left at the output path", err=True)
        sys.exit(130)
    except typer.BadParameter as error:
        typer.echo(f"fp16fix: {error.format_message()}", err=True)
        sys.exit(2)
