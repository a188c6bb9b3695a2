"""What the commands print for people, on results made up; the commands themselves are run in ``test_cli``."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fp16fix.console import lesser, show
from fp16fix.report.located import Located, to_json
from fp16fix.report.located_view import PINS
from fp16fix.search.shrink import Minimal
from fp16fix.tasks.verify import Compared, Digests
from tests.report.locations import culprit, healthy, located, minimal
from tests.report.outcomes import outcome


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return Printed(capsys)


class Printed:
    """Lines of a location on standard output."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, found: Located, *, as_json: bool = False) -> list[str]:
        show.located(found, as_json=as_json)
        return self.capsys.readouterr().out.splitlines()


def test_culprits_are_told_with_place_share_and_answer(printed: Printed) -> None:
    made = located()
    lines = printed(made)
    assert lines[0] == f"! {made.warnings[0]}"
    at = lines.index(f"  1. {made.culprits[0].node} (Pow)")
    assert lines[at - 1] == "where error is born, worst first (97% of the damage explained):"
    assert lines[at + 1 : at + 4] == [
        "     overflow, 88% of the damage, 70.0 dB → lost",
        f"     {made.culprits[0].why}",
        "     answered by: layernorm",
    ]
    at = lines.index(f"  4. body/Mul (Mul) in the body of {made.culprits[3].within}")
    assert lines[at + 1] == "     vanish, <1% of the damage, 70.0 dB → 31.0 dB"
    assert lines[-2:] == ["  location: vae.locate.json", "  report: vae.locate.html"]


def test_a_reason_that_is_not_known_leaves_no_empty_line(printed: Printed) -> None:
    lines = printed(located())
    assert all(line.strip() for line in lines)
    at = lines.index("     cancel, 2% of the damage, 70.0 dB → 23.3 dB")
    assert lines[at + 1] == "     answered by: none: the axes are not the last ones"


def test_a_long_list_is_left_to_the_file(printed: Printed) -> None:
    names = tuple(f"n{i}" for i in range(PINS + 3))
    lines = printed(located(culprits=tuple(culprit(name) for name in names), minimal=minimal(*names)))
    assert f"  … and {len(names) - show.SHOWN} more in vae.locate.json" in lines
    assert "  … and 3 more in vae.locate.json" in lines
    assert sum("answered by" in line for line in lines) == show.SHOWN


def test_lines_fit_a_terminal_and_names_are_whole(printed: Printed) -> None:
    name = "/a/very/long/" + "name-of-a-node." * 12
    made = located(culprits=(culprit(name, why="so it is " * 40), culprit("n\x1b[31m\u202e")))
    lines = printed(replace(made, triage=replace(made.triage, verdict="word " * 60)))
    assert all(len(line) <= show.WIDTH or name in line for line in lines)
    assert any(name in line for line in lines)
    assert any("n\\u001b[31m\\u202e (Pow)" in line for line in lines)


@pytest.mark.parametrize(
    ("minimal", "said"),
    [
        (minimal("a", flaky=2), "! The oracle is flaky: repeated runs of 2 candidates disagreed"),
        (minimal(), "Nothing: the oracle is content with all-FP16."),
        (minimal("a", complete=False, stopped="interrupted"), "the search was stopped (interrupted)"),
    ],
)
def test_how_far_the_minimal_set_can_be_trusted(minimal: Minimal, said: str, printed: Printed) -> None:
    lines = printed(located(minimal=minimal))
    assert "least that must be FP32, by cmd (1 call):" in lines
    assert said in " ".join(line.strip() for line in lines)


def test_a_model_with_nothing_wrong_is_told_in_a_line_and_its_files(printed: Printed) -> None:
    assert printed(healthy()) == [healthy().triage.verdict, "  location: vae.locate.json", "  report: vae.locate.html"]


def test_what_only_hurts_together_is_told_together(printed: Printed) -> None:
    assert "  hurt only together: a + b" in printed(located(minimal=minimal("a", together=(("a", "b"),))))
    assert not any("together" in line for line in printed(located(minimal=minimal("a"))))


def test_what_does_no_harm_is_no_damage(printed: Printed) -> None:
    lines = printed(replace(healthy(), culprits=(culprit("n", 1.0, 58.0),)))
    assert "     overflow, 100% of the error, 70.0 dB → 58.0 dB" in lines
    assert not any("damage" in line for line in lines)


def test_json_is_the_file_and_nothing_else(printed: Printed) -> None:
    assert "\n".join(printed(located(), as_json=True)) + "\n" == to_json(located())


def test_the_headline_of_a_repair_names_output_sample_and_entry(capsys: pytest.CaptureFixture[str]) -> None:
    show.outcome(outcome(), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    place = "in sample night, entry 2 of axis 1"
    assert lines[1] == (f"VERIFIED on 4 samples by strict FP16 emulation, worst image: 56.6 dB {place}; engine: built, not executed")
    assert f"  image: 49152 lost → 56.6 dB {place} (off by at most 0.0021)" in lines


def test_verify_says_what_was_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    made = replace(outcome().verdict, notes=("image: 7 elements are left out",))
    lesser.verdict(Compared(made, Digests("a1", "b2", "c3")), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "VERIFIED on 4 samples (strict, compiled profile), worst image: 56.6 dB in sample night, entry 2 of axis 1"
    assert lines[-4] == "  ! image: 7 elements are left out"
    assert lines[-3:] == ["  SHA-256 of the model: a1", "  SHA-256 of the candidate: b2", "  SHA-256 of the samples: c3"]
