"""Models, samples and outputs by URL: files, memory and a real S3 server; a scratch folder that holds no more than it may."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import onnx
import pytest

from fp16fix.config.urls import is_url, url_of
from fp16fix.errors import ConfigError, InputError
from fp16fix.zoo import staging, storage
from tests.models import normal
from tests.zoo.zoos import ran, stubbed, works

__all__ = ["stubbed"]
WEIGHTS = "g (float[4,16] x) => (float[4,16] y) { a = MatMul (x, w) y = Tanh (a) }"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """An S3 server of this machine with an empty bucket."""
    from moto.server import ThreadedMotoServer

    made = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    made.start()
    host, port = made.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        fsspec.filesystem("s3").mkdir("zoo")
        try:
            yield "s3://zoo"
        finally:
            made.stop()


@pytest.fixture(params=["file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A folder by URL, in three kinds of places."""
    if request.param == "s3":
        return f"{request.getfixturevalue('server')}/{tmp_path.name}"
    return f"memory://{tmp_path.name}" if request.param == "memory" else f"file://{tmp_path}/far"


def put(root: str, **files: bytes) -> None:
    for name, data in files.items():
        with fsspec.open(f"{root}/{name.replace('__', '/')}", "wb", auto_mkdir=True) as file:
            file.write(data)


def names(root: str, folder: str) -> list[str]:
    system, path = fsspec.url_to_fs(f"{root}/{folder}")
    return sorted(each.rsplit("/", 1)[-1] for each in system.ls(path, detail=False))


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3://b/m.onnx", "s3://b/m.onnx"),
        ("memory://m", "memory://m"),
        ("file:///a/b", "file:///a/b"),
        ("a/b", ""),
        ("/a:b/c", ""),
        ("c:/x", ""),
    ],
)
def test_a_url_survives_being_a_path(text: str, url: str) -> None:
    assert is_url(Path(text)) is bool(url)
    assert url_of(Path(text)) == (url or text)


@pytest.mark.usefixtures("stubbed")
def test_a_zoo_elsewhere_is_repaired_resumed_and_checked(root: str, tmp_path: Path) -> None:
    put(root, models__a=b"", **{"models__a.onnx": b"good", "models__b.onnx": b"good 2", "samples__0.npz": b"0", "samples__1.npz": b"1"})
    path = tmp_path / "zoo.yaml"
    jobs = 1 if root.startswith("memory") else 2  # fsspec's memory has one position a file, for all who read it at the same time
    path.write_text(
        f"defaults: {{inputs: '{root}/samples', threads: 1}}\nmodels: ['{root}/models/*.onnx']\noutput_dir: '{root}/out'\n"
        f"scratch: {{folder: scratch}}\njobs: {jobs}\n"
    )
    made, worked = ran(path)
    assert (works(made), worked) == ({"a": "repaired", "b": "repaired"}, ["a", "b"])
    assert {"a.onnx", "a.outcome.json", "a.report.html", "b.onnx", "index.html", "summary.json", "summary.junit.xml"} <= set(
        names(root, "out")
    )
    assert made.rows[0].products["onnx"].path == f"{root}/out/a.onnx"
    assert not [each for each in (tmp_path / "scratch").iterdir() if each.is_dir()]
    assert ran(path)[1] == []
    put(root, **{"samples__0.npz": b"changed"})
    assert ran(path, only=("a",))[1] == ["a"]
    whole = storage.read(Path(f"{root}/out/a.onnx"))
    put(root, **{"out__a.onnx": b"cut"})
    put(root, **{"out__a.onnx": (whole or b"")[:7]})
    assert works(ran(path, only=("a",))[0]) == {"a": "restored"}
    assert storage.read(Path(f"{root}/out/a.onnx")) == whole
    put(root, **{"out__b.report.html": b"mine"})
    with pytest.raises(ConfigError, match=f"{root}/out/b.report.html"):
        ran(path)


def test_weights_come_along_and_what_is_told_is_told_of_the_url(server: str, tmp_path: Path) -> None:
    root = f"{server}/{tmp_path.name}"
    made = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 17]> {WEIGHTS}')
    made.graph.initializer.append(onnx.numpy_helper.from_array(normal(16, 16, seed=3), "w"))
    (tmp_path / "near").mkdir()
    onnx.save(made, tmp_path / "near" / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=0)
    for name in ("m.onnx", "m.bin"):
        storage.send(tmp_path / "near" / name, Path(f"{root}/m/{name}"))
    for seed in range(2):
        np.savez(tmp_path / "near" / f"{seed}.npz", x=normal(4, 16, seed=seed))
        storage.send(tmp_path / "near" / f"{seed}.npz", Path(f"{root}/samples/{seed}.npz"))
    path = tmp_path / "zoo.yaml"
    path.write_text(
        f"defaults: {{inputs: '{root}/samples', blends: 0}}\nmodels: ['{root}/m/m.onnx']\noutput_dir: '{root}/out'\ncache: '{root}/cache'\n"
    )
    batch, _ = ran(path)
    assert batch.verified, batch.rows[0].reasons
    outcome = json.loads(storage.read(Path(f"{root}/out/m.outcome.json")) or b"")
    assert outcome["model"]["path"] == f"{root}/m/m.onnx"
    assert outcome["samples"]["source"] == f"{root}/samples"
    assert outcome["files"] == {
        kind: f"{root}/out/m.{end}" for kind, end in (("outcome", "outcome.json"), ("report", "report.html"), ("onnx", "onnx"))
    }
    page = (storage.read(Path(f"{root}/out/m.report.html")) or b"").decode()
    assert "fp16fix-scratch-" not in page + json.dumps(outcome)
    storage.write(Path(f"{root}/m/m.bin"), b"others")
    assert ran(path)[0].rows[0].status == "bad input", "weights are part of the content"


@pytest.mark.usefixtures("stubbed")
def test_what_never_fits_in_the_scratch_folder_is_an_error_of_its_row(tmp_path: Path) -> None:
    root = f"memory://{tmp_path.name}"
    put(root, **{"big.onnx": b"good " + bytes(3 << 20), "small.onnx": b"good"})
    path = tmp_path / "zoo.yaml"
    path.write_text(f"models: ['{root}/*.onnx']\noutput_dir: out\nscratch: {{folder: scratch, limit_mib: 2}}\n")
    made, _ = ran(path)
    assert [(row.name, row.status) for row in made.rows] == [("big", "bad input"), ("small", "verified")]
    assert "3.0 MiB, and scratch.limit_mib allows 2" in made.rows[0].reasons[0]


def test_one_waits_until_another_has_left_room(tmp_path: Path) -> None:
    steps: list[str] = []

    def second() -> None:
        with staging.room(tmp_path, 600_000, 1, "second"):
            steps.append("second in")

    with staging.room(tmp_path, 600_000, 1, "first") as home:
        (tmp_path / f"{staging.MARK}dead").mkdir()
        other = threading.Thread(target=second)
        other.start()
        other.join(2 * staging.WAIT_S)
        steps.append("first out")
        assert home.is_dir()
    other.join(60)
    assert steps == ["first out", "second in"]
    assert not [each for each in tmp_path.iterdir() if each.is_dir()], "what a killed run left goes too"


def test_a_protocol_that_nobody_knows_is_told(tmp_path: Path) -> None:
    path = tmp_path / "zoo.yaml"
    path.write_text("models: ['nosuch://b/*.onnx']\n")
    with pytest.raises(ConfigError, match="nosuch://b"):
        ran(path)
    path.write_text("models: [m.onnx]\noutput_dir: 'nosuch://b'\n")
    with pytest.raises(InputError, match="nosuch://b"):
        ran(path)
