from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.hazards.hazard import Kind
from fp16fix.ranges.range import Range
from fp16fix.report.chart import COLUMNS, EDGE, FLOOR, Scale, buckets, classed, curve, fates, graph_order, octave_axis, path, picture
from fp16fix.report.outcome import Along, Disposition
from tests.report.outcomes import hazard, outcome, span

AXIS = Scale(-15.0, 90.0)
ROUND = 0.06
"""Half a digit of the last place written."""


def points(line: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", line)]


def steps(before: list[float | None]) -> list[Along]:
    return [Along(f"n{i}", "Mul", f"t{i}", value, 60.0) for i, value in enumerate(before)]


@given(st.lists(st.integers()), st.integers(1, 40))
def test_buckets_are_a_partition_in_order(items: list[int], most: int) -> None:
    found = buckets(items, most)
    assert [each for group in found for each in group] == items
    assert all(found)
    assert len(found) == min(len(items), most)


@given(st.lists(st.none() | st.floats(), max_size=600))
def test_a_line_stays_on_the_plot_and_keeps_its_extremes(values: list[float | None]) -> None:
    found = points(path(values, buckets(range(len(values))), AXIS))
    known = [AXIS.at(value) for value in values if value is not None and not math.isnan(value)]
    assert all(0 <= x <= 1000 and 0 <= y <= 100 for x, y in found)
    assert [x for x, _ in found] == sorted(x for x, _ in found)
    assert bool(found) == bool(known)
    if known:
        assert min(y for _, y in found) == pytest.approx(min(known), abs=ROUND)
        assert max(y for _, y in found) == pytest.approx(max(known), abs=ROUND)
    assert len(found) <= 2 * COLUMNS


def test_lost_lies_on_the_floor_and_equal_at_the_top() -> None:
    line = path([math.inf, -math.inf], buckets(range(2)), AXIS)
    assert [y for _, y in points(line)] == [0.0, 100.0]


def test_what_was_not_measured_is_a_gap_and_a_lone_point_a_dot() -> None:
    assert path([60.0, None, 60.0, 60.0, math.nan], buckets(range(5)), AXIS) == "M100.0 28.6h0M500.0 28.6L700.0 28.6"


def test_one_bad_node_among_thousands_is_seen() -> None:
    before: list[float | None] = [70.0] * 5000
    before[3217] = -math.inf
    found = curve(steps(before))
    assert max(y for _, y in points(found.before)) == 100.0
    assert found.lowest is not None
    assert found.lowest.node == "n3217"
    assert any("n3217" in title for _, _, title in found.hints)


def test_marks_stand_on_the_line_where_error_is_born() -> None:
    before: list[float | None] = [70.0] * 5000
    before[3217], before[4000] = -math.inf, None
    births = {
        "n3217": ("born", "lost here", "#row"),
        "n4000": ("born", "not measured", ""),
        "n17": ("minor", "a little", ""),
        "gone": ("born", "elsewhere", ""),
    }
    found = curve(steps(before), births)
    assert [(each.title, each.tone) for each in found.marks] == [("a little", "minor"), ("lost here", "born"), ("not measured", "born")]
    assert {(each.x, max(each.y, 0.0)) for each in found.marks} >= {(3.5, AXIS.at(70.0))}
    floor = [x for x, y in points(found.before) if y == 100.0]
    assert [found.marks[1].x] == floor
    assert (found.marks[1].y, found.marks[2].y) == (100.0 - EDGE, EDGE)


def test_without_a_repair_there_is_one_line_and_no_word_of_another() -> None:
    alone = [replace(step, after_db=None) for step in steps([70.0, 3.0])]
    found = curve(alone)
    assert found.after == ""
    assert found.marks == ()
    assert [title for _, _, title in found.hints] == ["n0 (Mul): plain FP16 70.0 dB", "n1 (Mul): plain FP16 3.0 dB"]
    assert curve(steps([70.0])).hints[0][2] == "n0 (Mul): plain FP16 70.0 dB, repaired 60.0 dB"


@pytest.mark.parametrize("before", [[], [None, None], [math.nan]])
def test_a_graph_without_a_measured_error_has_no_lowest_node(before: list[float | None]) -> None:
    assert curve(steps(before)).lowest is None
    assert curve(steps(before)).before == ""


@pytest.mark.parametrize("at", [0, 1, 3217, 4999])
def test_one_overflow_among_thousands_is_seen(at: int) -> None:
    ranges = {f"t{i}": span(f"t{i}", 2.0) for i in range(5000)}
    ranges[f"t{at}"] = span(f"t{at}", 1e6)
    found = picture(ranges, list(ranges), octave_axis(ranges.values()), {})
    assert len(found.bars) == COLUMNS
    (bar,) = [each for each in found.bars if each.tone == "over"]
    assert bar.title.startswith(f"t{at} (")
    assert bar.top == min(each.top for each in found.bars)
    assert found.over == 1


@given(st.lists(st.tuples(st.floats(0.0, 3e38), st.floats(0.0, 1.0) | st.just(math.inf)), min_size=1, max_size=8))
def test_bars_stay_on_the_plot(spans: list[tuple[float, float]]) -> None:
    ranges = {
        f"t{i}": replace(span(f"t{i}", absmax, smallest), energy=min(absmax, 1e150) ** 2 / 9) for i, (absmax, smallest) in enumerate(spans)
    }
    for bar in picture(ranges, list(ranges), octave_axis(ranges.values()), {}).bars:
        assert 0 <= bar.x < bar.x + bar.width <= 1000
        assert 0 <= bar.top < bar.top + bar.height <= 100.01
        assert bar.whisker <= 100


def test_zeros_have_no_bar() -> None:
    zero = Range("zero", (4,), 0.0, 0.0, math.inf, 0.0, 0.0, 0)
    found = picture({"zero": zero}, ["zero"], octave_axis([zero]), {})
    assert found.bars == ()
    assert found.total == 1


def test_fp16_limits_are_always_on_the_axis() -> None:
    axis = octave_axis([span("t", 1.0)])
    assert axis.low < -24
    assert axis.high > 16
    assert octave_axis([span("t", 3.4e38)]).high <= 40


@pytest.mark.parametrize(
    ("absmax", "fate", "tone"),
    [
        (65504.0, "fits", "fits"),
        (65520.0, "fits", "over"),
        (1e6, "wide", "wide"),
        (1e6, "harmless", "harmless"),
        (100.0, "harmless", "fits"),
        (1e-6, "harmless", "harmless"),
        (1e-6, "small", "small"),
    ],
)
def test_a_bar_shows_what_became_of_its_tensor(absmax: float, fate: str, tone: str) -> None:
    found = picture({"t": span("t", absmax, 0.0)}, ["t"], Scale(-30, 30), {"t": fate})
    assert [bar.tone for bar in found.bars] == [tone]
    assert found.over == (tone == "over")


def test_tensors_stand_in_graph_order_and_new_ones_behind_their_neighbour() -> None:
    made = outcome()
    steps_ = tuple(Along(f"n{name}", "Mul", name, None, None) for name in "abc")
    before = tuple(span(name, 1.0) for name in ("image", "c", "a", "b"))
    after = tuple(span(name, 1.0) for name in ("image", "a", "a-scaled", "c"))
    assert graph_order(replace(made, along=steps_, ranges=before, repaired_ranges=after)) == ["image", "a", "a-scaled", "b", "c"]


def test_pins_are_known_from_the_recipe_and_from_the_tensors_kept_wide() -> None:
    made = outcome(wide_tensors=("kept",))
    (node,) = made.recipe.wide
    (step,) = [each for each in made.along if each.node == node]
    assert fates(made)["kept"] == fates(made)[step.tensor] == "wide"
    assert "small" not in classed(made.hazards).values()


@pytest.mark.parametrize(
    ("kind", "drawn"),
    [(Kind.VANISH, "small"), (Kind.SWAMP, "coarse"), (Kind.COARSE, "coarse"), (Kind.CANCEL, "coarse"), (Kind.OVERFLOW, None)],
)
def test_every_kind_that_a_range_does_not_show_has_a_tone(kind: Kind, drawn: str | None) -> None:
    ended = Disposition(hazard("n", kind), "refused", "")
    assert classed([ended]).get("n_out") == drawn
    assert classed([ended], frozenset({"pinned"})) == {}


def test_what_is_too_small_is_said_before_what_is_too_coarse() -> None:
    both = [Disposition(hazard("n", kind), "refused", "") for kind in (Kind.SWAMP, Kind.VANISH, Kind.COARSE)]
    assert classed(both) == {"n_out": "small"}


def test_a_bar_that_leaves_the_chart_says_so() -> None:
    ranges = {"high": span("high", 2.0**60), "low": span("low", 2.0**-45, 2.0**-60), "in": span("in", 1.0)}
    found = picture(ranges, list(ranges), octave_axis(ranges.values()), {})
    assert [(each.up, each.down) for each in found.bars] == [(True, False), (False, True), (False, False)]
    assert octave_axis(ranges.values()).low == FLOOR


def test_a_curve_that_leaves_the_chart_shows_it_once_for_each_time() -> None:
    found = curve([replace(step, after_db=None) for step in steps([60.0, 120.0, 110.0, 60.0, -70.0, math.inf, -math.inf, 95.0])])
    assert [(each.up, each.title.split(",")[0]) for each in found.exits] == [
        (True, "n1: 120.0 dB"),
        (True, "n7: 95.0 dB"),
        (False, "n4: −70.0 dB"),
    ]
    assert curve(steps([0.0, math.inf, -math.inf, None])).exits == ()
