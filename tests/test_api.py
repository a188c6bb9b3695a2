"""The functions of the package, whatever was imported before: none shares its name with a folder."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

ORDERS = ("import fp16fix.passes.design, fp16fix.verdict.gates", "import fp16fix", "from fp16fix import repair, verify")


@pytest.mark.parametrize("first", ORDERS)
@pytest.mark.parametrize("name", ["repair", "verify", "locate", "diagnose"])
def test_functions_can_be_called_again_and_again(first: str, name: str) -> None:
    code = f"""
{first}
import fp16fix
from fp16fix import {name}
for call in ({name}, fp16fix.{name}, fp16fix.{name}):
    try:
        call("none.onnx", *({{"verify": ["x.onnx"]}}.get({name!r}, [])))
    except fp16fix.errors.ModelError as error:
        print(error.what)
import fp16fix.graph.lower as module
print(module.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["no such file"] * 3 + ["fp16fix.graph.lower"]


def test_signatures_are_the_real_ones() -> None:
    import fp16fix

    assert list(inspect.signature(fp16fix.repair).parameters)[:3] == ["model", "inputs", "output"]
    assert list(inspect.signature(fp16fix.replay).parameters) == ["outcome", "output", "model", "options"]


def test_the_api_is_all_there_is_to_see() -> None:
    code = "import fp16fix.zoo.run, fp16fix; print(dir(fp16fix) == sorted(fp16fix.__all__), [name for name in dir(fp16fix) if not hasattr(fp16fix, name)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True []\n"


def test_no_folder_has_the_name_of_a_public_function() -> None:
    import fp16fix

    folders = {path.name for path in Path(str(fp16fix.__file__)).parent.iterdir() if path.is_dir()}
    assert not folders & set(fp16fix.__all__)
