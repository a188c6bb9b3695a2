from __future__ import annotations

from tools.floors import chain, graph, roots


def test_the_house_grows_no_floor_unnoticed() -> None:
    """The longest chain of packages; a new floor needs a reason in ``notes/architecture.md``."""
    assert len(chain()) <= 14


def test_nothing_loose_stands_at_the_root() -> None:
    assert roots() == ["__init__", "__main__", "errors", "half", "progress"]


def test_every_way_to_write_an_import_is_seen() -> None:
    import ast

    from tools.floors import imported

    text = "from fp16fix import cli, half\nfrom fp16fix.graph.model import Model\nimport fp16fix.search.judge\ndef f():\n import fp16fix.zoo as z"
    assert imported(ast.parse(text)) == {"cli", "half", "graph", "search", "zoo"}
    assert "graph" in graph()["passes"]
