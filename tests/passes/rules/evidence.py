"""A rule's evidence text → its model, seeded data, what the rule proposes, and what comes out in FP32 and in strict FP16."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import onnx
import onnx_graphsurgeon as gs
from onnx import parser

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model, element_type
from fp16fix.graph.session import Session, proto_of
from fp16fix.hazards import diagnose
from fp16fix.passes.apply import tidy
from fp16fix.passes.recipe import Edit
from fp16fix.passes.rewrite.rule import Findings, Rule
from fp16fix.ranges.measure import measure
from fp16fix.strict.emulate import emulate
from tests.models import sqnr_db

Feeds = dict[str, np.ndarray]
SAMPLES = 4


@cache
def parsed(text: str) -> Model:
    """The checked model of an evidence text; copy it before editing."""
    proto = parser.parse_model(text)
    onnx.checker.check_model(proto, full_check=True)
    return model_from_proto(proto, "evidence")


def samples(model: Model) -> list[Feeds]:
    """Standard normal floats, fair booleans, integers from 0 to 3; what makes a model ill stands in its text."""
    rng = np.random.default_rng(7)
    return [{tensor.name: drawn(rng, tensor) for tensor in model.graph.inputs} for _ in range(SAMPLES)]


def drawn(rng: np.random.Generator, tensor: gs.Tensor) -> np.ndarray:
    element = element_type(tensor)
    shape = tuple(size if isinstance(size, int) else 3 for size in tensor.shape)
    if element == onnx.TensorProto.FLOAT:
        return rng.standard_normal(shape).astype(np.float32)
    if element == onnx.TensorProto.BOOL:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 4, shape).astype(onnx.helper.tensor_dtype_to_np_dtype(element))


def evidence_of(text: str) -> Findings:
    """What a rule may look at, on a fresh copy."""
    model = parsed(text).copy()
    ranges = measure(model, samples(model), threads=1)
    return Findings(model, ranges, diagnose(model, ranges))


def proposed(rule: Rule, evidence: Findings) -> list[Edit]:
    """Repairs only."""
    return [each for each in rule.propose(evidence) if isinstance(each, Edit)]


def repaired(rule: Rule, evidence: Findings, repairs: list[Edit]) -> Model:
    """The FP32 graph after the rule, checked."""
    copy = evidence.model.copy()
    for repair in repairs:
        rule.apply(copy, repair)
    tidy(copy)
    onnx.checker.check_model(proto_of(copy), full_check=True)
    return copy


def run(model: Model, feeds: list[Feeds]) -> dict[str, np.ndarray]:
    """Outputs over all samples, by name, unoptimised."""
    session = Session(model, threads=1)
    rows = [session.run(each) for each in feeds]
    return {name: np.stack([row[name] for row in rows]) for name in session.outputs}


def strictly(model: Model, feeds: list[Feeds], profile: str = "compiled") -> dict[str, np.ndarray]:
    """The same with every float tensor in FP16."""
    return run(emulate(lower(model, {}), profile), feeds)


def worst_db(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """The lowest SQNR over the float outputs; integer outputs must agree."""
    worst = math.inf
    for name, values in truth.items():
        if values.dtype.kind == "f":
            worst = min(worst, sqnr_db(values, found[name]))
        elif not np.array_equal(values, found[name]):
            worst = -math.inf
    return worst


def worst_gap(truth: dict[str, np.ndarray], found: dict[str, np.ndarray]) -> float:
    """Largest difference over the largest magnitude of each output; inf if other values are finite."""
    worst = 0.0
    for name, values in truth.items():
        if not np.array_equal(np.isfinite(values), np.isfinite(found[name])):
            return math.inf
        finite = np.isfinite(values)
        gap = np.abs(values[finite].astype(np.float64) - found[name][finite]).max(initial=0.0)
        worst = max(worst, float(gap) / max(float(np.abs(values[finite]).max(initial=0.0)), 1e-30))
    return worst
