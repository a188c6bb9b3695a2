"""Staged pages → HTML, by Sphinx with MyST; any warning is an error."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

MARK = "objects.inv"
"""What every site of Sphinx has: a folder with it may be replaced."""


def publish(source: Path, out: Path) -> str:
    """Build, and put the whole site at ``out`` only if nothing is wrong with it.

    Args:
        source: as ``stage`` leaves it, with ``docs/conf.py`` in it.
        out: empty, missing, or the site of a former run.

    Returns:
        What Sphinx complained of, with paths from ``source`` on; empty if all is well.

    Raises:
        SystemExit: ``out`` holds something else.
    """
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise SystemExit(f"{out} holds something other than a site; name an empty folder")
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "html"
        # A process of its own: directives and roles are registered once for all builds of a process.
        words = ["-q", "-b", "html", "-W", "--keep-going", "-c", str(source / "docs"), "-d", str(Path(folder) / "doctrees")]
        done = subprocess.run([sys.executable, "-m", "sphinx", *words, str(source), str(made)], capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.replace(f"{source}/", "") or f"sphinx ended with {done.returncode}"
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(made, out)
    return ""
