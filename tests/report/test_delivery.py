"""Delivery: one transaction, nothing foreign is touched, and nothing lies beside an outcome that is not its own."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fp16fix.config import Config
from fp16fix.errors import ConfigError, InputError
from fp16fix.graph import save as saving
from fp16fix.graph.load import load
from fp16fix.graph.save import save_model
from fp16fix.report import delivery
from fp16fix.report.delivery import deliver, former, products_for
from fp16fix.report.outcome import Outcome
from fp16fix.report.outcome import load as load_outcome
from tests.models import model, normal
from tests.report.outcomes import outcome

GOOD = outcome()
BAD = replace(GOOD, verdict=replace(GOOD.verdict, verified=False, reasons=("image: 41.3 dB, wanted 50 dB",)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(b"model")
    return tmp_path


def run(folder: Path, found: Outcome, output: str = "x.plan", made: str = "new", **keys: object) -> Outcome:
    """Deliver what a repair made: a graph and a plan that say which run they are of."""
    products = products_for(Config.model_validate({"model": str(folder / "m.onnx"), "output": str(folder / output), **keys}))
    scratch = folder / ".scratch"
    scratch.mkdir()
    graph = scratch / products.onnx.name
    graph.write_text(f"{made} graph")
    if products.plan is not None:
        graph.with_suffix(".plan").write_text(f"{made} plan")
    try:
        return deliver(found, products, graph)
    finally:
        for each in scratch.iterdir():
            each.unlink()
        scratch.rmdir()


def there(folder: Path) -> dict[str, str]:
    """Files and what is in them; papers are only there, or not."""
    papers = (".json", ".html")
    return {each.name: "" if each.suffix in papers else each.read_text() for each in folder.iterdir() if each.name != "m.onnx"}


WHOLE = {"x.plan": "new plan", "x.fp16.onnx": "new graph", "x.outcome.json": "", "x.report.html": ""}


def test_a_plan_goes_with_a_graph_of_another_ending_and_never_over_a_foreign_one(folder: Path) -> None:
    (folder / "x.onnx").write_text("somebody's")
    found = run(folder, GOOD)
    assert there(folder) == {**WHOLE, "x.onnx": "somebody's"}
    assert load_outcome(folder / "x.outcome.json") == found
    assert found.files == {
        "plan": str(folder / "x.plan"),
        "onnx": str(folder / "x.fp16.onnx"),
        "outcome": str(folder / "x.outcome.json"),
        "report": str(folder / "x.report.html"),
    }
    assert found.engine.path == str(folder / "x.plan")


def test_a_foreign_graph_of_that_ending_is_not_touched_and_ones_own_is_replaced(folder: Path) -> None:
    (folder / "x.fp16.onnx").write_text("somebody's")
    for made in ("first", "second"):
        run(folder, GOOD, made=made)
    wanted = {name: text.replace("new", "second") for name, text in WHOLE.items() if name != "x.fp16.onnx"}
    assert there(folder) == {**wanted, "x.fp16.onnx": "somebody's", "x.fp16-2.onnx": "second graph"}


def test_the_model_is_never_what_the_graph_replaces(folder: Path) -> None:
    (folder / "m.onnx").rename(folder / "x.fp16.onnx")
    found = products_for(Config.model_validate({"model": str(folder / "x.fp16.onnx"), "output": str(folder / "x.plan")}))
    assert found.onnx == folder / "x.fp16-2.onnx"


@pytest.mark.parametrize("keep", [False, True])
def test_a_failing_rerun_leaves_no_old_product_beside_its_outcome(folder: Path, keep: bool) -> None:
    run(folder, GOOD, made="old")
    found = run(folder, BAD, keep_unverified=keep)
    kept = {"x.unverified.plan": "new plan", "x.fp16.unverified.onnx": "new graph"} if keep else {}
    aside = {"x.former.plan": "old plan", "x.fp16.former.onnx": "old graph"}
    assert there(folder) == {**aside, **kept, "x.outcome.json": "", "x.report.html": ""}
    assert not load_outcome(folder / "x.outcome.json").verified
    assert "x.plan of a former run was moved to x.former.plan." in found.warnings


def test_former_products_pile_up_under_numbers(folder: Path) -> None:
    for made in ("one", "two"):
        run(folder, GOOD, made=made)
        run(folder, BAD)
    assert {name: text for name, text in there(folder).items() if "former" in name} == {
        "x.former.plan": "one plan",
        "x.former-2.plan": "two plan",
        "x.fp16.former.onnx": "one graph",
        "x.fp16.former-2.onnx": "two graph",
    }


def test_another_kind_of_product_moves_the_former_kind_aside(folder: Path) -> None:
    run(folder, GOOD, made="old")
    run(folder, GOOD, "x.onnx")
    aside = {"x.former.plan": "old plan", "x.fp16.former.onnx": "old graph"}
    assert there(folder) == {**aside, "x.onnx": "new graph", "x.outcome.json": "", "x.report.html": ""}


def test_an_outcome_claims_only_products_of_its_own_name_beside_it(folder: Path) -> None:
    (folder / "elsewhere").mkdir()
    names = ("x.fp16.onnx", "x.plan", "m.onnx", "x.sh", "elsewhere/x.onnx", "x.none.onnx")
    for name in names[:-1]:
        (folder / name).write_text("")
    files = {str(k): str(folder / name) for k, name in enumerate(names)}
    (folder / "x.outcome.json").write_text(json.dumps({"tool": "0.1.0", "files": files}))
    assert former(folder / "x.outcome.json") == [folder / "x.fp16.onnx", folder / "x.plan"]
    for text in ("", "[]", "{}", '{"files": 3}', "[" * 100_000):
        (folder / "x.outcome.json").write_text(text)
        assert former(folder / "x.outcome.json") == []


@pytest.mark.parametrize("name", ["x.plan", "x.outcome.json", "x.report.html"])
def test_a_folder_in_the_way_is_found_before_the_work(folder: Path, name: str) -> None:
    (folder / name).mkdir()
    with pytest.raises(ConfigError, match="is a folder") as caught:
        run(folder, GOOD)
    assert caught.value.where == str(folder / name)


@pytest.mark.parametrize("name", ["x.outcome.json", "x.report.html"])
def test_papers_replace_nothing_foreign(folder: Path, name: str) -> None:
    (folder / name).write_text("<html>my thesis</html>")
    with pytest.raises(ConfigError, match="exists and is not fp16fix's"):
        run(folder, GOOD)
    assert there(folder) == {name: ""}
    assert (folder / name).read_text() == "<html>my thesis</html>"


@pytest.mark.parametrize("fails_at", range(1, 7))
def test_a_disk_that_is_full_leaves_the_old_set(folder: Path, monkeypatch: pytest.MonkeyPatch, fails_at: int) -> None:
    run(folder, GOOD, made="old")
    before = {each.name: each.read_bytes() for each in folder.iterdir()}
    real, calls = Path.replace, []

    def full(source: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == fails_at + 1:
            raise OSError(28, "No space left on device")
        return real(source, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left"):
        run(folder, GOOD)
    monkeypatch.undo()
    assert {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()} == before


def test_a_report_that_cannot_be_made_is_a_warning(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("in a chart")

    monkeypatch.setattr(delivery, "write_report", broken)
    found = run(folder, GOOD)
    assert there(folder) == {name: text for name, text in WHOLE.items() if name != "x.report.html"}
    assert "report" not in load_outcome(folder / "x.outcome.json").files
    assert "The report could not be made (ZeroDivisionError: in a chart)." in found.warnings


def test_an_interrupt_while_the_report_is_made_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    run(folder, GOOD, made="old")
    monkeypatch.setattr(delivery, "write_report", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(folder, GOOD)
    assert there(folder) == {name: text.replace("new", "old") for name, text in WHOLE.items()}


def test_weights_beside_a_graph_are_delivered_with_it_and_go_with_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(saving, "LIMIT", 1000)
    products = products_for(Config.model_validate({"model": str(folder / "m.onnx"), "output": str(folder / "x.onnx")}))
    seen = []
    for seed in (1, 2, 2):
        made = model("g (float[1,32] x, float[32,32] w) => (float[1,32] y) { y = MatMul(x, w) }")
        made.graph.inputs[1].to_constant(normal(32, 32, seed=seed))
        del made.graph.inputs[1]
        (folder / ".scratch").mkdir()
        save_model(made, folder / ".scratch" / "x.onnx")
        found = deliver(GOOD, products, folder / ".scratch" / "x.onnx")
        (folder / ".scratch").rmdir()
        (data,) = folder.glob("*.data")
        assert found.files["weights"] == str(data)
        seen.append(data.name)
        np.testing.assert_array_equal(load(folder / "x.onnx").tensors()["w"].values, normal(32, 32, seed=seed))
    assert seen[0] != seen[1] == seen[2]
    deliver(BAD, products, folder / ".scratch" / "x.onnx")
    assert {each.name for each in folder.glob("x.*")} == {"x.former.onnx", seen[2], "x.outcome.json", "x.report.html"}
    np.testing.assert_array_equal(load(folder / "x.former.onnx").tensors()["w"].values, normal(32, 32, seed=2))
