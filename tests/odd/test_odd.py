"""Every kind of graph ends in a verified product; of quantised ones nothing stands between a DequantizeLinear and what it feeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from fp16fix.config import Config
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.inputs.files import write_npz
from fp16fix.report.outcome import Outcome
from fp16fix.strict.emulate import emulate
from fp16fix.tasks.repair import repair
from tests.models import sqnr_db
from tests.odd.autocast import AUTOCAST
from tests.odd.graphs import CASES, Odd
from tests.odd.suites import SUITES

ODD = (*CASES, *SUITES, *AUTOCAST)
QUANTISED = [case for case in CASES if case.name.startswith("quantised")]


def repaired(case: Odd, folder: Path) -> Outcome:
    onnx.save(case.build(), folder / "model.onnx")
    (folder / "samples").mkdir()
    for seed in range(4):
        write_npz(folder / "samples" / f"{seed}.npz", case.sample(seed))
    return repair(Config(model=folder / "model.onnx", inputs=str(folder / "samples"), output=folder / "fixed.onnx", threads=1))


@pytest.mark.parametrize("case", ODD, ids=[case.name for case in ODD])
def test_it_is_repaired(case: Odd, tmp_path: Path) -> None:
    outcome = repaired(case, tmp_path)
    assert outcome.verified, outcome.verdict.reasons
    assert outcome.counts.fp32_nodes <= case.wide
    assert not [said for said in outcome.warnings if "could not be measured" in said]
    reference = Session(load(tmp_path / "model.onnx", simplified=False))
    strict = Session(emulate(load(tmp_path / "fixed.onnx", simplified=False, widened=False)))
    fresh = {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in case.sample(9).items()}
    exact, found = reference.run(fresh), strict.run(fresh)
    assert all(sqnr_db(exact[name], found[name]) > 47 for name in exact), "a sample that nobody saw, 3 dB less as under jitter"


@pytest.mark.parametrize("case", QUANTISED, ids=[case.name for case in QUANTISED])
def test_quantised_values_stay_next_to_what_they_feed(case: Odd, tmp_path: Path) -> None:
    repaired(case, tmp_path)
    fixed, given = onnx.load(tmp_path / "fixed.onnx"), case.build()
    assert neighbours(fixed) == neighbours(given)
    scales = {tensor.name: tensor.data_type for tensor in fixed.graph.initializer}
    types = [scales[node.input[1]] for node in fixed.graph.node if node.op_type == "DequantizeLinear"]
    assert types == [onnx.TensorProto.FLOAT16] * len(types) != []


def neighbours(proto: onnx.ModelProto) -> list[tuple[str, str]]:
    """Who reads each DequantizeLinear, and who makes what each QuantizeLinear reads."""
    makers = {name: node.op_type for node in proto.graph.node for name in node.output}
    made = {name for node in proto.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    reads = [("DequantizeLinear", node.op_type) for node in proto.graph.node for name in node.input if name in made]
    return sorted(
        reads + [(makers.get(node.input[0], "input"), node.op_type) for node in proto.graph.node if node.op_type == "QuantizeLinear"]
    )
