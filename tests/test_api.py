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
from fp16fix import Config, {name}
from fp16fix.errors import ConfigError
for call in ({name}, fp16fix.{name}, fp16fix.{name}):
    try:
        call(Config(), *({{"verify": ["x.onnx"]}}.get({name!r}, [])))
    except (ConfigError, fp16fix.errors.InputError) as error:
        print(type(error).__name__)
import fp16fix.graph.lower as module
print(module.__name__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines()[3:] == ["fp16fix.graph.lower"]
    assert len(set(done.stdout.splitlines()[:3])) == 1


def test_signatures_are_the_real_ones() -> None:
    import fp16fix

    assert list(inspect.signature(fp16fix.repair).parameters) == ["config", "watcher", "command"]
    assert list(inspect.signature(fp16fix.replay).parameters) == ["outcome", "output", "model"]
    assert dir(fp16fix) == sorted(fp16fix.__all__)


def test_no_folder_has_the_name_of_a_public_function() -> None:
    import fp16fix

    folders = {path.name for path in Path(str(fp16fix.__file__)).parent.iterdir() if path.is_dir()}
    assert not folders & set(fp16fix.__all__)
