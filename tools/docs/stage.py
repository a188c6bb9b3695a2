"""The tree that Sphinx reads: pages of the repository at the places they have there, and pages that are made.

Sphinx resolves links within one source folder only, and ours lead from ``docs/`` to ``notes/`` and back. So both are copied side by
side into the build folder, and a link that works in the repository's file view works on the site.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tools.docs.pages import filled, read
from tools.docs.reference import reference

ROOT = Path(__file__).parents[2]
COPIED = ("docs", "notes", "configs", "CHANGELOG.md", "SECURITY.md")
SHOWN = {
    "docs/ci/README.md": ("Makefile", "fp16fix.yml"),
    "docs/configs.md": ("../configs/detector.yaml", "../configs/encoder.yaml", "../configs/vae.yaml", "../configs/zoo.yaml"),
    "docs/extending/README.md": (
        "setup.cfg",
        "fp16fix_example/root_of_square.py",
        "fp16fix_example/same_order.py",
        "fp16fix_example/finite.py",
    ),
}
"""Files that a page links to in the repository and that the site shows below it, in full."""
LANGUAGES = {".py": "python", ".yaml": "yaml", ".yml": "yaml", ".cfg": "ini", "": "make"}
API = '\n<p><a href="../api/fp16fix.html">The pages of every function, parameter and class</a>.</p>\n'
"""Where those pages are, said on the site alone; as HTML, for Sphinx knows none of them."""
HOME = '<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=docs/index.html"><title>fp16fix</title>\n'
"""The root document lies in ``docs/``; whoever opens the folder is sent there."""


def stage(folder: Path) -> None:
    """Write the tree into a new folder; every example is run."""
    for name in COPIED:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, ensured(folder / name))
    for name, files in SHOWN.items():
        with (folder / name).open("a", encoding="utf-8") as text:
            text.writelines(shown(file) for file in files)
    with (folder / "docs" / "python.md").open("a", encoding="utf-8") as text:
        text.write(API)
    (folder / "docs" / "yaml.md").write_text(reference(zoo=False), encoding="utf-8")
    (folder / "docs" / "zoo-yaml.md").write_text(reference(zoo=True), encoding="utf-8")
    for path in sorted((folder / "docs").rglob("*.md")):
        if page := read(path):
            path.write_text(filled(page), encoding="utf-8")
    extra = ensured(folder / "extra" / "index.html")
    extra.write_text(HOME, encoding="utf-8")
    # In a process of its own: it changes what `fp16fix` holds.
    subprocess.run([sys.executable, "-m", "tools.api_docs", str(folder / "extra" / "api")], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)


def shown(file: str) -> str:
    """A section with a file in full."""
    return f"\n## {Path(file).name}\n\n```{{literalinclude}} {file}\n:language: {LANGUAGES[Path(file).suffix]}\n```\n"


def ensured(path: Path) -> Path:
    """The same path, whose folder exists."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
