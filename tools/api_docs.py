"""The pages of the Python API, from its docstrings, by pdoc.

python -m tools.api_docs FOLDER
"""

from __future__ import annotations

import sys
from pathlib import Path

import pdoc
import pdoc.render

import fp16fix
from fp16fix.config import Config


def build(folder: Path) -> list[Path]:
    """Write the pages; the keys that keywords stand for are described as the config has them."""
    vars(fp16fix).update({name: getattr(fp16fix, name) for name in fp16fix.__all__})  # pdoc asks no module's __getattr__
    fp16fix.Options.__doc__ = described()
    pdoc.render.configure(docformat="google", show_source=False, search=False)
    pdoc.pdoc("fp16fix", output_directory=folder)
    return sorted(folder.rglob("*.html"))


def described() -> str:
    """``Options`` with a line for each of its keys."""
    fields = {field.alias or name: field.description or "" for name, field in Config.model_fields.items()}
    lines = [f"- `{key}`: {' '.join(fields[key].split()) or 'see the YAML.'}" for key in fp16fix.Options.__annotations__]
    return "\n".join([(fp16fix.Options.__doc__ or "").partition("\n")[0], "", *lines])


if __name__ == "__main__":
    for page in build(Path(sys.argv[1])):
        print(page)
