from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from fp16fix.errors import ReplayError
from fp16fix.passes.evidence import Evidence
from fp16fix.progress import Silent, Stages
from fp16fix.report.summary import warnings
from fp16fix.search.judge import Candidate, Score
from fp16fix.search.leave_out import settle
from fp16fix.search.trials import Attempts, attempts
from tests.search.test_leave_out import STREAM, given, wave

DIES = """
import os, sys
from pathlib import Path
from fp16fix.search.trials import Attempts
from fp16fix.tasks.repair import repair
from fp16fix.config import load_config
measure, left = Attempts.measure, [3]

def dying(self, candidate):
    if not left[0]:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return measure(self, candidate)

Attempts.measure = dying
repair(load_config(Path(sys.argv[1])))
"""

NODES = ("Mul_a", "Abs_b", "Add_c", "Mul_y")


def ill(tmp_path: Path, **search: object) -> Evidence:
    return given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1e-9)}, search=search)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Candidate]:
    """Every candidate that is measured from now on."""
    asked: list[Candidate] = []
    measure = Attempts.measure

    def counting(self: Attempts, candidate: Candidate) -> Score:
        asked.append(candidate)
        return measure(self, candidate)

    monkeypatch.setattr(Attempts, "measure", counting)
    return asked


def run(found: Evidence) -> tuple[bool, dict[str, str]]:
    with attempts(found, Stages(Silent())) as tries:
        _, proven = settle(tries, Stages(Silent()))
        return proven.verdict.verified, proven.pins


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
    twice = [candidate for candidate in asked if candidate.digest in known]
    assert len(twice) <= 1, "only the draft itself is computed again: the outcome tells its figures"


def test_a_journal_of_another_tolerance_is_refused(tmp_path: Path) -> None:
    found = ill(tmp_path, journal=tmp_path / "j.jsonl")
    run(found)
    other = found.config.model_copy(update={"tolerance": found.config.tolerance.model_copy(update={"sqnr_db": 40.0})})
    with pytest.raises(ReplayError, match="tolerance"), attempts(replace(found, config=other), Stages(Silent())):
        pass


def test_nothing_is_measured_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    verified, pins = run(ill(tmp_path))
    assert verified
    assert pins
    assert len({candidate.digest for candidate in asked}) == len(asked) >= 4


def test_a_spent_budget_leaves_the_verdict_of_the_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = counted(monkeypatch)
    verified, pins = run(ill(tmp_path, budget_s=1e-9))
    assert not verified
    assert pins == {}
    assert len(asked) == 1


def test_formats_are_part_of_what_is_tried(tmp_path: Path) -> None:
    with attempts(ill(tmp_path), Stages(Silent())) as tries:
        draft, _ = settle(tries, Stages(Silent()))
        wide, narrow = (dict.fromkeys(NODES, fmt) for fmt in ("fp32", "bf16"))
        assert tries.verdict(draft, wide).outputs[0].sqnr_db > tries.verdict(draft, narrow).outputs[0].sqnr_db + 10, "eight bits are fewer"
        assert tries.holds(draft, lambda names: dict.fromkeys(names, "fp32"))(frozenset(NODES))


def test_what_only_the_users_command_refuses_is_said(tmp_path: Path) -> None:
    """Strict emulation passes with pins, the command never does: that, and not the draft's figure alone, is the reason."""
    code = "import sys; sys.exit(7)"
    found = ill(tmp_path, check=f'{sys.executable} -c "{code}" {{model}}')
    with attempts(found, Stages(Silent())) as tries:
        _, proven = settle(tries, Stages(Silent()))
    assert not proven.verdict.verified
    assert proven.verdict.reasons[-1] == "with more in FP32 strict emulation passes, but the check command exits 7"


def test_an_interrupted_search_uses_what_it_found_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the first set that holds: no further search, and a warning."""
    measure = Attempts.measure
    asked: list[bool] = []

    def stopping(self: Attempts, candidate: Candidate) -> Score:
        if any(asked):
            raise KeyboardInterrupt
        score = measure(self, candidate)
        asked.append(score.good is True)
        return score

    monkeypatch.setattr(Attempts, "measure", stopping)
    found = ill(tmp_path, minimise=True)
    stages = Stages(Silent())
    with attempts(found, stages) as tries:
        draft, proven = settle(tries, stages)
        assert proven.verdict.verified
        assert proven.stopped == "interrupted"
        assert "thin" not in stages.seconds
        assert any("stopped (interrupted)" in line for line in warnings(found, draft, proven))


def test_a_command_that_contradicts_itself_is_not_believed(tmp_path: Path) -> None:
    """It refuses what it is shown first and accepts everything after: asked twice, the draft is not good, and the outcome says why."""
    count = tmp_path / "count"
    code = f"import sys; p = {str(count)!r}; open(p, 'a').write('x'); sys.exit(len(open(p).read()) == 1)"
    found = given(
        tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1.0)}, search={"repeats": 2, "check": f'{sys.executable} -c "{code}" {{model}}'}
    )
    with attempts(found, Stages(Silent())) as tries:
        draft, proven = settle(tries, Stages(Silent()))
        assert not tries.verdict(draft, dict(draft.recipe.wide)).verified
        assert proven.flaky == 1
        assert any("flaky" in line for line in warnings(found, draft, proven))


def test_what_a_command_cannot_test_is_not_journaled_as_bad(tmp_path: Path) -> None:
    journal = tmp_path / "j.jsonl"
    check = f'{sys.executable} -c "import sys; sys.exit(125)" {{model}}'
    found = given(tmp_path, STREAM, {"x": wave(1.0)}, {"x": wave(1.0)}, search={"journal": journal, "check": check})
    verified, _ = run(found)
    assert not verified
    assert '"good": null' in journal.read_text()
