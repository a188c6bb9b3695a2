"""What is on the page of a location; what holds for every page stands in ``test_html``."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from fp16fix.errors import InputError
from fp16fix.location.triage import Fault, Triage
from fp16fix.report.html import render_location, write_location
from fp16fix.report.view import CAP
from tests.report.locations import culprit, healthy, located, minimal
from tests.report.skeleton import HOSTILE, Skeleton


def test_what_matters_is_on_the_page() -> None:
    made = located()
    text = Skeleton(render_location(made)).text
    for said in (
        "✗ A fault of range",
        made.warnings[0],
        made.triage.evidence[0].replace(" dB", "\u00a0dB"),
        made.culprits[0].node,
        made.culprits[0].why,
        "70.0 dB → lost",
        "88%",
        "exponent -16",
        "none the axes are not the last ones",
        f"Mul in the body of {made.culprits[3].within}",
        f"{made.culprits[0].node}/mean",
        f"Damaged, but only by what was born before ({len(made.carried)})",
        made.carried[-1],
        "Too little to matter by itself (2)",
        "no single one can be left out",
        "Oracle: python check.py {model}, 17 calls in this run",
        "The oracle is flaky",
        f"{made.culprits[1].node} + {made.culprits[2].node}",
        "fp16fix locate 'vae decoder.onnx' --inputs latents/",
        made.samples.digest,
        made.model.digest,
        "onnxruntime 1.23.0",
        "vae.locate.json",
        "8.73 s",
    ):
        assert said in text, said


def test_the_chart_has_one_line_and_marks_every_birth() -> None:
    made = located()
    page = render_location(made)
    assert 'class="line before"' in page.split('class="legend"')[0]
    assert 'class="line after"' not in page
    assert page.count('<g class="mark born"><title>') == 4
    assert page.count('<g class="mark minor"><title>') == 2
    assert "A line over 48 nodes" in page
    assert "6 nodes marked where error is born" in page
    assert "plain FP16 72.0 dB</title>" in page
    assert "repaired" not in page.split('id="culprits"')[0].split('id="along"')[1]


def test_a_hostile_name_is_shown_as_what_it_is() -> None:
    base = located()
    first = culprit(HOSTILE[0], within=HOSTILE[1], pins=(HOSTILE[0],))
    step = replace(base.along[0], node=HOSTILE[1], born=True)
    page = render_location(replace(base, culprits=(first,), along=(step, *base.along), carried=(HOSTILE[0],)))
    assert "<script>alert" not in page
    assert "<img" not in page
    assert HOSTILE[0] in Skeleton(page).text
    # In its row with its tensor and pin, among the carried, in the story and on the chart's mark.
    assert page.replace("<wbr>", "").count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;&amp;") >= 6


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_a_page_and_only_a_harmless_one_is_ticked(fault: Fault) -> None:
    text = Skeleton(render_location(located(triage=Triage(fault, "So it is.", ("measured",))))).text
    assert ("✓" in text) == (fault in {Fault.ELSEWHERE, Fault.ENGINE_RIGHT})
    assert "So it is." in text


def test_a_model_with_nothing_wrong_is_a_page_too() -> None:
    page = Skeleton(render_location(healthy()))
    assert page.open == []
    assert "✓ FP16 rounding does no harm" in page.text
    assert "Nowhere: no node loses more than FP16 rounding does." in page.text
    assert "Not searched for" in page.text
    assert "✗" not in page.text


def test_a_location_with_nothing_in_it_is_a_page_too() -> None:
    nothing = replace(healthy(), along=(), stages={}, files={}, command=(), versions={})
    page = Skeleton(render_location(nothing))
    assert page.open == []
    assert "Not measured." in page.text
    assert "Nothing was measured." in page.text
    assert "Made from Python" in page.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_figures_that_are_no_numbers_break_nothing(value: float) -> None:
    made = located(
        explained=value,
        culprits=(culprit("n", value, value, sqnr_in_db=value, why="", pins=(), repair=""),),
        along=tuple(replace(step, sqnr_db=value) for step in located().along),
    )
    page = render_location(made)
    assert Skeleton(page).open == []
    assert not re.search(r'(?:\b[xydr]|width|height|cx|cy)="[^"]*(?:nan|inf)', page)


def test_a_search_without_an_answer_says_why() -> None:
    text = Skeleton(render_location(located(minimal=minimal(stopped="not even all nodes in FP32 satisfy the oracle")))).text
    assert "No answer: not even all nodes in FP32 satisfy the oracle." in text
    assert "flaky" not in text


def test_five_thousand_nodes_make_a_page_one_can_open() -> None:
    made = located(5000)
    page = render_location(made)
    assert len(page) < 400_000
    assert f"The first {CAP} of {len(made.carried):,} nodes; the JSON has all of them." in page
    assert page.count('<rect class="hint"') <= 250
    assert page.count('<g class="mark born"><title>') == 4


def test_the_page_is_written_whole(tmp_path: Path) -> None:
    write_location(located(), tmp_path / "deep" / "x.html")
    assert (tmp_path / "deep" / "x.html").read_text(encoding="utf-8") == render_location(located())
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError):
        write_location(located(), tmp_path / "folder")
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["x.html"]
