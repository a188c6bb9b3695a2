from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fp16fix.errors import ReplayError
from fp16fix.oracles.emulator import Emulator
from fp16fix.oracles.oracle import Probe, Score
from fp16fix.passes.evidence import Evidence
from fp16fix.passes.recipe import Recipe
from fp16fix.progress import Silent, Stages
from fp16fix.report.informed import inform
from fp16fix.report.summary import warnings
from fp16fix.search import answer as answers
from fp16fix.search.answer import Answer, settle_on
from fp16fix.search.trials import Trials, trials
from tests.search.test_leave_out import STREAM, given, wave

DIES = """
import os, sys
from pathlib import Path
from fp16fix.search.trials import Trials
from fp16fix.tasks.repair import repair
from fp16fix.config import load_config
measure, left = Trials.measure, [3]

def dying(self, recipe):
    if not left[0]:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return measure(self, recipe)

Trials.measure = dying
repair(load_config(Path(sys.argv[1])))
"""

NODES = ("Mul_a", "Abs_b", "Add_c", "Mul_d", "Log_y")


def ill(tmp_path: Path, **search: object) -> Evidence:
    return given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-9)}, search=search)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every recipe that is measured from now on, as the journal calls it."""
    asked: list[str] = []
    measure = Trials.measure

    def counting(self: Trials, recipe: Recipe) -> Score:
        asked.append(f"{recipe.digest} {self.judge.about}")
        return measure(self, recipe)

    monkeypatch.setattr(Trials, "measure", counting)
    return asked


def run(found: Evidence) -> tuple[bool, dict[str, str]]:
    with trials(found, Stages(Silent())) as tried:
        answer = settle_on(tried, Stages(Silent()))
        return answer.verdict.verified, answer.recipe.wide


def told(tried: Trials, answer: Answer) -> tuple[str, ...]:
    """The outcome's warnings."""
    typed = tried.typed(answer.recipe)
    return warnings(tried.evidence, answer, typed, inform(tried, answer, typed, Stages(Silent())))


def searching(found: Evidence, **search: object) -> Evidence:
    """The same study with other keys of ``search``."""
    return replace(found, config=found.config.model_copy(update={"search": found.config.search.model_copy(update=search)}))


def test_a_repair_killed_in_its_search_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = tmp_path / "search.jsonl"
    found = ill(tmp_path, journal=journal)
    asked = counted(monkeypatch)
    expected = run(searching(found, journal=None))
    whole = len(asked)
    yaml = tmp_path / "fp16fix.yaml"
    yaml.write_text(f"model: m.onnx\ninputs: samples\noutput: fixed.onnx\nsearch: {{journal: {journal}}}\n")
    done = subprocess.run([sys.executable, "-c", DIES, str(yaml)], check=False)
    assert done.returncode == -9
    assert not (tmp_path / "fixed.onnx").exists()
    known = journal.read_text()
    assert len(known.splitlines()) == 1 + 3, "what is measured, and three measurements"
    asked.clear()
    assert run(found) == expected
    assert len(journal.read_text().splitlines()) == 1 + whole
    assert [recipe for recipe in asked if recipe in known] == []


def test_a_journal_of_another_tolerance_is_refused(tmp_path: Path) -> None:
    found = ill(tmp_path, journal=tmp_path / "j.jsonl")
    run(found)
    other = found.config.model_copy(update={"tolerance": found.config.tolerance.model_copy(update={"sqnr_db": 40.0})})
    with pytest.raises(ReplayError, match="tolerance"), trials(replace(found, config=other), Stages(Silent())):
        pass


def test_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    verified, pins = run(ill(tmp_path))
    assert verified
    assert pins
    assert len(set(asked)) == len(asked) >= 4


def test_a_spent_budget_leaves_the_verdict_of_the_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    verified, pins = run(ill(tmp_path, budget_s=1e-9))
    assert not verified
    assert pins == {}
    assert [about.partition(" ")[2] for about in asked] == ["calibration samples", "all samples"], "of the draft"


def test_formats_are_part_of_what_is_tried(tmp_path: Path) -> None:
    with trials(ill(tmp_path), Stages(Silent())) as tried:
        draft = settle_on(tried, Stages(Silent())).draft
        names = [node.name for node in draft.model.nodes()]
        wide, narrow = (draft.pinned(dict.fromkeys(names, fmt)) for fmt in ("fp32", "bf16"))
        exact, coarse = (tried.verdict(recipe, "test", "all").outputs[0].sqnr_db for recipe in (wide, narrow))
        assert exact > coarse + 10, "eight bits are fewer"
        assert tried.holds("test", lambda names: draft.pinned(dict.fromkeys(names, "fp32")), str)(frozenset(names))


def test_what_only_the_users_command_refuses_is_said(tmp_path: Path) -> None:
    """Strict emulation passes with pins, the command never does: that, and not the draft's figure alone, is the reason."""
    code = "import sys; sys.exit(7)"
    found = ill(tmp_path, check=f'{sys.executable} -c "{code}" {{model}}')
    with trials(found, Stages(Silent())) as tried:
        proven = settle_on(tried, Stages(Silent()))
    assert not proven.verdict.verified
    assert proven.verdict.reasons[-1] == "with more in FP32 strict emulation passes, but the check command exits 7"


def test_an_interrupted_search_uses_what_it_found_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the first set that holds: no further search, and a warning."""
    measure = Trials.measure
    asked: list[bool] = []

    def stopping(self: Trials, recipe: Recipe) -> Score:
        if sum(asked) == 2:  # the draft on calibration samples, and the first pins on all
            raise KeyboardInterrupt
        score = measure(self, recipe)
        asked.append(score.good is True)
        return score

    def probing(self: Emulator, recipe: Recipe, which: Probe) -> Score:
        if sum(asked) == 2:
            raise KeyboardInterrupt
        return probe(self, recipe, which)

    probe = Emulator.probe
    monkeypatch.setattr(Trials, "measure", stopping)
    monkeypatch.setattr(Emulator, "probe", probing)
    monkeypatch.setattr(answers, "eased", lambda *_: (None, ""))
    found = ill(tmp_path, minimise=True)
    stages = Stages(Silent())
    with trials(found, stages) as tried:
        proven = settle_on(tried, stages)
        assert proven.verdict.verified
        assert proven.stopped == "interrupted"
        assert "thin" not in stages.seconds
        assert any("stopped (interrupted)" in line for line in told(tried, proven))


def test_a_command_that_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    """It refuses what it is shown first and accepts everything after: asked twice, the draft is not good, and the outcome says why."""
    count = tmp_path / "count"
    code = f"import sys; p = {str(count)!r}; open(p, 'a').write('x'); sys.exit(len(open(p).read()) == 1)"
    found = given(
        tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1.0)}, search={"repeats": 2, "check": f'{sys.executable} -c "{code}" {{model}}'}
    )
    with trials(found, Stages(Silent())) as tried:
        proven = settle_on(tried, Stages(Silent()))
        assert tried.score(proven.draft.recipe, "test", "the draft").good is None, "though both answers agree by now"
        assert proven.recipe != proven.draft.recipe
        assert proven.flaky == 1
        assert any("flaky" in line for line in told(tried, proven))


def test_what_a_command_cannot_test_is_not_journaled_as_bad(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    check = f'{sys.executable} -c "import sys; sys.exit(125)" {{model}}'
    found = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1.0)}, search={"journal": journal, "check": check})
    verified, _ = run(found)
    assert not verified
    assert '"good": null' in journal.read_text()
