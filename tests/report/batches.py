"""Batches made up for tests of what is written about them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from fp16fix.report.batch import TAG, Batch, Content, EngineState, Measure, Product, Row

HOSTILE = '<img src=x onerror="alert(1)">&\u202e'


def measured(output: str = "y", sqnr_db: float = 60.0, **changes: Any) -> Measure:
    return replace(Measure(output, sqnr_db, 0.02, 0, 0, "day-1"), **changes)


def row(name: str = "bert", **changes: Any) -> Row:
    """A row that is verified, with something in every field."""
    made = Row(
        name,
        f"/zoo/{name}.onnx",
        "verified",
        "repaired",
        before=(measured(sqnr_db=31.2),),
        after=(measured(sqnr_db=71.4),),
        samples=8,
        fp32_nodes=3,
        float_nodes=412,
        warnings=("Only two samples were given.",),
        engine=EngineState("built, not executed", "rtx", "1.7", ("sm89",), 1000),
        content=Content({f"{name}.onnx": "ab" * 32}, {"0.npz": "cd" * 32}, "ef" * 32, f"{name}.plan", {"fp16fix": "0.1.0"}),
        products={
            "plan": Product(f"/out/{name}.plan", "01" * 32, 1000),
            "onnx": Product(f"/out/{name}.fp16.onnx", "01" * 32, 1000),
            "outcome": Product(f"/out/{name}.outcome.json", "02" * 32, 2000),
            "report": Product(f"/out/{name}.report.html", "03" * 32, 3000),
        },
        seconds=34.2,
        peak_mib=812.5,
    )
    return replace(made, **changes)


def died(name: str, status: str = "crashed", **changes: Any) -> Row:
    return replace(
        Row(name, f"/zoo/{name}.onnx", status, "failed", ("the process was ended by SIGSEGV",), stage="build", last_words="a\nb"), **changes
    )


def batch(*rows: Row, **changes: Any) -> Batch:
    made = Batch(
        TAG,
        "0.1.0",
        {"python": "3.11.7", "onnx": "1.23"},
        ("fp16fix", "batch", "zoo.yaml"),
        "/zoo/zoo.yaml",
        "2026-11-28T20:00:00Z",
        "2026-11-28T20:05:00Z",
        300.0,
        ("unverified",),
        False,
        all(each.verified for each in rows),
        rows,
        locked="2026-11-27T20:00:00Z",
        files={"summary": "/out/summary.json", "index": "/out/index.html", "junit": "/out/summary.junit.xml"},
    )
    return replace(made, **changes)


LOST = measured("boxes", math.nan, lost=12)
