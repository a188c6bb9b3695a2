"""The least that must be FP32, by every oracle; engines are really built, and run by a stand-in for the GPU."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fp16fix.errors import BackendError, BackendMissingError, BuildError, InputError, ReplayError
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.location.least import journal_of, minimal
from fp16fix.location.locate import Location
from fp16fix.location.locate import locate as locate_in
from fp16fix.oracles import engine as trial
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.search.judge import Judge, Opinion
from fp16fix.search.shrink import Minimal
from fp16fix.strict.emulate import emulate
from fp16fix.tasks.locate import locate
from tests.search.test_leave_out import HEAD, given, wave

ILL = (
    HEAD
    + """g (float[4,8] x) => (float[4,8] y) <float w = {512.0}, float v = {0.00001}> {
    a = Tanh (x)  b = Mul (a, w)  c = Mul (b, b)  d = Sqrt (c)  e = Mul (d, v)  y = Neg (e) }"""
)
"""A square past 65504, whose root fits again."""
CURE = ("Mul_c", "Sqrt_d")
WIDE = "import onnx, sys; g = onnx.load(sys.argv[1]).graph; wide = {v.name for v in g.value_info if v.type.tensor_type.elem_type == 1}; "


def ill(tmp_path: Path, text: str = ILL, **search: Any) -> Evidence:
    return given(tmp_path, text, {"x": wave(1.0)}, {"x": wave(0.9)}, search=search)


def located(found: Evidence) -> Location:
    return locate_in(found.model, found.calibration, found.config.tolerance.of, hazards=found.hazards)


def least(found: Evidence) -> Minimal:
    with journal_of(found) as journal:
        return minimal(found, located(found), journal)


def python(code: str) -> str:
    return f'{sys.executable} -c "{WIDE}{code}" {{model}}'


def test_strict_emulation_finds_the_pair_and_counts_its_calls(tmp_path: Path) -> None:
    ticks: list[int] = []
    found = ill(tmp_path)
    answer = minimal(found, located(found), tick=lambda: ticks.append(1))
    assert (answer.pins, answer.complete, answer.stopped) == (CURE, True, "")
    assert answer.calls == len(ticks) >= 4
    assert answer.oracle == "strict FP16 emulation"
    assert answer.flaky == 0


def test_two_nodes_that_only_hurt_together_are_both_named(tmp_path: Path) -> None:
    """The device fails only if both run in FP16, so pinning one is enough; the other is named beside it."""
    answer = least(ill(tmp_path, check=python("sys.exit(not {'b', 'd'} & wide)")))
    assert len(answer.pins) == 1
    assert answer.together == (("Mul_b", "Sqrt_d"),)


def test_an_oracle_that_contradicts_itself_is_noticed(tmp_path: Path) -> None:
    """The device says yes once, to the second model that it is shown."""
    count = tmp_path / "count"
    code = f"p = {str(count)!r}; open(p, 'a').write('x'); sys.exit(len(open(p).read()) != 2)"
    answer = least(ill(tmp_path, check=python(code)))
    assert answer.flaky == 1
    assert not answer.complete
    assert answer.stopped == "asked again about this very set, the oracle says no"
    steady = least(ill(tmp_path / "steady", check=python("sys.exit('c' not in wide)")))
    assert (steady.flaky, steady.pins) == (0, ("Mul_c",))


def test_what_nothing_satisfies_and_what_costs_too_much_are_said(tmp_path: Path) -> None:
    never = least(ill(tmp_path, check=python("sys.exit(1)")))
    assert (never.pins, never.complete, never.stopped) == ((), False, "not even all nodes in FP32 satisfy the oracle")
    short = least(ill(tmp_path / "short", calls=1))
    assert not short.complete
    assert "budget of 1 oracle calls" in short.stopped
    assert short.calls == 1


def test_an_oracle_that_breaks_leaves_what_was_found(tmp_path: Path) -> None:
    """Exit 200 after the first yes: that set, not yet minimal, stands."""
    mark = tmp_path / "mark"
    code = (
        f"import pathlib; p = pathlib.Path({str(mark)!r}); ok = {{'a', 'e'}} <= wide; p.exists() and sys.exit(200); "
        "ok and p.touch(); sys.exit(not ok)"
    )
    answer = least(ill(tmp_path, check=python(code)))
    assert {"Tanh_a", "Mul_e"} < set(answer.pins)
    assert not answer.complete
    assert "the check command exits 200" in answer.stopped
    assert answer.flaky == 0


def test_an_oracle_that_can_test_nothing_is_not_said_to_refuse(tmp_path: Path) -> None:
    answer = least(ill(tmp_path, check=python("sys.exit(125)")))
    assert answer.pins == ()
    assert "could not test" in answer.stopped


def test_a_script_that_was_changed_is_another_oracle(tmp_path: Path) -> None:
    script = tmp_path / "judge.py"
    script.write_text(f"{WIDE}sys.exit('c' not in wide)")
    found = ill(tmp_path, check=f"{sys.executable} {script} {{model}}", journal=tmp_path / "j.jsonl")
    assert least(found).pins == ("Mul_c",)
    script.write_text(f"{WIDE}sys.exit('b' not in wide)")
    with pytest.raises(ReplayError, match="oracle"):
        least(found)


def test_an_unusable_journal_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fp16fix.tasks.locate.gather", None)
    (tmp_path / "no.jsonl").write_text("no journal\n")
    for number, place in enumerate((tmp_path, tmp_path / "none" / "j.jsonl", tmp_path / "no.jsonl")):
        with pytest.raises(InputError, match="journal"):
            locate(ill(tmp_path / str(number), minimise=True, journal=place).config)


def test_a_journal_answers_a_second_search(tmp_path: Path) -> None:
    found = ill(tmp_path, journal=tmp_path / "j.jsonl", minimise=True)
    first, second = least(found), least(found)
    assert first.calls > 0
    assert second.calls == 0
    assert second.pins == first.pins


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Plans that are asked to run; what runs is the graph they were built from, strictly."""
    pytest.importorskip("tensorrt_rtx")
    plans: list[Path] = []

    def run(plan: Path, samples: Sequence[Mapping[str, np.ndarray]], **_: Any) -> tuple[dict[str, Any], ...]:
        assert plan.stat().st_size > 1000
        plans.append(plan)
        if len(plans) == 2:
            raise BuildError("the device fell off the bus")
        session = Session(emulate(load(plan.with_suffix(".onnx"), simplified=False, widened=False)))
        return tuple(session.run(sample) for sample in samples)

    monkeypatch.setattr(trial, "can_execute", lambda: (True, ""))
    monkeypatch.setattr(trial, "run", run)
    return plans


def test_engines_are_built_and_run_for_each_candidate(tmp_path: Path, gpu: list[Path]) -> None:
    """One that does not run cannot be tested, which is not the same as wrong: the search goes round it."""
    answer = least(ill(tmp_path, oracle="tensorrt"))
    assert set(answer.pins) >= set(CURE)
    assert answer.oracle == "TensorRT engines on this machine's GPU"
    assert len(gpu) == answer.calls
    assert not any(plan.exists() for plan in gpu), "scratch files go"


def test_an_oracle_that_cannot_be_asked_is_refused_before_any_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "can_execute", lambda: (False, "no driver"))
    monkeypatch.setattr("fp16fix.tasks.locate.gather", None)
    with pytest.raises(BackendMissingError, match="no driver"):
        locate(ill(tmp_path, oracle="tensorrt").config)
    with pytest.raises(BackendError, match="no program"):
        locate(ill(tmp_path / "other", check="/no/such/tool {model}").config)


def test_locate_asks_only_on_request(tmp_path: Path) -> None:
    plain, asked = (locate(ill(tmp_path / name, minimise=name == "asked").config) for name in ("plain", "asked"))
    assert plain.minimal is None
    assert asked.minimal is not None
    assert asked.minimal.pins == CURE
    assert asked.stages.keys() >= {"minimise", "locate"}


def test_ctrl_c_while_the_answer_is_confirmed_leaves_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ask = Judge.ask

    def asking(self: Judge, recipe: Recipe, repeats: int | None = None) -> Opinion:
        if repeats is not None:
            raise KeyboardInterrupt
        return ask(self, recipe)

    monkeypatch.setattr(Judge, "ask", asking)
    answer = least(ill(tmp_path, check=python("sys.exit('c' not in wide)")))
    assert (answer.pins, answer.complete, answer.stopped) == (("Mul_c",), False, "interrupted")
