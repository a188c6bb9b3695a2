"""On a real Ray cluster of two nodes: the same outcomes as locally, and a model whose node dies is worked on again."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest

from fp16fix.errors import BackendError, BackendMissingError
from tests.models import normal, proto
from tests.zoo.test_run import until
from tests.zoo.zoos import ROOT, SECONDS, apart, calls, ran, works, zoo_in

__all__ = ["apart"]
ray = pytest.importorskip("ray")
ILL = """g (float[4,16] x) => (float[4,16] y) <float k = {100000.0}, float d = {0.00001}> { a = Mul (x, k) y = Mul (a, d) }"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        made = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
        ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
        try:
            yield made
        finally:
            ray.shutdown()
            made.shutdown()


def told(folder: Path) -> dict[str, Any]:
    """What two runs must agree on: every byte of graphs, and every value of outcomes that is no time."""
    found: dict[str, Any] = {each.name: each.read_bytes() for each in sorted(folder.glob("*.onnx"))}
    for each in sorted(folder.glob("*.outcome.json")):
        raw = json.loads(each.read_text())
        found[each.name] = re.sub(r'("[^"]*"): [0-9.e-]+', r"\1", json.dumps(raw.pop("stages"))), raw
    return found


def runs(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("apart")
def test_a_model_whose_node_dies_is_worked_on_elsewhere(cluster: Any, tmp_path: Path) -> None:
    path = zoo_in(tmp_path, {"a": "wait", "b": "wait 2", "c": "fail"})
    node = cluster.add_node(num_cpus=1)
    lost: list[str] = []

    def kill(_: Any) -> None:
        for name in ("a.waits", "b.waits"):
            until(tmp_path / name)
        waiting = [int((tmp_path / name).read_text()) for name in ("a.waits", "b.waits")]
        cluster.remove_node(node, allow_graceful=False)
        lost.extend(calls(tmp_path))
        # What worked on the node outlives it a little, and would end well if it were let go now.
        began = time.monotonic()
        while all(map(runs, waiting)) and time.monotonic() - began < SECONDS:
            time.sleep(0.02)
        (tmp_path / "go").touch()

    with pytest.MonkeyPatch.context() as patch:
        from fp16fix.zoo.executors.ray import Cluster

        real = Cluster._started
        starts: list[Any] = []

        def started(self: Any, remote: Any, load: Any) -> Any:
            starts.append(real(self, remote, load))
            if len(starts) == 3:
                kill(None)
            return starts[-1]

        patch.setattr(Cluster, "_started", started)
        made, _ = ran(path, executor="ray")
    assert works(made) == {"a": "repaired", "b": "repaired", "c": "failed"}
    assert {"a", "b"} <= set(lost)
    assert sorted(calls(tmp_path)) in (["a", "a", "b", "c"], ["a", "b", "b", "c"]), "only what ran on the lost node is done twice"
    assert ran(path, executor="ray", only=("a", "b"))[1] == []


def test_outcomes_are_those_of_a_local_run(cluster: Any, tmp_path: Path) -> None:
    del cluster
    onnx.save(proto(ILL), tmp_path / "ill.onnx")
    (tmp_path / "samples").mkdir()
    for seed in range(2):
        np.savez(tmp_path / "samples" / f"{seed}.npz", x=normal(4, 16, seed=seed))
    path = tmp_path / "zoo.yaml"
    path.write_text("defaults: {inputs: samples, blends: 0}\nmodels: [ill.onnx]\n")
    found = []
    for executor in ("local", "ray"):
        made, _ = ran(path, executor=executor)
        assert made.verified
        found.append((told(tmp_path / "out"), [(row.after, row.before, row.content) for row in made.rows]))
        shutil.rmtree(tmp_path / "out")
    assert found[0] == found[1]


def test_an_address_where_nothing_is_and_a_package_that_is_not_there_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zoo_in(tmp_path, {"a": "good"})
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: (_ for _ in ()).throw(ConnectionError("nobody answers")))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "1")
    with pytest.raises(BackendError, match="nobody answers"):
        ran(path, executor="ray", address="127.0.0.1:1")
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0", "Ray would tell its makers"
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(BackendMissingError) as caught:
        ran(path, executor="ray")
    assert "pip install 'fp16fix[ray]'" in str(caught.value)
