"""``python -m fp16fix``: the command line, with its imports kept until they are needed."""

from __future__ import annotations


def main() -> None:
    """Entry point of the ``fp16fix`` command."""
    from fp16fix.cli import run
    from fp16fix.cli.survive import survive

    survive(run)


if __name__ == "__main__":
    main()
