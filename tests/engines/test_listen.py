from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fp16fix.engines.listen import Listener, Phases, logger, monitor


class Heard(Listener):
    def __init__(self, severity: str = "warning") -> None:
        super().__init__(severity)
        self.events: list[dict[str, Any]] = []

    def emit(self, event: dict[str, Any]) -> None:
        self.events.append(event)


class Library:
    """As much of a binding as the two callbacks need."""

    class ILogger:
        pass

    class IProgressMonitor:
        pass


class Severity:
    def __init__(self, name: str) -> None:
        self.name = name


def test_errors_and_warnings_are_kept_apart() -> None:
    heard = Heard()
    ears = logger(Library, heard)
    for name in ("INTERNAL_ERROR", "ERROR", "WARNING", "WARNING", "INFO"):
        ears.log(Severity(name), f" said at {name} ")
    assert heard.errors == ["said at INTERNAL_ERROR", "said at ERROR"]
    assert list(heard.warnings) == ["said at WARNING"]
    assert [event["message"].split("]")[0] for event in heard.events] == ["[error", "[error", "[warning", "[warning"]


def test_severity_asks_for_more() -> None:
    heard = Heard("info")
    ears = logger(Library, heard)
    ears.log(Severity("INFO"), "built")
    ears.log(Severity("VERBOSE"), "detail")
    assert list(heard.warnings) == ["built"]


def test_severity_error_keeps_warnings_out_of_the_result_not_out_of_last_words() -> None:
    heard = Heard("error")
    logger(Library, heard).log(Severity("WARNING"), "careful")
    assert list(heard.warnings) == []
    assert heard.events == [{"message": "[warning] careful"}]


def test_driverless_noise_is_dropped() -> None:
    heard = Heard()
    logger(Library, heard).log(Severity("ERROR"), "cudaError 35: CUDA driver version is insufficient for CUDA runtime version")
    assert heard.errors == []


def test_a_library_without_progress_gives_no_monitor() -> None:
    class Old:
        pass

    assert monitor(Old, Heard()) is None


def test_the_monitor_reports_and_cancels() -> None:
    heard = Heard()
    eyes = monitor(Library, heard)
    assert eyes is not None
    eyes.phase_start("Building", None, 2)
    assert eyes.step_complete("Building", 0) is True
    assert heard.events == [{"stage": "build", "done": 0.5}]
    heard.cancelled.set()
    assert eyes.step_complete("Building", 1) is False
    eyes.phase_finish("Building")


def test_nested_phases_fill_one_step_of_their_parent() -> None:
    phases = Phases()
    phases.start("all", None, 4)
    phases.start("part", "all", 2)
    assert phases.step("part", 0) == 0.125
    assert phases.step("part", 1) == 0.25
    phases.finish("part")
    assert phases.step("all", 0) is None  # 0.25 again: not worth telling
    assert phases.step("all", 1) == 0.5


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=40))
def test_the_fraction_never_falls_or_passes_one(steps: list[tuple[int, int]]) -> None:
    phases = Phases()
    for depth in range(4):
        phases.start(f"phase {depth}", f"phase {depth - 1}" if depth else None, 3)
    told = [done for depth, step in steps if (done := phases.step(f"phase {depth}", step)) is not None]
    assert told == sorted(told)
    assert all(0 < done <= 1 for done in told)


def test_a_step_of_an_unknown_phase_is_no_crash() -> None:
    assert Phases().step("never started", 0) == 1.0
