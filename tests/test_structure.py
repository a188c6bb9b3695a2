"""Laws of the code base: imports point down the pipeline, only ``cli`` prints or exits, optional libraries stay in their corners."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fp16fix"
MODULES = sorted(ROOT.rglob("*.py"))
LAYERS = (
    "errors half progress plugins",
    "graph",
    "inputs",
    "config ranges strict verdict",
    "hazards",
    "trace",
    "passes",
    "engines weights",
    "oracles",
    "search",
    "location",
    "report",
    "tasks",
    "zoo",
    "cli",
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
OPTIONAL = {"tensorrt": "engines", "tensorrt_rtx": "engines", "torch": "weights engines", "cuda": "engines", "safetensors": "weights"}


def part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            found.append((node.module, node.lineno))
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    if part(path) in {"__init__", "__main__"}:
        return
    mine = RANK[part(path)]
    for module, line in imports(ast.parse(path.read_text())):
        if module.startswith("fp16fix."):
            theirs = module.split(".")[1]
            assert RANK[theirs] <= mine, f"{path.name}:{line} reaches up to {theirs}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_libraries_stay_in_their_corners(path: Path) -> None:
    for module, line in imports(ast.parse(path.read_text())):
        home = OPTIONAL.get(module.split(".")[0])
        if home is not None:
            assert part(path) in {name.removesuffix(".py") for name in home.split()}, f"{path.name}:{line} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if part(path) in {"cli", "__main__"} or path.name == "child.py":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "sys.exit", "exit", "os._exit"}, f"{path.name}:{node.lineno} calls {called}"
