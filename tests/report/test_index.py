"""The index page: failures first, and what a verdict rests on in the row."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from fp16fix.report.batch import Product
from fp16fix.report.index import render_index
from tests.report.batches import HOSTILE, batch, died, measured, row
from tests.report.skeleton import Skeleton

OUT = Path("/out")


def test_failures_come_first_and_everything_is_escaped() -> None:
    rows = (
        row("bert"),
        row("vae", status="not verified", reasons=("image: 41.3 dB, wanted 50 dB",)),
        died(HOSTILE),
        row("slow", conditions=("fp32-accumulation",)),
        row("fell", worse=("y: 80.0 dB → 71.4 dB",)),
    )
    page = render_index(batch(*rows), OUT)
    found = Skeleton(page)
    assert found.open == []
    order = [
        found.text.index(each) for each in ("SIGSEGV", "41.3 dB, wanted", "80.0 dB → 71.4 dB", "only where products add in FP32", "bert")
    ]
    assert order == sorted(order)
    assert "3 of 5 verified" in found.text
    assert "onerror" not in {name for _, *names in found.shape for name in names}
    assert sum(tag == "script" for tag, *_ in found.shape) == 1


def test_a_row_says_what_it_rests_on_and_where_its_files_are() -> None:
    made = row("detector", made_up=True, conditions=("fp32-accumulation",), after=(measured("boxes", max_abs=3.14159, unit="px"),))
    made = replace(made, products={"plan": Product("/out/a b#1.plan", "0", 1), "report": Product("/elsewhere/javascript:x.html", "0", 1)})
    page = render_index(batch(made), OUT)
    said = Skeleton(page).text
    assert all(each in said for each in ("rests on made-up inputs", "only where products add in FP32", "3.14 px", "812.5 MiB", "3 of 412"))
    assert re.findall(r'<a href="([^"]+)"', page) == ["a%20b%231.plan", "../elsewhere/javascript%3Ax.html", "summary.json"]


def test_the_page_says_when_how_and_with_what_it_was_made() -> None:
    said = Skeleton(render_index(batch(row()), OUT)).text
    assert all(
        each in said for each in ("2026-11-28 20:00:00 UTC", "fp16fix batch zoo.yaml", "onnx 1.23", "2026-11-27T20:00:00Z", "the same")
    )
    going_on = Skeleton(render_index(batch(row(), waiting=("vae",), ended=""), OUT)).text
    assert "Not ended: vae" in going_on


def test_an_empty_batch_is_a_page_too() -> None:
    assert "0 of 0 verified" in render_index(batch(), OUT)
