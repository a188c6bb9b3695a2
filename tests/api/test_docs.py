"""The pages of the API are made of its docstrings, and leave nothing out."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

import fp16fix

pytest.importorskip("pdoc")


def test_every_name_has_its_page_and_every_parameter_its_line(tmp_path: Path) -> None:
    from tools.api_docs import build

    page = next(page for page in build(tmp_path) if page.name == "fp16fix.html").read_text()
    for name in set(fp16fix.__all__) - {"__version__", "errors"}:
        assert f'id="{name}"' in page, name
    for name in ("repair", "diagnose", "locate", "verify", "replay"):
        said = inspect.getdoc(getattr(fp16fix, name)) or ""
        assert "Raises:" in said
        for each in inspect.signature(getattr(fp16fix, name)).parameters:
            assert f"{each}:" in said, f"{name} says nothing of {each}"
    assert "Octaves left above what calibration saw." in page, "keys are described as the config has them"
    assert "/work" not in page
