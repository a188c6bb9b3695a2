"""``python -m fp16fix``: the command line, with its imports kept until they are needed."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry point of the ``fp16fix`` command."""
    from fp16fix.cli import run
    from fp16fix.cli.survive import survive

    survive(run)


if __name__ == "__main__":
    if not sys.flags.safe_path:
        # `python -m` puts the working directory first; what lies there is data.
        del sys.path[0]
    main()
