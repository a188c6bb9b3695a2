"""Every name our code uses, against the real bindings of every generation; and the table against the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fp16fix import engines as build
from fp16fix.engines import api
from fp16fix.engines.proof import Layer
from tests.engines.bindings import Bindings

SERVES = {
    "8.6.1": ("weak",),
    "10.0.1": ("strong", "weak"),
    "10.13.3.9": ("strong", "weak"),
    "10.16.1.11": ("strong", "weak"),
    "11.4.0.106": ("strong",),
}
GONE_FROM_11 = (
    "BuilderFlag.FP16",
    "BuilderFlag.BF16",
    "BuilderFlag.OBEY_PRECISION_CONSTRAINTS",
    "ILayer.precision",
    "ILayer.precision_is_set",
    "ILayer.set_output_type(index, dtype)",
    "ILayer.output_type_is_set(index)",
    "NetworkDefinitionCreationFlag.EXPLICIT_BATCH",
)


def asked(bindings: Bindings, needs: tuple[str, ...]) -> dict[str, str | None]:
    found: dict[str, str | None] = bindings.ask("ask_api.py", json.dumps(needs))
    return found


def takes(need: str, doc: str) -> bool:
    """Whether some overload in a pybind11 docstring takes as many positional arguments as we pass."""
    ours = api.arguments(need)
    if ours is None:
        return True
    name = need.partition("(")[0].rpartition(".")[2]
    for inside in re.findall(rf"\b{name}\((.*)\)(?: ->|$)", doc, re.MULTILINE):
        theirs = re.split(r", (?=\w+: )", inside)
        theirs = [each for each in theirs if each and not each.startswith(("self:", "*"))]
        required = [each for each in theirs if " = " not in each]
        if len(required) <= len(ours) <= len(theirs):
            return True
    return False


def as_number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


@pytest.mark.parametrize("bindings", SERVES, indirect=True)
class TestRealBindings:
    def test_everything_a_flavour_needs_is_there(self, bindings: Bindings) -> None:
        for flavour in SERVES[bindings.version]:
            found = asked(bindings, (*api.NEEDS[flavour], *api.EXECUTE))
            assert [need for need, doc in found.items() if doc is None] == []

    def test_calls_have_the_arguments_we_pass(self, bindings: Bindings) -> None:
        needs = {need for flavour in SERVES[bindings.version] for need in (*api.NEEDS[flavour], *api.EXECUTE)}
        # ``log`` is a method that we define; bindings describe it only on their own Logger.
        needs -= {"ILogger.log(severity, msg)"}
        found = asked(bindings, tuple(sorted(needs)))
        assert [need for need, doc in found.items() if not takes(need, doc or "")] == []

    def test_optional_names_came_when_the_table_says(self, bindings: Bindings) -> None:
        found = asked(bindings, tuple(api.OPTIONAL))
        mine = as_number(bindings.version)
        expected = {need: mine >= as_number(since) for need, since in api.OPTIONAL.items()}
        if mine >= (11,):
            expected["BuilderFlag.BF16"] = False
        assert {need: doc is not None for need, doc in found.items()} == expected


@pytest.mark.parametrize("bindings", ["10.13.3.9", "11.4.0.106"], indirect=True)
def test_11_has_no_weak_typing_and_10_has(bindings: Bindings) -> None:
    found = asked(bindings, GONE_FROM_11)
    assert {doc is None for doc in found.values()} == {bindings.version.startswith("11")}


@pytest.mark.skipif(importlib.util.find_spec("tensorrt_rtx") is None, reason="TensorRT-RTX is not installed")
def test_rtx_has_everything() -> None:
    needs = json.dumps([*api.NEEDS["rtx"], *api.EXECUTE])
    root = Path(__file__).parents[2]
    script = Path(__file__).with_name("ask_api.py")
    command = [sys.executable, str(script), needs, "tensorrt_rtx"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": str(root)})
    found = json.loads(done.stdout.splitlines()[-1])
    assert [need for need, doc in found.items() if doc is None or not takes(need, doc)] == []


OBJECTS = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "layer": "ILayer",
    "tensor": "ITensor",
    "error": "ParserError",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "trt": "",
}
"""Names under which our code holds TensorRT objects → their class."""


def used() -> set[str]:
    """``Class.member`` for each attribute our modules read, set or call on a TensorRT object."""
    found = set()
    for module in ("assemble", "flavours/rtx", "flavours/strong", "flavours/weak", "runner", "listen", "proof"):
        tree = ast.parse((Path(build.__file__).parent / f"{module}.py").read_text())
        for node in ast.walk(tree):
            chain = dotted(node)
            for index, part in enumerate(chain[:-1]):
                if part in OBJECTS:
                    found.add(".".join(filter(None, [OBJECTS[part], *chain[index + 1 : index + (3 if part == "trt" else 2)]])))
                    break
    return found


def dotted(node: ast.AST) -> list[str]:
    """``a.b().c`` → [a, b, c], ``self`` left out."""
    chain: list[str] = []
    while isinstance(node, (ast.Attribute, ast.Call)):
        if isinstance(node, ast.Attribute):
            chain.append(node.attr)
            node = node.value
        else:
            node = node.func
    if isinstance(node, ast.Name):
        chain.append(node.id)
    return [part for part in reversed(chain) if part != "self"]


def test_the_table_holds_every_name_the_code_uses() -> None:
    parts = (api.BUILD, api.TENSORRT, api.STRONG, api.RTX, api.WEAK, api.EXECUTE, tuple(api.OPTIONAL))
    table = {need.partition("(")[0] for part in parts for need in part}
    # A class is in the table through any of its members; calling it is its ``__init__``, and an enum has ``__members__``.
    classes = {need.partition(".")[0] for need in table}
    implied = classes | {f"{each}.{member}" for each in classes for member in ("__init__", "__members__")}
    # ``layer`` is also what we call our own copy of one.
    ours = {"__name__"} | {f"ILayer.{field.name}" for field in dataclasses.fields(Layer)}
    assert used() - table - implied - ours == set()


def test_the_usage_scan_sees_what_it_should() -> None:
    assert {
        "IBuilderConfig.set_flag",
        "ILayer.precision",
        "BuilderFlag.FP16",
        "OnnxParser.parse_from_file",
        "IExecutionContext.execute_async_v3",
    } <= used()
