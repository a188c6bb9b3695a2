"""Seeded faults: each still names one place and real tests, and the tool tells a fault that is noticed from one that is not."""

from __future__ import annotations

import ast
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tools.mutate.__main__ import main, summed_up
from tools.mutate.bench import Bench, BenchError, Result
from tools.mutate.fault import ROOT, Change, Fault, faults, named
from tools.mutate.table import page

EVERY = [pytest.param(fault, id=fault.name) for area in faults().values() for fault in area]
LEAST, MAY_SURVIVE = 60, 0.1
"""How many faults there are at least, and which share of them may survive."""
HALF = ("tests/test_half.py",)
HARMLESS = Fault(
    "reworded", "half.py", '"""Facts of binary16,', '"""What is true of binary16,', HALF, "nothing", survives="words compute nothing"
)
WRONG = Fault("no-overflow", "half.py", "return (2.0 - 2.0**-self.digits)", "return (4.0 - 2.0**-self.digits)", HALF, "everything fits")
ENDLESS = Fault("endless", "half.py", "FORMATS = {", "while True:\n    pass\nFORMATS = {", HALF, "no end")


@cache
def functions(path: Path) -> frozenset[str]:
    """Tests of a file, those of a class by ``Class::test`` too."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{each.name}" for each in node.body if isinstance(each, ast.FunctionDef)}
    return frozenset(found)


@pytest.mark.parametrize("fault", EVERY)
def test_a_fault_names_one_place_and_leaves_python(fault: Fault) -> None:
    texts: dict[str, str] = {}
    for change in fault.changes:
        before = texts.get(change.file) or (ROOT / "fp16fix" / change.file).read_text()
        texts[change.file] = change.applied(before)
        assert texts[change.file] != before
    for file, text in texts.items():
        compile(text, file, "exec")
    assert fault.why


@pytest.mark.parametrize("fault", EVERY)
def test_a_fault_names_tests_that_exist(fault: Fault) -> None:
    assert fault.tests
    for test in fault.tests:
        place, _, name = test.partition("::")
        assert (ROOT / place).is_file()
        assert not name or name.partition("[")[0] in functions(ROOT / place)


def test_there_are_enough_and_each_is_told_apart() -> None:
    names = Counter(fault.name for area in faults().values() for fault in area)
    assert sum(names.values()) >= LEAST
    assert max(names.values()) == 1
    survivors = [fault for area in faults().values() for fault in area if fault.survives]
    assert len(survivors) <= MAY_SURVIVE * len(names)


def test_the_note_tells_of_these_faults() -> None:
    """``python -m tools.mutate --write`` makes it anew."""
    rows = (ROOT / "notes" / "mutation.md").read_text().splitlines()
    told = [line.split(" | ")[0].removeprefix("| ") for line in rows if line.startswith("| ") and not line.startswith("| fault ")]
    assert told == [fault.name for area in faults().values() for fault in area]


def test_a_change_must_name_one_place() -> None:
    assert Change("x.py", "b", "c").applied("abd") == "acd"
    for text in ("aba b", "a"):
        with pytest.raises(ValueError, match="must name one place"):
            Change("x.py", "b", "c").applied(text)


def test_faults_go_by_name() -> None:
    first, *_ = named(())
    assert named((first.name,)) == [first]
    with pytest.raises(ValueError, match="there is no fault 'nonsense'"):
        named(("nonsense",))


def test_the_tool_tells_killed_from_survived_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = (ROOT / "fp16fix" / "half.py").read_bytes()
    real = [*named(("overflow-at-the-largest", "fp32-engine-not-told")), WRONG]
    with Bench.opened() as bench:
        bench.check([HARMLESS, *real])
        killed = {fault.name: bench.tried(fault) for fault in real}
        assert all(result.killed_by and result.expected for result in killed.values())
        assert killed[WRONG.name].killed_by == "test_half::test_infinity_begins_where_rounding_says_and_not_at_the_largest"
        survived = bench.tried(HARMLESS)
        assert (survived.killed_by, survived.expected) == ("", True)
        monkeypatch.setattr("tools.mutate.bench.TIMEOUT_S", 3.0)
        assert bench.tried(ENDLESS).killed_by == "no end within 3 s"
        assert (bench.root / "fp16fix" / "half.py").read_bytes() == before, "each fault is taken back"
        with pytest.raises(BenchError, match="pytest exits 4"):
            bench.first_failure(("tests/no_such_file.py",), 60.0)
        with bench.broken(WRONG.changes), pytest.raises(BenchError, match="fails without any fault"):
            bench.check([HARMLESS])
    assert not bench.root.exists()
    assert (ROOT / "fp16fix" / "half.py").read_bytes() == before, "the working tree is never touched"


def test_ctrl_c_leaves_nothing() -> None:
    roots: list[Path] = []

    def stopped() -> None:
        with Bench.opened() as bench, bench.broken(WRONG.changes):
            roots.append(bench.root)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert [root.exists() for root in roots] == [False]


def test_ctrl_c_is_an_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Bench, chosen: list[Fault]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Bench, "check", interrupted)
    assert main(["--only", "fold-upside-down"]) == 130


def test_the_exit_code_is_that_of_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert summed_up([Result(WRONG, "t::a"), Result(HARMLESS, "")]) == 0
    assert summed_up([Result(WRONG, "")]) == 1, "one that should be noticed"
    assert summed_up([Result(HARMLESS, "t::a")]) == 1, "a known survivor that is noticed now"
    assert "not as listed: reworded" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nonsense"]) == 2
    assert main(["--list"]) == 0
    assert "fold-upside-down" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["--only", "fold-upside-down", "--write"])


def test_the_table_says_who_noticed_and_why_nobody_did() -> None:
    text = page({"area": [Result(WRONG, "test_half::test_x"), Result(HARMLESS, "")]})
    assert "2 faults, 1 killed (50 %)." in text
    assert "| no-overflow | half.py | everything fits | `test_half::test_x` |" in text
    assert "| reworded | half.py | nothing | **survives**: words compute nothing |" in text
