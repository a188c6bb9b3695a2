"""A batch is resumed, not repeated: what is unchanged stays, what was cut short is noticed, and one run at a time works on a folder."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from fp16fix.config import load_zoo
from fp16fix.errors import ConfigError, InputError
from fp16fix.zoo.cache import Cache
from tests.zoo.zoos import SECONDS, calls, ran, running, stubbed, summary, works, zoo_in

__all__ = ["stubbed"]
pytestmark = pytest.mark.usefixtures("stubbed")


ENDING_S = 20
"""Ten times what it takes to end what runs."""


def until(path: Path) -> None:
    began = time.monotonic()
    while not path.exists() and time.monotonic() - began < SECONDS:
        time.sleep(0.02)
    assert path.exists()


def objects(folder: Path) -> list[Path]:
    return sorted(each for each in (folder / "out" / ".fp16fix" / "objects").rglob("*") if each.is_file())


def test_a_second_run_does_only_what_changed(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2", "c": "wrong"})
    made, worked = ran(path)
    assert works(made) == {"a": "repaired", "b": "repaired", "c": "repaired"}
    assert [row.status for row in made.rows] == ["verified", "verified", "not verified"]
    assert made.failed
    assert summary(tmp_path) == made
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "unchanged", "b": "unchanged", "c": "unchanged"}, [])
    os.utime(tmp_path / "samples" / "0.npz", (1, 1))
    assert ran(path)[1] == []
    (tmp_path / "b.onnx").write_text("good 3")
    assert ran(path)[1] == ["b"]
    (tmp_path / "samples" / "0.npz").write_bytes(b"others")
    assert ran(path)[1] == ["a", "b", "c"]
    zoo_in(tmp_path, {}, defaults="inputs: samples, threads: 1, seed: 4")
    assert ran(path)[1] == ["a", "b", "c"]
    zoo_in(tmp_path, {}, defaults="inputs: samples, threads: 1, seed: 4, limits: {time_s: 60}")
    assert ran(path)[1] == []


def test_what_fails_is_tried_again_and_no_other(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "fail"})
    made, _ = ran(path)
    assert works(made) == {"a": "repaired", "b": "failed"}
    made, worked = ran(path)
    assert works(made) == {"a": "unchanged", "b": "failed"}
    assert worked == ["b"]


@pytest.mark.parametrize("kind", ["onnx", "outcome", "report"])
@pytest.mark.parametrize("length", [0, 5])
def test_a_delivered_file_that_was_cut_short_is_put_back(tmp_path: Path, kind: str, length: int) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    product = Path(ran(path)[0].rows[0].products[kind].path)
    whole = product.read_bytes()
    os.truncate(product, length)
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "restored"}, [])
    assert product.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 5])
def test_where_the_cache_was_cut_short_too_it_is_done_again(tmp_path: Path, length: int) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2"})
    product = Path(ran(path)[0].rows[0].products["onnx"].path)
    whole = product.read_bytes()
    for each in (product, *objects(tmp_path)):
        os.truncate(each, length)
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "repaired", "b": "unchanged"}, ["a"])
    assert product.read_bytes() == whole
    for each in (product, Path(made.rows[1].products["report"].path)):
        each.unlink()
    assert ran(path)[1] == ["b"], "a is whole in the cache again, b is not"


@pytest.mark.parametrize("kind", ["results", "weights", "rows"])
def test_notes_of_the_cache_that_were_cut_short_count_as_absent(tmp_path: Path, kind: str) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    ran(path)
    for each in (tmp_path / "out" / ".fp16fix" / kind).iterdir():
        os.truncate(each, each.stat().st_size // 2)
    assert ran(path)[1] == ([] if kind == "rows" else ["a"])


def test_a_result_in_another_form_counts_as_absent(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    made, _ = ran(path)
    cache = Cache(load_zoo(path).cache)
    assert made.rows[0].content is not None
    cache.note("results", made.rows[0].content.key, {"row": {"name": "a"}})
    assert ran(path)[1] == ["a"]


def test_an_output_folder_that_is_gone_comes_back_from_the_cache(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"}, "cache: kept")
    before = {each.name: each.read_bytes() for each in sorted((tmp_path / "out").glob("a.*"))} if ran(path) else {}
    for each in (tmp_path / "out").glob("a.*"):
        each.unlink()
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "restored"}, [])
    assert {each.name: each.read_bytes() for each in sorted((tmp_path / "out").glob("a.*"))} == before
    zoo_in(tmp_path, {}, "cache: kept\noutput_dir: other")
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "restored"}, [])
    assert f'"{tmp_path}/other/a.onnx"' in (tmp_path / "other" / "a.outcome.json").read_text()
    assert works(ran(path)[0]) == {"a": "unchanged"}


def test_a_killed_run_loses_what_was_in_flight_and_nothing_else(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2", "c": "wait"}, "jobs: 1")
    with running(tmp_path) as batch:
        until(tmp_path / "c.waits")
        pid = int((tmp_path / "c.waits").read_text())
        batch.send_signal(signal.SIGKILL)
        batch.wait(SECONDS)
        gone(pid)
    told = summary(tmp_path)
    assert ([row.name for row in told.rows], told.waiting, told.ended) == (["a", "b"], ("c",), "")
    (tmp_path / "out" / ".fp16fix-0badc0de").mkdir()
    (tmp_path / "out" / "c.onnx").write_bytes(b"whole, but nobody lived to write the outcome that names it")
    (tmp_path / "go").touch()
    made, _ = ran(path)
    assert works(made) == {"a": "unchanged", "b": "unchanged", "c": "repaired"}
    assert calls(tmp_path) == ["a", "b", "c", "c"]
    assert not list((tmp_path / "out").glob(".fp16fix-*"))


def gone(pid: int) -> None:
    """Not there, or a zombie that nobody has reaped yet."""
    began = time.monotonic()
    while time.monotonic() - began < ENDING_S:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.02)
    pytest.fail(f"process {pid} outlives its parent")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_batch_whatever_ends_it(tmp_path: Path, number: signal.Signals) -> None:
    zoo_in(tmp_path, {"0": "good", "a": "hang", "b": "orphan"}, "jobs: 2")
    (tmp_path / "stay").touch()
    with running(tmp_path) as batch:
        for name in ("a.pid", "b.pid"):
            until(tmp_path / name)
        time.sleep(0.1)
        pids = [int((tmp_path / name).read_text()) for name in ("a.pid", "b.pid")]
        batch.send_signal(number)
        batch.wait(SECONDS)
        assert number == signal.SIGKILL or f"what it made was in place by then: {tmp_path}/out/summary.json" in batch.communicate()[1]
        assert [row.name for row in summary(tmp_path).rows] == ["0"]
        for pid in pids:
            gone(pid)


def test_a_second_run_is_refused_or_waits_and_a_dead_one_leaves_no_lock(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "wait"})
    with running(tmp_path) as batch:
        until(tmp_path / "a.waits")
        assert summary(tmp_path).waiting == ("a",), "what is to be done is told before any of it is"
        with pytest.raises(InputError, match="another run works on this output folder") as caught:
            ran(path)
        assert f"process {batch.pid}" in str(caught.value)
        (tmp_path / "go").touch()
        assert works(ran(path, wait_s=SECONDS)[0]) == {"a": "unchanged"}
        assert batch.wait(SECONDS) == 0
    (tmp_path / "go").unlink()
    (tmp_path / "a.onnx").write_text("wait 2")
    (tmp_path / "a.waits").unlink()
    with running(tmp_path) as batch:
        until(tmp_path / "a.waits")
        batch.send_signal(signal.SIGKILL)
        batch.wait(SECONDS)
    (tmp_path / "go").touch()
    assert works(ran(path)[0]) == {"a": "repaired"}


@pytest.mark.parametrize(
    ("models", "says"),
    [
        ("[{model: a.onnx, output: out/x.plan}, {model: b.onnx, output: out/x.onnx}]", "model 2 (x) and model 1 (x) would both write"),
        ("[{model: a.onnx, output: out/x.onnx}, {model: b.onnx, output: out/../out/x.onnx}]", "would both write"),
        (
            "[{model: a.onnx, output: out/x.plan}, {model: b.onnx, output: out/x.fp16.onnx}]",
            "model 2 (x.fp16) and model 1 (x) would both write",
        ),
        ("[{model: a.onnx, output: b.onnx}, b.onnx]", "would overwrite the model of"),
        ("[{model: a.onnx, output: out/x.trt7}]", "cannot tell from 'x.trt7' what to make"),
    ],
)
def test_outputs_that_collide_are_refused_before_any_work(tmp_path: Path, models: str, says: str) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2"})
    path.write_text(f"models: {models}")
    with pytest.raises(ConfigError) as caught:
        ran(path)
    assert says in str(caught.value)
    assert calls(tmp_path) == []


def test_models_of_one_name_get_outputs_that_do_not_collide(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    path = zoo_in(tmp_path, {"a": "good", "sub/a": "good 2"})
    path.write_text("models: [a.onnx, sub/a.onnx, {model: a.onnx, seed: 3, output: out/sub-a.plan}]")
    assert sorted(works(ran(path)[0])) == ["a", "a-2", "sub-a"]


@pytest.mark.parametrize("name", ["a.onnx", "a.outcome.json", "a.report.html", "a.unverified.onnx", "index.html", "summary.json"])
def test_a_file_that_is_not_ours_is_not_touched(tmp_path: Path, name: str) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / name).write_text("mine")
    with pytest.raises(ConfigError) as caught:
        ran(path)
    assert str(tmp_path / "out" / name) in str(caught.value)
    assert (tmp_path / "out" / name).read_text() == "mine"
    assert calls(tmp_path) == []


def test_a_file_put_where_ours_was_is_not_ours(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    ran(path)
    (tmp_path / "out" / "a.report.html").write_text("my notes")
    with pytest.raises(ConfigError, match="no run of fp16fix wrote them"):
        ran(path)


def test_the_lock_and_the_summary_of_a_run_that_goes_on(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    made, _ = ran(path)
    assert made.rows[0].content is not None
    assert Cache(load_zoo(path).cache).noted("results", made.rows[0].content.key) is not None
    assert all((tmp_path / "out" / name).exists() for name in ("summary.json", "index.html", "summary.junit.xml"))


def test_only_what_is_named_is_done(tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "good", "b": "good 2"})
    assert ran(path, only=("b",))[1] == ["b"]
    with pytest.raises(ConfigError, match="no model is called c"):
        ran(path, only=("c",))
