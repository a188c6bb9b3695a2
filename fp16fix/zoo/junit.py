"""``Batch`` → JUnit XML: one test case a model, as build services show them."""

from __future__ import annotations

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from fp16fix.report.batch import Batch, Row
from fp16fix.report.words import visible


def junit(batch: Batch) -> bytes:
    """A document of one suite; a model fails that fails the batch, and is an error where there is no verdict."""
    suite = TestSuite(f"fp16fix batch {batch.zoo}")
    suite.timestamp = batch.began
    suite.add_property("fp16fix", batch.tool)
    for name, version in batch.versions.items():
        suite.add_property(name, version)
    suite.add_testcases([case(row, batch.fail_on) for row in batch.rows])
    document = JUnitXml("fp16fix")
    document.add_testsuite(suite)
    return bytes(document.tostring())  # type: ignore[no-untyped-call]


def case(row: Row, fail_on: tuple[str, ...]) -> TestCase:
    """One model; control characters, which XML has no place for, are spelt out."""
    made = TestCase(visible(row.name), "fp16fix", row.seconds)
    said = visible("\n".join([*row.causes, *(f"{each} since the locked run" for each in row.worse)]))
    if row.fails(fail_on):
        kind = Failure if row.judged else Error
        made.result = [kind(headline(row), row.status)]
        made.result[0].text = "\n".join(each for each in (said, visible(row.last_words)) if each)
    figures = [f"{each.output}: {each.said()}" for each in row.after]
    made.system_out = visible("\n".join([f"{row.status}, {row.work}", *figures, *row.warnings]))
    return made


def headline(row: Row) -> str:
    """Why it fails, in a line."""
    return visible("; ".join([row.status, *row.causes]).splitlines()[0])
