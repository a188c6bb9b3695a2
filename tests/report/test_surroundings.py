from __future__ import annotations

from dataclasses import replace

import pytest

from fp16fix.report.layout import placed
from fp16fix.report.outcome import Outcome, Wired
from fp16fix.report.surroundings import BOX, LETTERS, MODULES, NEAR, around, flows, modules, neighbourhood, overview
from tests.report.outcomes import outcome


def chain(names: list[str]) -> tuple[Wired, ...]:
    return tuple(Wired(name, "Mul", (f"t{i - 1}" if i else "x",), (f"t{i}",)) for i, name in enumerate(names))


@pytest.mark.parametrize("edges", [[(0, 1), (1, 2), (0, 2)], [(0, 1), (2, 3)], [(0, 1), (1, 2), (2, 0)], []])
def test_boxes_stand_apart_and_within_the_drawing(edges: list[tuple[int, int]]) -> None:
    found = placed(4, edges, 100.0, 40.0)
    for n, (x, y) in enumerate(found.corners):
        assert 0 <= x <= found.width - 100.0
        assert 0 <= y <= found.height - 40.0
        assert all(abs(x - a) >= 100.0 or abs(y - b) >= 40.0 for a, b in found.corners[:n])


def test_data_flows_downwards() -> None:
    found = placed(3, [(0, 1), (1, 2), (0, 2)], 100.0, 40.0).corners
    assert found[0][1] < found[1][1] < found[2][1]


def test_flows_are_what_nodes_hand_each_other_once() -> None:
    graph = (Wired("a", "Split", ("x",), ("p", "q")), Wired("b", "Mul", ("p", "q", "y"), ("z",)))
    assert flows(graph) == [(0, 1)]


def test_a_neighbourhood_is_near_both_ways_and_small_where_everything_is_near() -> None:
    assert around(10, [(i, i + 1) for i in range(20)]) == list(range(7, 14))
    assert len(around(0, [(0, i) for i in range(1, 500)])) == NEAR


def test_a_node_tells_its_type_and_its_ranges_before_and_after() -> None:
    base = outcome()
    (wide,) = base.recipe.wide
    found = neighbourhood(base, wide, {wide: "#hazard-3"})
    assert found is not None
    (here,) = [box for box in found.boxes if "here" in box.tone]
    assert here.href == "#hazard-3"
    assert "FP32" in here.title
    tensor = next(each.makes[0] for each in base.graph if each.node == wide)
    before, after = (next(each for each in some if each.tensor == tensor).absmax for some in (base.ranges, base.repaired_ranges))
    assert here.lines[2] == f"{before:.3g} → {after:.3g}"
    assert all(len(line) <= LETTERS for box in found.boxes for line in box.lines[:2])
    assert neighbourhood(base, "in a body", {}) is None


@pytest.mark.parametrize(
    ("names", "boxes"),
    [
        ([f"/enc/l{i // 4}/op{i}" for i in range(16)], [f"/enc/l{i}" for i in range(4)]),
        ([f"/enc/l{i}/op/x" for i in range(2000)], ["/enc"]),
        (["plain"], ["plain"]),
    ],
)
def test_a_graph_is_folded_by_the_deepest_paths_that_leave_few_boxes(names: list[str], boxes: list[str]) -> None:
    assert [name for name, _ in modules(chain(names))] == boxes


@pytest.mark.parametrize("name", ["/block.{}/Mul", "node_{}"])
def test_where_no_path_leaves_few_boxes_neighbours_share_one(name: str) -> None:
    found = modules(chain([name.format(i) for i in range(2000)]))
    assert len(found) == MODULES
    assert sorted(i for _, some in found for i in some) == list(range(2000))
    assert " … " in found[0][0]


def test_the_whole_graph_has_no_edge_within_a_module_and_none_without_a_graph() -> None:
    found = overview(outcome())
    assert found is not None
    assert len(found.boxes) == len(modules(outcome().graph))
    assert len(found.edges) == len(found.boxes) - 1
    assert all(box.y + BOX[1] <= found.height for box in found.boxes)
    bare: Outcome = replace(outcome(), graph=())
    assert overview(bare) is None
