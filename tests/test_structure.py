"""Laws of the code base: imports point down the pipeline, only ``cli`` prints or exits, libraries stay in their corners."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "fp16fix"
MODULES = sorted(ROOT.rglob("*.py"))
LAYERS = (
    "errors half progress process plugins",
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
    "zoo console",
    "cli api",
)
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names.split()}
ROOT_NAMES = {"__version__"}
"""What any module may take from the package itself; everything else there stands above all others."""
EDITORS = ("graph/", "strict/", "trace/", "passes/rewrite/rules/", "passes/rescale/fold.py")
"""Who edits graphs through onnx-graphsurgeon; who only reads them takes its types from ``graph.model``."""
OPTIONAL = {
    "tensorrt": "engines",
    "tensorrt_rtx": "engines",
    "torch": "weights engines",
    "cuda": "engines",
    "safetensors": "weights",
    "ray": "zoo",
}


def part(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imports(tree: ast.AST) -> list[tuple[str, int]]:
    """Modules and lines; what is taken from the package itself counts as a module of it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.module, f"line {node.lineno} imports relatively, which this test does not read"
            whole = node.module == "fp16fix"
            found += [(f"fp16fix.{alias.name}", node.lineno) for alias in node.names] if whole else [(node.module, node.lineno)]
        elif isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
    return found


def too_high(path: Path, tree: ast.AST) -> list[str]:
    """Imports that reach up."""
    mine = RANK[part(path)]
    own = [(module.split(".")[1], line) for module, line in imports(tree) if module.startswith("fp16fix.")]
    return [f"{path.name}:{line} reaches up to {name}" for name, line in own if name not in ROOT_NAMES and RANK.get(name, 99) > mine]


@pytest.mark.parametrize(
    ("line", "reaches"),
    [
        ("from fp16fix import cli", "cli"),
        ("from fp16fix import half, repair", "repair"),
        ("from fp16fix.tasks.repair import repair", "tasks"),
        ("import fp16fix.report.view", "report"),
    ],
)
def test_every_way_to_reach_up_is_seen(line: str, reaches: str) -> None:
    found = too_high(ROOT / "graph" / "model.py", ast.parse(line))
    assert found == [f"model.py:1 reaches up to {reaches}"]


@pytest.mark.parametrize("line", ["from fp16fix import __version__, half", "from fp16fix.graph.ops import schema", "import numpy"])
def test_ways_down_are_free(line: str) -> None:
    assert not too_high(ROOT / "hazards" / "swamp.py", ast.parse(line))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path) -> None:
    if part(path) in {"__init__", "__main__"}:
        return
    assert not too_high(path, ast.parse(path.read_text()))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_optional_libraries_stay_in_their_corners(path: Path) -> None:
    for module, line in imports(ast.parse(path.read_text())):
        home = OPTIONAL.get(module.split(".")[0])
        if home is not None:
            assert part(path) in {name.removesuffix(".py") for name in home.split()}, f"{path.name}:{line} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_what_edits_graphs_imports_graphsurgeon(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    lines = [line for module, line in imports(ast.parse(path.read_text())) if module.split(".")[0] == "onnx_graphsurgeon"]
    assert not lines or name.startswith(EDITORS), f"{name}:{lines[0]} takes its types from fp16fix.graph.model"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_only_the_command_line_prints_or_exits(path: Path) -> None:
    if part(path) in {"cli", "__main__"} or path.name in {"child.py", "guard.py"}:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"print", "sys.exit", "exit", "os._exit"}, f"{path.name}:{node.lineno} calls {called}"
