from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from fp16fix.errors import InputError, ReplayError
from fp16fix.oracles.oracle import Score
from fp16fix.passes.recipe import Recipe
from fp16fix.search.journal import Journal
from fp16fix.search.judge import BudgetSpentError, Judge
from tests.recipes import clamp, pins, rewrites

SUBJECT = {"model": "ab" * 32, "samples": "cd" * 32}


class Oracle:
    """Says what it is told to, and remembers what it was asked."""

    def __init__(self, *scores: Score) -> None:
        self.scores = list(scores)
        self.asked: list[Recipe] = []

    def __call__(self, recipe: Recipe) -> Score:
        self.asked.append(recipe)
        return self.scores[min(len(self.asked), len(self.scores)) - 1]


def test_nothing_is_measured_twice() -> None:
    oracle = Oracle(Score(good=True, figure=61.0, why="fine"))
    judge = Judge(oracle)
    assert judge.ask(pins("a", "b")) == judge.ask(pins("b", "a"))
    assert judge.ask(rewrites(clamp("a"))).good
    assert judge.calls == len(oracle.asked) == 2, "a pin is not a repair of the same name"


def test_budget_of_calls() -> None:
    judge = Judge(Oracle(Score(good=True)), budget_calls=2)
    judge.ask(pins("a"))
    judge.ask(pins("b"))
    judge.ask(pins("a"))
    with pytest.raises(BudgetSpentError, match="2 oracle calls"):
        judge.ask(pins("c"))
    assert judge.good(pins("b")), "what is known stays free"


def test_budget_of_time_counts_the_oracle_alone() -> None:
    now = [0.0]

    def slow(recipe: Recipe) -> Score:
        now[0] += 40.0
        return Score(good=False)

    judge = Judge(slow, budget_s=60.0, clock=lambda: now[0])
    judge.ask(pins("a"))
    now[0] += 1000.0
    judge.ask(pins("b"))
    assert judge.spent_s == 80.0
    with pytest.raises(BudgetSpentError, match="60 s"):
        judge.ask(pins("c"))


def test_flaky_oracle_is_noticed_and_its_candidate_not_used() -> None:
    oracle = Oracle(Score(good=True, figure=60.0), Score(good=True, figure=58.0), Score(good=False, figure=3.0), Score(good=True))
    judge = Judge(oracle)
    assert judge.ask(pins("a")).good
    assert not judge.flaky
    answer = judge.ask(pins("a"), repeats=5)
    assert (answer.flaky, answer.good, answer.score.figure) == (True, False, 3.0)
    assert answer.runs == len(oracle.asked) == 3, "runs stop at the first disagreement"
    assert judge.flaky == (pins("a"),)
    steady = Judge(Oracle(Score(good=True, figure=60.0), Score(good=True, figure=58.0)), repeats=3)
    assert steady.ask(pins("a")).score.figure == 58.0
    assert steady.flaky == ()


def test_what_cannot_be_tested_is_not_good() -> None:
    assert not Judge(Oracle(Score(None, why="skipped"))).good(pins("a"))


def test_journal_answers_a_second_run(tmp_path: Path) -> None:
    scores = (Score(good=True, figure=math.inf, why="equal"), Score(good=False, figure=-math.inf), Score(None))
    first = Oracle(*scores)
    many = pins(*(f"node{k}" for k in range(500)))
    with Journal(tmp_path / "j", SUBJECT) as journal:
        judge = Judge(first, journal)
        before = [judge.ask(candidate) for candidate in (pins("a"), rewrites(clamp("n")), many)]
    second = Oracle(Score(good=True))
    with Journal(tmp_path / "j", SUBJECT) as journal:
        judge = Judge(second, journal)
        after = [judge.ask(candidate) for candidate in (pins("a"), rewrites(clamp("n")), many)]
        assert not second.asked
        assert [(a.score.good, a.score.why, a.runs) for a in after] == [(b.score.good, b.score.why, b.runs) for b in before]
        assert [after[0].score.figure, after[1].score.figure] == [math.inf, -math.inf]
        judge.ask(pins("new"))
    records = [json.loads(line) for line in (tmp_path / "j").read_text().splitlines()]
    assert len(records) == 5
    assert records[1]["nodes"] == ["a"]
    assert "nodes" not in records[3]


def test_torn_last_line_is_dropped_and_written_anew(tmp_path: Path) -> None:
    path = tmp_path / "j"
    with Journal(path, SUBJECT) as journal:
        judge = Judge(Oracle(Score(good=True)), journal)
        judge.ask(pins("a"))
        judge.ask(pins("b"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    oracle = Oracle(Score(good=True))
    with Journal(path, SUBJECT) as journal:
        judge = Judge(oracle, journal)
        judge.ask(pins("a"))
        judge.ask(pins("b"))
    assert oracle.asked == [pins("b")]
    assert len(path.read_bytes().splitlines()) == 3
    with Journal(path, SUBJECT) as journal:
        assert [record["nodes"] for record in journal.records] == [["a"], ["b"]]
    path.write_bytes(whole[:10])
    with Journal(path, SUBJECT) as journal:
        assert journal.records == ()


def test_foreign_and_damaged_journals_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "j"
    Journal(path, SUBJECT).close()
    with pytest.raises(ReplayError, match=r"another search.*model: there abababababab…, here efefefefefef…"):
        Journal(path, {**SUBJECT, "model": "ef" * 32})
    path.write_text("{}\n")
    with pytest.raises(ReplayError, match="does not begin like a journal"):
        Journal(path, SUBJECT)
    for text, line in (("x\n{}\n", 1), ('{"journal": 1, "subject": {}}\n[]\n', 2)):
        path.write_text(text)
        with pytest.raises(ReplayError, match=f"line {line}"):
            Journal(path, {})
    with pytest.raises(InputError, match="cannot open"):
        Journal(tmp_path / "missing" / "j", SUBJECT)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    with Journal(tmp_path / "j", SUBJECT), pytest.raises(InputError, match="another process"):
        Journal(tmp_path / "j", SUBJECT)
    Journal(tmp_path / "j", SUBJECT).close()


SEARCH = """
import os, signal, sys
from fp16fix.search.journal import Journal
from fp16fix.oracles.oracle import Score
from fp16fix.passes.recipe import Recipe, placements_of
from fp16fix.search.judge import Judge
from fp16fix.search.shrink import shrink
left = int(sys.argv[2])
def oracle(recipe):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1
    with open(sys.argv[3], "a") as log:
        log.write(recipe.digest + "\\n")
    return Score({"n3", "n70"} <= set(recipe.wide))
with Journal(sys.argv[1], {"model": "m"}) as journal:
    judge = Judge(oracle, journal)
    for kept in shrink([f"n{k}" for k in range(100)], lambda names: judge.good(Recipe(placements_of(dict.fromkeys(names, "fp32"))))):
        pass
    print(sorted(kept))
"""


def test_killed_search_measures_nothing_twice(tmp_path: Path) -> None:
    def run(left: int) -> subprocess.CompletedProcess[str]:
        arguments = [sys.executable, "-c", textwrap.dedent(SEARCH), str(tmp_path / "j"), str(left), str(tmp_path / "log")]
        paths = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        return subprocess.run(arguments, capture_output=True, text=True, check=False, env=paths)

    assert run(9).returncode == -signal.SIGKILL
    done = run(1000)
    assert done.stdout == "['n3', 'n70']\n", done.stderr
    asked = (tmp_path / "log").read_text().splitlines()
    assert len(asked) == len(set(asked)) > 9
