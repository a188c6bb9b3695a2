"""Repairs whose pages are worth a look, and their pages as a browser shows them: wide and narrow, light and dark.

python -m tools.screenshots --out DIR [--only NAME …]

Repairs go to DIR/NAME and are made once; their pages are rendered again each time. Needs Chromium (see ``tools.browser``).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import yaml

from fp16fix.inputs.files import write_npz
from tests.ill.case import case
from tools.bench.speed.subjects import blocks
from tools.browser import browser

DEMO = Path(__file__).parents[1] / "tests" / "demo"
WIDTHS = (1440, 400)
TALLEST = 6000
"""Pixels of a picture; what is below is cut off."""
NODES = 2000
PIXELS = {"max_abs": 0.25, "unit": "px"}
Make = Callable[[Path], dict[str, Any]]


def ill(name: str, **more: Any) -> Make:
    """An ill model of the tests with its samples; ``more`` of a config."""

    def write(folder: Path) -> dict[str, Any]:
        onnx.save(case(name).build(), folder / "model.onnx")
        for index, feeds in enumerate(case(name).samples()):
            write_npz(folder / "samples" / f"{index}.npz", feeds)
        return {"model": "model.onnx", "inputs": "samples", **more}

    return write


def many(folder: Path) -> dict[str, Any]:
    """A chain of norms by hand, each of which overflows."""
    draw, generator = blocks(NODES, folder / "model.onnx"), np.random.default_rng(7)
    for index in range(4):
        write_npz(folder / "samples" / f"{index}.npz", draw(generator))
    return {"model": "model.onnx", "inputs": "samples"}


def detector(_folder: Path) -> dict[str, Any]:
    """The demo."""
    return {"model": str(DEMO / "detector.onnx"), "inputs": str(DEMO / "samples"), "tolerance": {"outputs": {"boxes": PIXELS}}}


SUBJECTS: Mapping[str, Make] = {
    "boxes": ill("coordinates-yolo-decode", tolerance={"outputs": {"boxes": PIXELS}}),
    "unverified": ill("residual-t5-ffn", tolerance={"sqnr_db": 100.0}),
    "norms": ill("architecture-bert"),
    "detector": detector,
    "many": many,
}
LOCATED = "norms"
"""The subject that is located, too."""


def fp16fix(folder: Path, *arguments: str) -> None:
    """One command, in a folder; what it finds is not an error."""
    if subprocess.run([sys.executable, "-m", "fp16fix", *arguments], check=False, cwd=folder).returncode > 1:
        raise SystemExit(f"fp16fix {' '.join(arguments)} failed in {folder}")


def pages(names: list[str], out: Path) -> dict[str, Path]:
    """Name → page, rendered now."""
    found = {}
    for name in names:
        folder = out / name
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        if not (folder / "out.outcome.json").exists():
            (folder / "config.yaml").write_text(yaml.safe_dump(SUBJECTS[name](folder) | {"output": "out.onnx"}))
            fp16fix(folder, "repair", "--config", "config.yaml")
        fp16fix(folder, "report", "out.outcome.json", "-o", "report.html")
        found[name] = folder / "report.html"
    if LOCATED in names:
        folder = out / LOCATED
        if not (folder / "found.json").exists():
            fp16fix(folder, "locate", "model.onnx", "--inputs", "samples", "-o", "found.json")
        fp16fix(folder, "report", "found.json", "-o", "located.html")
        found["locate"] = folder / "located.html"
    if {"boxes", "unverified"} <= set(names):
        models = [yaml.safe_load((out / name / "config.yaml").read_text()) for name in ("boxes", "unverified")]
        for name, each in zip(("boxes", "unverified"), models, strict=True):
            each.update({key: str(out / name / each[key]) for key in ("model", "inputs")}, output=f"{name}.onnx")
        zoo = out / "zoo"
        zoo.mkdir(exist_ok=True)
        (zoo / "zoo.yaml").write_text(json.dumps({"output_dir": ".", "models": models}))
        fp16fix(zoo, "batch", "zoo.yaml")
        found["zoo"] = zoo / "index.html"
    return found


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", choices=list(SUBJECTS), default=list(SUBJECTS))
    asked = parser.parse_args()
    out = asked.out.resolve()
    found = pages(asked.only, out)
    with browser() as chromium:
        for scheme in ("light", "dark"):
            for width in WIDTHS:
                page = chromium.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
                for name, path in found.items():
                    page.goto(path.as_uri())
                    height = min(TALLEST, int(page.evaluate("document.documentElement.scrollHeight")))
                    page.screenshot(
                        path=out / f"{name}-{width}-{scheme}.png", clip={"x": 0, "y": 0, "width": width, "height": height}, full_page=True
                    )
                page.close()


if __name__ == "__main__":
    main()
