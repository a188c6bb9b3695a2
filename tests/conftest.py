"""No test asserts a time: Hypothesis neither fails for a slow machine. What fails is named while the others still run."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

from fp16fix.cli import run

Fp16fix = Callable[..., int]

settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


class Failures:
    """A line for each test that fails, as it does."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self.terminal = terminal

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.terminal.write_line(f" FAILED {report.nodeid} ({report.when})")


@pytest.hookimpl(trylast=True)  # the terminal comes first
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Failures(terminal))


@pytest.fixture
def fp16fix(monkeypatch: pytest.MonkeyPatch) -> Fp16fix:
    """Run the command line in this process; the exit code."""

    def call(*arguments: object) -> int:
        monkeypatch.setattr(sys, "argv", ["fp16fix", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            run()
        return int(stop.value.code or 0)

    return call
