"""A fault → what the tests say of it: everything happens in a copy of the tree, one fault at a time."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import cache_from_source
from pathlib import Path

from tools.mutate.fault import ROOT, Change, Fault

LEFT_BEHIND = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "runs")
"""What a copy of the tree does without."""
TIMEOUT_S = 300.0
"""Tests that take longer under a fault are taken for tests that noticed it: a search that no longer ends is one of the faults."""
PASSED, FAILED, STOPPED = 0, 1, 2
"""Exit codes of pytest: all passed, some failed, collection failed (pytest documentation)."""


class BenchError(Exception):
    """The tests say nothing about the fault."""


@dataclass(frozen=True)
class Result:
    """What became of one fault."""

    fault: Fault
    killed_by: str
    """The first test that failed; empty if none did."""

    @property
    def expected(self) -> bool:
        """Whether the table of faults says so too."""
        return bool(self.killed_by) != bool(self.fault.survives)


class Bench:
    """A copy of the tree in which faults are made."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @classmethod
    @contextlib.contextmanager
    def opened(cls) -> Iterator[Bench]:
        """A fresh copy; gone afterwards, whatever happens.

        Raises:
            BenchError: tests in the copy would import another fp16fix.
        """
        with tempfile.TemporaryDirectory(prefix="fp16fix-mutate-") as folder:
            root = Path(folder).resolve() / "tree"
            shutil.copytree(ROOT, root, ignore=LEFT_BEHIND)
            bench = cls(root)
            bench.refuse_another_package()
            yield bench

    def refuse_another_package(self) -> None:
        """A fault in a copy that nobody imports would always survive."""
        code = "import fp16fix; print(fp16fix.__file__)"
        said = subprocess.run([sys.executable, "-c", code], cwd=self.root, env=self.environment, capture_output=True, text=True, check=True)
        if not Path(said.stdout.strip()).is_relative_to(self.root):
            raise BenchError(f"tests would import {said.stdout.strip()}, which is not the copy")

    @property
    def environment(self) -> dict[str, str]:
        """The copy comes first."""
        return {**os.environ, "PYTHONPATH": str(self.root)}

    def check(self, faults: Sequence[Fault]) -> None:
        """All tests that the faults name pass without any.

        Raises:
            BenchError: one does not.
        """
        wanted = list(dict.fromkeys(test for fault in faults for test in fault.tests))
        failed = self.first_failure(wanted, TIMEOUT_S * len(wanted))
        if failed:
            raise BenchError(f"{failed} fails without any fault")

    def tried(self, fault: Fault) -> Result:
        """Make one fault, run its tests, take it back.

        Raises:
            BenchError: the tests do not run at all.
        """
        with self.broken(fault.changes):
            return Result(fault, self.first_failure(fault.tests, TIMEOUT_S))

    @contextlib.contextmanager
    def broken(self, changes: Iterable[Change]) -> Iterator[None]:
        """The copy with changes, and without them again."""
        paths = {change.file: self.root / "fp16fix" / change.file for change in changes}
        before = {file: path.read_text() for file, path in paths.items()}
        after = dict(before)
        for change in changes:
            after[change.file] = change.applied(after[change.file])
        try:
            self.write(after)
            yield
        finally:
            self.write(before)

    def write(self, texts: dict[str, str]) -> None:
        """Files of the package; byte code of the same second and size would be taken for theirs, so it goes."""
        for file, text in texts.items():
            path = self.root / "fp16fix" / file
            path.write_text(text)
            Path(cache_from_source(str(path))).unlink(missing_ok=True)

    def first_failure(self, tests: Sequence[str], timeout_s: float) -> str:
        """The test that fails first, empty if all pass.

        Raises:
            BenchError: pytest does not run them.
        """
        report = self.root.parent / "report.xml"
        report.unlink(missing_ok=True)
        command = [sys.executable, "-m", "pytest", "-x", "-q", f"--junitxml={report}", *tests]
        code, said = self.run(command, timeout_s)
        if code is None:
            return f"no end within {timeout_s:g} s"
        if code not in {PASSED, FAILED, STOPPED}:
            raise BenchError(f"pytest exits {code} on {' '.join(tests)}\n{said}")
        return "" if code == PASSED else first_failed(report)

    def run(self, command: list[str], timeout_s: float) -> tuple[int | None, str]:
        """Exit code (None: out of time) and what was said; the whole group ends with it."""
        process = subprocess.Popen(
            command,
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            return None, ""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return process.returncode, said


def first_failed(report: Path) -> str:
    """The name of the test that pytest's report says failed, or could not be collected."""
    for case in ET.parse(report).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            return "::".join(part for part in (case.get("classname", ""), case.get("name", "")) if part).removeprefix("tests.")
    raise BenchError("pytest failed and names no test")
