"""Births in bodies: every planted fault is named where it is, however deep, whatever goes wrong before it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from fp16fix.graph.load import model_from_proto
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.oracles.emulator import StrictOracle
from fp16fix.trace.births import Birth, Source, births, exact_inputs
from fp16fix.trace.share import shares
from tests.location.test_locate import floor

HEAD = '<ir_version: 8, opset_import: ["" : 17]> '
LOOP = (
    HEAD
    + """g (float[4] x) => (float[4] y) <int64 n = {3}, bool go = {1}, float big = {300.0}, float small = {0.001}> {
    [loop] s, seen = Loop (n, go, x) <body = body (int64 i, bool on, float[4] h) => (bool on2, float[4] h2, float[4] out) {
        [keep] on2 = Identity (on)
        [grow] a = Mul (h, big)
        [square] b = Mul (a, a)
        [root] c = Sqrt (b)
        [shrink] h2 = Mul (c, small)
        [show] out = Abs (h2) }>
    [end] y = Abs (s) }"""
)
"""A square past 65504 in every visit; x arrives and leaves healthy."""
NESTED = (
    HEAD
    + """g (float[4] x, bool which) => (float[4] y) <int64 n = {2}, bool go = {1}, float big = {300.0}, float small = {0.001}> {
    [first] f0 = Mul (x, big) [flood] f = Mul (f0, f0) [dry] d = Sqrt (f)
    [loop] y = Loop (n, go, d) <body = outer (int64 i, bool on, float[4] h) => (bool on2, float[4] h2) {
        [keep] on2 = Identity (on)
        [branch] h2 = If (which) <
            then_branch = yes () => (float[4] t) { [tiny] t0 = Mul (h, small) [deep] t1 = Mul (t0, t0) [back] t2 = Sqrt (t1) [up] t = Mul (t2, big) },
            else_branch = no () => (float[4] e) { [calm] e = Abs (h) }> }> }"""
)
"""The main graph overflows first; an If in a Loop squares what is left."""
SCAN = (
    HEAD
    + """g (float[5,4] x) => (float[4] z, float[5,4] y) <float[4] zero = {0.0, 0.0, 0.0, 0.0}, float big = {400.0}> {
    [scan] z, y = Scan <num_scan_inputs = 1, body = body (float[4] s, float[4] e) => (float[4] s2, float[4] o) {
        [scale] a = Mul (e, big) [power] p = Mul (a, a) [sum] s2 = Add (s, p) [level] r = Sqrt (s2) [out] o = Div (a, r) }> (zero, x) }"""
)


def parsed(text: str) -> Model:
    return model_from_proto(onnx.parser.parse_model(text))


def wave(*shape: int) -> np.ndarray:
    return np.linspace(0.9, 1.7, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def born(model: Model, sample: dict[str, np.ndarray]) -> dict[str, Birth]:
    return {birth.node: birth for birth in births(model, lower(model, {}), [sample]) if birth.is_real}


def test_a_fault_in_a_loop_is_named_and_not_the_loop() -> None:
    model = parsed(LOOP)
    found = born(model, {"x": wave(4)})
    assert found.keys() == {"square"}
    assert found["square"].source is Source.RESULT
    assert found["square"].is_lost
    assert found["square"].pins == ("square", "root")
    assert found["square"].sqnr_in_db == 70.0


def test_a_fault_behind_a_flood_and_two_bodies_deep_is_named_only_where_it_is_visited() -> None:
    model = parsed(NESTED)
    taken = born(model, {"x": wave(4), "which": np.asarray([True])})
    spared = born(model, {"x": wave(4), "which": np.asarray([False])})
    assert {"flood"} <= taken.keys()
    assert spared.keys() == {"flood"}, "a branch not taken has no say"
    assert not {"loop", "branch"} & taken.keys()


def test_state_that_leaves_a_body_names_who_must_carry_it() -> None:
    model = parsed(SCAN)
    found = born(model, {"x": wave(5, 4)})
    assert "power" in found
    assert {"scan", "sum", "level"} <= set(found["power"].pins), "the sum, the node whose state it is, and who reads it"


@pytest.mark.parametrize(("text", "sample"), [(LOOP, {"x": wave(4)}), (SCAN, {"x": wave(5, 4)})])
def test_pins_in_bodies_cure(text: str, sample: dict[str, np.ndarray]) -> None:
    model = parsed(text)
    pins = {name for birth in born(model, sample).values() for name in (*birth.pins, *birth.operands)}
    with StrictOracle(model, [sample], floor) as oracle:
        assert not oracle.verdict(lower(model, {})).verified
        assert oracle.verdict(lower(model, dict.fromkeys(pins, "fp32"))).verified


def test_a_switch_in_a_body_holds_for_every_visit() -> None:
    """Alone, the square of each visit loses everything; so does the whole graph."""
    model = parsed(LOOP)
    found = shares(model, lower(model, {}), ["square", "shrink"], [{"x": wave(4)}])
    assert found.alone["square"] == found.everything == 1.0
    assert found.alone["shrink"] < 1e-5
    assert found.share("square") > 0.999


def test_names_stay_unique_and_no_body_of_the_original_is_touched() -> None:
    model = parsed(NESTED)
    before = [node.name for node in model.nodes()]
    host, twins = exact_inputs(model, lower(model, {}))
    assert [node.name for node in model.nodes()] == before
    names = [node.name for node in host.nodes()]
    assert len(set(names)) == len(names)
    assert {"t1", "t2", "e", "f"} <= twins.strict.keys()
    assert {"h", "t1", "d"} <= twins.stored.keys(), "states and captured tensors are read as FP16 stores them"


def test_a_loop_without_condition_and_states_is_looked_into() -> None:
    text = (
        HEAD
        + """g (float[4] x) => (float[3,4] y) <int64 n = {3}, float big = {300.0}> {
        [loop] y = Loop (n, "") <body = body (int64 i, bool on) => (bool on2, float[4] out) {
            [keep] on2 = Identity (on) [grow] a = Mul (x, big) [square] b = Mul (a, a) [root] out = Sqrt (b) }> }"""
    )
    assert born(parsed(text), {"x": wave(4)}).keys() == {"square"}


def test_scans_that_say_where_their_outputs_go_can_be_probed() -> None:
    """Probes add outputs to the node; its lists of axes and directions grow with them."""
    text = SCAN.replace("num_scan_inputs = 1,", "num_scan_inputs = 1, scan_output_axes = [1], scan_output_directions = [1],").replace(
        "float[5,4] y) <", "float[4,5] y) <"
    )
    assert "power" in born(parsed(text), {"x": wave(5, 4)})


def test_whoever_reads_a_bad_tensor_is_not_accused_of_it() -> None:
    """A product in subnormals loses a hundredth of every value; what is computed from it loses nothing more."""
    text = """g (float[64] x) => (float[64] y) <float k = {0.000003814697265625}, float u = {512.0}> {
        [tiny] a = Mul (x, k) [next] b = Neg (a) [size] c = Abs (b) [end] y = Mul (c, u) }"""
    fp32 = model_from_proto(onnx.parser.parse_model(HEAD + text))
    found = births(fp32, lower(fp32, {}), [{"x": np.linspace(0.5, 1.0, 64, dtype=np.float32)}])
    assert [birth.node for birth in found] == ["tiny"]
    assert found[0].sqnr_in_db > 69.0 > 50.0 > found[0].sqnr_out_db
