"""The functions of the package, whatever was imported before: none shares its name with a folder."""

from __future__ import annotations

import subprocess
import sys

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
