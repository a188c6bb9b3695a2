"""What a strict verdict says of small models of the kinds that were once wrongly verified."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import pytest

from fp16fix.config import Config, merged
from fp16fix.config.sections import Tolerance
from fp16fix.graph.lower import lower
from fp16fix.graph.model import Model
from fp16fix.graph.opset import raise_opset
from fp16fix.graph.save import save_model
from fp16fix.inputs.blend import blended
from fp16fix.oracles.emulator import BLENDED, SHAKEN, StrictOracle, nearest
from fp16fix.oracles.oracle import Probe
from fp16fix.ranges.measure import measure
from fp16fix.report.words import stress_words
from fp16fix.strict.certificate import Certificate, certified
from fp16fix.tasks.repair import repair
from fp16fix.tasks.verify import verify
from fp16fix.trace.shadow import Shadows
from fp16fix.verdict.verdict import Entry
from tests.models import model, normal, proto

WEATHER = """g (float[1,2,48] state) => (float[1,2,48] next)
    <float[1,2,1] mean = {300000, 0.000002}, float[1,2,1] std = {2000, 0.000001}, float[1,2,1] step = {90, 0.0000002}> {
    d = Sub (state, mean)  z = Div (d, std)  t = Tanh (z)  i = Mul (t, step)  next = Add (state, i) }"""
NOISE = """g (float[b,16] x) => (float[b,16] y) <float k = {0.5}, float big = {2000}> {
    m = Mul (x, big)  s = Mul (m, m)  t = Sqrt (s)  n = RandomNormalLike (x)  e = Mul (n, k)  y = Add (t, e) }"""
MASKED = """g (float[2,4] x, float[2,4] u) => (float[2,4] y) <bool[4] keep = {1,1,1,0}, float minus = {-1}, float zero = {0},
    float[4] k = {1,1,1,200000}> { inf = Div (minus, zero)  m = Where (keep, x, inf)  b = Mul (u, k)  a = Abs (b)  y = Add (m, a) }"""


def folder(path: Path, samples: list[dict[str, np.ndarray]]) -> str:
    (path / "in").mkdir()
    for number, sample in enumerate(samples):
        np.savez(path / "in" / f"day-{number}.npz", **sample)  # type: ignore[arg-type]
    return str(path / "in")


def config(path: Path, text: str, samples: list[dict[str, np.ndarray]], **keys: object) -> Config:
    onnx.save(proto(text), path / "m.onnx")
    given = {"model": str(path / "m.onnx"), "output": str(path / "out.onnx"), "inputs": folder(path, samples), "simplify": False}
    return merged(Config(), {**given, **keys})


def weather(number: int) -> np.ndarray:
    mean, spread = np.array([3e5, 2e-6])[:, None], np.array([2e3, 5e-7])[:, None]
    return np.asarray(mean + spread * normal(1, 2, 48, seed=number), np.float32)


def test_a_unit_far_below_its_neighbour_is_named() -> None:
    subject = model(WEATHER)
    samples = [{"state": weather(number)} for number in range(3)]
    wide = {node.name: "fp32" for node in subject.nodes() if node.op in {"Sub", "Add"}}
    with StrictOracle(subject, samples, Tolerance().of, names=("a", "b", "c")) as oracle:
        verdict = oracle.verdict(lower(subject, wide))
    assert verdict.worst is not None
    assert not verdict.verified
    assert verdict.worst.entry == Entry(1, 1)
    assert verdict.reasons[0].startswith("next, entry 1 of axis 1: ")
    assert f"in sample {verdict.worst.sample}, wanted 50 dB" in verdict.reasons[0]


def test_one_input_is_judged_as_it_would_be_among_all_if_those_were_right() -> None:
    """By itself, a nearly silent sample would be held to its own few digits; among the others it is held to theirs."""
    text = "g (float[4,8] x) => (float[4,8] y) <float far = {16}> { a = Add (x, far)  y = Sub (a, far) }"
    subject, names = model(text), ("loud", "silent", "louder")
    samples = [{"x": normal(4, 8, scale=scale, seed=seed)} for seed, scale in enumerate((300.0, 0.3, 100.0))]
    with StrictOracle(subject, samples, Tolerance(sqnr_db=45.0).of, names=names) as oracle:
        oracle.blend(blended(samples, names, 8, 0), {})
        verdict = oracle.verdict(lower(subject, {}), jitter=2)
        alone = {name: oracle.probed(lower(subject, {}), Probe(name)) for name in names}
        found = nearest(verdict)
        probed = [oracle.probed(lower(subject, {}), probe) for probe in found]
    with StrictOracle(subject, samples[1:2], Tolerance(sqnr_db=45.0).of) as oracle:
        assert not oracle.verdict(lower(subject, {})).verified
    (whole,) = verdict.outputs
    assert [alone[each.sample].outputs[0].sqnr_db for each in whole.samples] == [each.sqnr_db for each in whole.samples]
    assert alone["silent"].verified
    assert [(probe.seed, probe.blended) for probe in found] == [(2, False), (1, False), (0, True), (0, False)]
    assert [each.sample for each in verdict.stressed] == [found[2].sample, found[1].sample, found[0].sample]
    assert min(each.spare_db for each in probed) == verdict.spare_db
    assert [each.stressed[-1].sqnr_db for each in probed[:3]] == [each.sqnr_db for each in verdict.stressed[::-1]]


UNITS = f"""g (float[1,8] x) => (float[1,2] y)
    <float[8,2] w = {{{", ".join(f"{value:.5f}" for value in normal(16, seed=5))}}}, float[2] unit = {{1000, SMALL}}> {{
    a = MatMul (x, w)  y = Mul (a, unit) }}"""


def test_two_blends_of_the_same_samples_are_told_apart() -> None:
    subject, names = model(UNITS.replace("SMALL", "0.001")), ("a", "b", "c", "d")
    samples = [{"x": normal(1, 8, seed=seed)} for seed in range(4)]
    with StrictOracle(subject, samples, Tolerance(sqnr_db=40.0).of, names=names) as oracle:
        oracle.blend(blended(samples, names, 8, 0), {})
        oracle.blend(blended(samples, names, 8, 1), {})
        found, verdict = list(oracle.blends.names), oracle.verdict(lower(subject, {}))
        alone = {name: oracle.probed(lower(subject, {}), Probe(name, blended=True)).stressed[0].sqnr_db for name in found}
    assert len(set(found)) == 16
    assert len({name.partition(" (")[0] for name in found}) < 16, "some have the same two samples"
    assert len(set(alone.values())) == 16, "each is another input"
    (said,) = verdict.stressed
    assert alone[said.sample] == said.sqnr_db == min(alone.values())
    assert said.sample.endswith(")"), "the second of its samples, or the test shows nothing"


def test_where_all_samples_together_decide_all_are_asked() -> None:
    """An entry with few values a sample is judged over all of them: with one of them wrong and the others right it looks harmless."""
    subject, names = model(UNITS.replace("SMALL", "0.000001")), tuple("abcdefghij")
    samples = [{"x": normal(1, 8, seed=seed)} for seed in range(10)]
    with StrictOracle(subject, samples, Tolerance(sqnr_db=20.0).of, names=names) as oracle:
        verdict = oracle.verdict(lower(subject, {}), jitter=1, key="k")
        shaken, plain = nearest(verdict)
        probed = [oracle.probed(lower(subject, {}), probe) for probe in (shaken, plain)]
        alone = [oracle.probed(lower(subject, {}), replace(plain, sample=name)).spare_db for name in names]
    assert (shaken, plain) == (Probe("", seed=1), Probe(""))
    assert verdict.worst is not None
    assert verdict.worst.decides == verdict.stressed[0].sample == ""
    assert min(each.spare_db for each in probed) == verdict.spare_db < min(alone)
    assert probed[0].stressed[0].sqnr_db == verdict.stressed[0].sqnr_db
    assert "the worst is y over all of them: " in stress_words(verdict.stressed[0])


def test_what_all_samples_of_one_kind_say_is_not_measured_again_for_a_verdict() -> None:
    subject, names, passes = model(UNITS.replace("SMALL", "0.000001")), ("a", "b"), []
    samples = [{"x": normal(1, 8, seed=seed)} for seed in range(2)]
    with StrictOracle(subject, samples, Tolerance(sqnr_db=20.0).of, names=names) as oracle:
        oracle.probed(lower(subject, {}), Probe(""), key="k")
        oracle.verdict(lower(subject, {}), jitter=1, key="k", tick=lambda: passes.append(1))
    assert len(passes) == 2, "those under jitter"


def test_samples_that_come_later_are_asked_by_themselves_among_all() -> None:
    text = "g (float[4,8] x) => (float[4,8] y) <float far = {16}> { a = Add (x, far)  y = Sub (a, far) }"
    subject, quiet, loud = model(text), {"x": normal(4, 8, scale=0.3)}, {"x": normal(4, 8, scale=300.0, seed=1)}
    with StrictOracle(subject, [quiet], Tolerance(sqnr_db=45.0).of, names=["quiet"]) as oracle:
        before = oracle.probed(lower(subject, {}), Probe("quiet"))
        oracle.extend([loud], ["loud"])
        after = oracle.probed(lower(subject, {}), Probe("quiet"))
    assert not before.verified
    assert after.verified


def test_a_candidate_that_fails_on_one_input_has_lost_it() -> None:
    """The FP16 index is past the table on one sample; on others nothing is wrong."""
    text = """g (float[1] x) => (float[1] y) <float[4] table = {1, 2, 3, 4}, float big = {2048}, float less = {-2048.4}> {
        a = Add (x, big)  b = Add (a, less)  i = Cast <to = 7> (b)  y = Gather (table, i) }"""
    subject = model(text)
    samples = [{"x": np.asarray([value], np.float32)} for value in (4.0, 1.0)]
    with StrictOracle(subject, samples, Tolerance().of, names=("edge", "inside")) as oracle:
        found = {name: oracle.probed(lower(subject, {}), Probe(name)) for name in ("edge", "inside")}
        whole = oracle.verdict(lower(subject, {}))
    assert [found[each.sample].verified for each in whole.outputs[0].samples] == [
        not (each.lost or each.mismatches) for each in whole.outputs[0].samples
    ]


def test_repair_saves_both_units(tmp_path: Path) -> None:
    given = config(tmp_path, WEATHER, [{"state": weather(number)} for number in range(6)])
    outcome = repair(given)
    assert outcome.verified
    again = verify(given, tmp_path / "out.onnx")
    assert again.verified
    assert [each.sample for each in again.outputs[0].samples] == [f"day-{number}" for number in range(6)]


def test_verify_holds_a_file_to_what_repair_promises(tmp_path: Path) -> None:
    """The FP32 model itself is no FP16 engine, however right; and FP16 is shaken as often as asked for."""
    text = "g (float[1,4] x, float[4,4] w) => (float[1,4] y) { y = MatMul (x, w) }"
    given = config(tmp_path, text, [{"x": normal(1, 4, seed=n), "w": normal(4, 4, seed=n)} for n in range(4)])
    assert given.model is not None
    refused = verify(given, given.model)
    assert not refused.verified
    assert refused.reasons[0].startswith("100% of the FLOPs would run in FP32")
    save_model(lower(model(text), {}), tmp_path / "half.onnx")
    verdict = verify(given.model_copy(update={"jitter": 2}), tmp_path / "half.onnx")
    assert verdict.verified
    assert [each.where.partition(",")[0] for each in verdict.stressed] == [BLENDED, *[SHAKEN.partition(",")[0]] * 2]


def test_noise_inside_a_model_is_no_fault_of_fp16(tmp_path: Path) -> None:
    samples = [{"x": normal(2, 16, seed=number) / 2000} for number in range(6)]
    outcome = repair(config(tmp_path, NOISE, samples))
    assert outcome.verified
    assert outcome.counts.fp32_nodes == 0
    assert outcome.verdict.outputs[0].sqnr_db > 60.0
    assert any("(RandomNormalLike) draws random numbers" in line for line in outcome.warnings)


def test_nan_where_fp32_has_minus_infinity_is_lost(tmp_path: Path) -> None:
    samples = [{"x": normal(2, 4, seed=number), "u": 1 + np.abs(normal(2, 4, seed=number))} for number in range(4)]
    outcome = repair(config(tmp_path, MASKED, samples, allow=["*"]))
    assert not outcome.verified
    (found,) = outcome.verdict.outputs
    assert [each.lost for each in found.samples] == [2, 2, 2, 2]
    assert outcome.verdict.reasons[0].startswith("y: 8 elements lost")


@pytest.mark.parametrize(("body", "lost"), [("b = Where (c, zero, q)  y = Sub (a, b)", 4), ("y = Add (a, zero)", 0)])
def test_verify_holds_infinity_to_its_class(tmp_path: Path, body: str, lost: int) -> None:
    head = "g (float[1,4] x) => (float[1,4] y) <bool[4] c = {1,1,1,0}, float minus = {-1}, float zero = {0}>"
    given = config(tmp_path, f"{head} {{ q = Div (minus, zero)  y = Where (c, x, q) }}", [{"x": normal(1, 4, seed=n)} for n in range(4)])
    onnx.save(proto(f"{head} {{ q = Div (minus, zero)  a = Where (c, x, q)  {body} }}"), tmp_path / "candidate.onnx")
    verdict = verify(given, tmp_path / "candidate.onnx")
    assert verdict.verified is (lost == 0)
    assert (verdict.outputs[0].lost, verdict.outputs[0].excluded) == (lost, 4 - lost)
    said = "y: 4 elements are NaN or infinite in FP32 and the same here; no other figure covers them"
    assert (said in verdict.notes) is (lost == 0)


def test_copies_and_few_samples_are_said_beside_a_verdict(tmp_path: Path) -> None:
    text = "g (float[4] x) => (float[4] y) { y = Tanh (x) }"
    given = config(tmp_path, text, [{"x": np.ones(4, np.float32)}] * 4)
    outcome = repair(given)
    assert outcome.verified
    assert outcome.samples.count == 1
    assert outcome.warnings[:1] == ("3 samples are copies of others and count once.",)
    assert "says next to nothing of others" in outcome.warnings[1]
    assert verify(given, tmp_path / "out.onnx").notes == outcome.warnings[:2]


def test_a_session_that_judged_a_candidate_tells_the_error_along_it() -> None:
    subject = model(WEATHER)
    samples = [{"state": weather(number)} for number in range(2)]
    typed = lower(subject, {})
    with StrictOracle(subject, samples, Tolerance().of, along=True) as oracle:
        assert oracle.session_along("plain", "compiled") is None, "nothing is open yet"
        before = oracle.verdict(typed, key="plain")
        strict = oracle.session_along("plain", "compiled")
        assert strict is not None
        along = Shadows(subject, samples, measure(subject, samples))
        assert along.of(typed, strict=strict) == along.of(typed)
        assert set(along.of(typed)) == {"d", "z", "t", "i", "next"}
        assert oracle.verdict(typed, key="plain").outputs == before.outputs
    with StrictOracle(subject, samples, Tolerance().of) as oracle:
        oracle.verdict(typed, key="plain")
        assert oracle.session_along("plain", "compiled") is None, "it was not opened to be asked"


def test_along_a_model_that_draws_both_sides_draw_the_same() -> None:
    subject = model(NOISE)
    samples = [{"x": normal(2, 16, seed=number)} for number in range(2)]
    typed = lower(subject, {node.name: "fp32" for node in subject.nodes()})
    with StrictOracle(subject, samples, Tolerance().of, along=True) as oracle:
        oracle.verdict(typed, key="wide", stress=False)
        found = Shadows(subject, samples, measure(subject, samples)).of(typed, strict=oracle.session_along("wide", "compiled"))
    assert found["n"].damage_db > 40.0


def test_the_last_two_candidates_stay_open_and_those_before_do_not() -> None:
    subject, made = model(WEATHER), 4
    with StrictOracle(subject, [{"state": weather(0)}], Tolerance().of, along=True) as oracle:
        for number in range(made):
            oracle.verdict(lower(subject, {}), key=f"{number}", stress=False)
        kept = [number for number in range(made) if oracle.session_along(f"{number}", "compiled") is not None]
    assert kept == [made - 2, made - 1]


SUMS = """g (float[4,256] x, float[256,8] w) => (float[4,8] y) { r = Relu (x) [product] a = MatMul (r, w) [sum] s = ReduceSum <axes = [1]> (a)
    y = Sub (a, s) }"""


class TestBounds:
    """What the sums of a graph can reach is seen by the passes that judge it."""

    def judged(self, samples: Sequence[dict[str, np.ndarray]], key: str = "k", profile: str = "compiled") -> StrictOracle:
        oracle = StrictOracle(model(SUMS, opset=11), samples, Tolerance().of)
        self.typed = raise_opset(lower(model(SUMS, opset=11), {}), 13)
        oracle.blend(blended(samples, ("a", "b"), 4, 0), {})
        self.verdict = oracle.verdict(self.typed, key=key, profile=profile, jitter=1)
        return oracle

    def samples(self, scale: float = 1.0) -> list[dict[str, np.ndarray]]:
        return [{"x": normal(4, 256, scale=scale, seed=seed), "w": normal(256, 8, scale=scale, seed=1)} for seed in range(2)]

    @pytest.mark.parametrize("scale", [1.0, 20.0])
    def test_they_are_those_of_a_pass_of_its_own(self, scale: float) -> None:
        samples = self.samples(scale)
        with self.judged(samples) as oracle:
            known = oracle.bounds("k", "compiled")
        assert known is not None
        assert {*known} == {"product", "sum"}
        wanted = certified(self.typed, samples)
        assert wanted == certified(self.typed, samples, known)
        assert any(each.exact for each in wanted) == (scale > 1.0), "what norms do not settle is computed all the same"

    def test_blends_and_samples_that_join_later(self) -> None:
        samples = self.samples()
        oracle = self.judged(samples[:1])
        oracle.extend([{"x": samples[1]["x"] * 3, "w": samples[1]["w"]}], ["b"])
        assert oracle.bounds("k", "compiled") is None, "not all of them were seen"
        oracle.verdict(self.typed, key="k")
        assert oracle.bounds("k", "compiled") == {
            each.node: each for each in certified(self.typed, [samples[0], {"x": samples[1]["x"] * 3, "w": samples[1]["w"]}])
        }
        oracle.close()

    @pytest.mark.parametrize("profile", ["pessimistic", "accumulate"])
    def test_another_profile_tells_nothing_of_them(self, profile: str) -> None:
        assert self.judged(self.samples(), profile=profile).bounds("k", profile) is None

    def test_only_the_first_few_candidates_have_them(self) -> None:
        oracle = self.judged(self.samples())
        for key in ("l", "m", "n"):
            oracle.verdict(self.typed, key=key)
        assert [oracle.bounds(key, "compiled") is not None for key in "klmn"] == [True, True, True, False]

    def fail(self, *_: object, **__: object) -> Any:
        raise ValueError("no such thing")

    @pytest.mark.parametrize("how", ["made", "opened", "run", "seen"])
    def test_a_verdict_stands_where_they_fail(self, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
        with self.judged(self.samples()):
            wanted = self.verdict

        def broken(certificate: Certificate, *, guarded: bool = False) -> Model:
            graph = plain(certificate, guarded=guarded)
            kind = "NoSuchOperator" if how == "opened" else "Reshape"
            shape = gs.Constant("shape", np.array([7, 7, 7]))
            out = gs.Variable("bad", np.dtype(np.float32))
            graph.graph.nodes.append(gs.Node(kind, "bad", inputs=[graph.graph.outputs[0], shape], outputs=[out]))
            graph.graph.outputs.append(out)
            return graph

        plain = Certificate.graph
        name, instead = {"made": ("graph", self.fail), "seen": ("see", self.fail)}.get(how, ("graph", broken))
        monkeypatch.setattr(Certificate, name, instead)
        oracle = self.judged(self.samples())
        assert (self.verdict, oracle.bounds("k", "compiled")) == (wanted, None)
