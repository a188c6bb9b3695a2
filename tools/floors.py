"""How many floors the house has: the longest chain of packages that import each other, and the modules at its root.

python -m tools.floors
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1] / "fp16fix"
ENTRANCES = frozenset({"__init__", "__main__"})
"""Modules that only lead in."""


def part_of(path: Path) -> str:
    """The package, or the module at the root, that a file belongs to."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


def imported(tree: ast.AST) -> set[str]:
    """Parts of fp16fix that a module imports, wherever in it and however it is written; imports for types alone count too."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module == "fp16fix":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("fp16fix."):
            found.add((node.module or "").split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("fp16fix.")}
    return found


def graph() -> dict[str, set[str]]:
    """Part → the other parts that it imports."""
    parts = {part_of(path) for path in ROOT.rglob("*.py")}
    found: dict[str, set[str]] = {part: set() for part in parts - ENTRANCES}
    for path in sorted(ROOT.rglob("*.py")):
        part = part_of(path)
        if part not in ENTRANCES:
            found[part] |= (imported(ast.parse(path.read_text())) & set(found)) - {part}
    return found


def chain() -> list[str]:
    """The longest chain, from the top down.

    Raises:
        ValueError: parts import each other in a circle.
    """
    below = graph()
    climbing: list[str] = []

    @cache
    def longest(part: str) -> tuple[str, ...]:
        if part in climbing:
            raise ValueError(f"a circle: {' → '.join([*climbing[climbing.index(part) :], part])}")
        climbing.append(part)
        chains: list[tuple[str, ...]] = [longest(other) for other in sorted(below[part])]
        climbing.pop()
        return (part, *max(chains, key=len)) if chains else (part,)

    whole: list[tuple[str, ...]] = [longest(part) for part in sorted(below)]
    steps: tuple[str, ...] = max(whole, key=len)
    return list(steps)


def roots() -> list[str]:
    """Modules that stand at the package's root."""
    return sorted(path.stem for path in ROOT.glob("*.py"))


if __name__ == "__main__":
    steps = chain()
    print(f"{len(steps)} floors: {' → '.join(steps)}")
    print(f"{len(roots())} modules at the root: {', '.join(roots())}")
