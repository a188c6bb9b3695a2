"""``python -m tools.docs OUT`` builds the site in OUT, or says what is wrong with the pages and leaves OUT as it was."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tools.docs.site import publish
from tools.docs.stage import stage


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("out", type=Path, help="a folder that is empty, missing, or holds the site of a former run")
    out = parser.parse_args().out
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "source"
        stage(source)
        fault = publish(source, out)
    if fault:
        sys.exit(fault)


if __name__ == "__main__":
    main()
