"""Polygraphy's JSON of inputs, as its own writer and older ones left it."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fp16fix.errors import SampleError
from fp16fix.inputs.polygraphy import spans


def npy(array: np.ndarray) -> bytes:
    data = io.BytesIO()
    np.save(data, array, allow_pickle=False)
    return data.getvalue()


def encoded(array: np.ndarray) -> dict[str, str]:
    return {"array": base64.b64encode(npy(array)).decode(), "polygraphy_class": "ndarray"}


def test_what_polygraphy_writes(tmp_path: Path) -> None:
    writer = pytest.importorskip("polygraphy.json")
    samples: list[dict[str, np.ndarray]] = [
        {"x": np.full((2, 3), index, np.float32), 'odd "[{\\ name': np.arange(index)} for index in range(3)
    ]
    writer.save_json(samples, str(tmp_path / "a.json"))
    found = spans(tmp_path / "a.json")
    assert [entry.name for entry in found] == ["a[0]", "a[1]", "a[2]"]
    for entry, sample in zip(found, samples, strict=True):
        read = entry.read()
        assert list(read) == list(sample)
        assert all(np.array_equal(read[name], array) and read[name].dtype == array.dtype for name, array in sample.items())


def test_one_sample_without_a_list(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"x": encoded(np.ones(2))}))
    assert [entry.read()["x"].tolist() for entry in spans(tmp_path / "a.json")] == [[1.0, 1.0]]


def test_older_payloads(tmp_path: Path) -> None:
    archive = io.BytesIO()
    np.savez(archive, arr=np.arange(3))
    payloads = [base64.b64encode(archive.getvalue()).decode(), npy(np.arange(3)).decode("latin-1"), archive.getvalue().decode("latin-1")]
    (tmp_path / "a.json").write_text(json.dumps([{"x": {"array": text}} for text in payloads]))
    assert [entry.read()["x"].tolist() for entry in spans(tmp_path / "a.json")] == [[0, 1, 2]] * 3


def test_samples_are_read_in_any_order_and_indentation(tmp_path: Path) -> None:
    for indent in (None, 0, 4):
        (tmp_path / "a.json").write_text(json.dumps([{"x": encoded(np.array(index))} for index in range(4)], indent=indent))
        found = spans(tmp_path / "a.json")
        assert [int(found[index].read()["x"]) for index in (3, 0, 2)] == [3, 0, 2]


@pytest.mark.parametrize(
    "text",
    ["", "hello", "[1]", "[{},1]", "[{} {}]", "{} {}", "{},{}", "[{}", "[{}]]", "[", "}", '["x"]', "[[{}]]", '[{"x": {"array": "'],
)
def test_no_list_of_samples(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(SampleError, match=r"a\.json"):
        [entry.read() for entry in spans(tmp_path / "a.json")]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ([1, 2], "found list"),
        ({"tensor": "abc", "polygraphy_class": "Tensor"}, "found Tensor"),
        ({"array": "abc"}, "cannot be read"),
        ({"array": base64.b64encode(npy(np.ones(9))[:-4]).decode()}, "72 bytes, and holds 68"),
    ],
)
def test_no_array(tmp_path: Path, value: Any, says: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps([{"x": value}]))
    with pytest.raises(SampleError) as caught:
        spans(tmp_path / "a.json")[0].read()
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'}[0], input 'x': ")


TEXT = st.text(max_size=5) | st.text('"\\\\[]{},', max_size=5)
VALUES = st.recursive(TEXT | st.none(), lambda below: st.lists(below, max_size=2) | st.dictionaries(TEXT, below, max_size=2), max_leaves=4)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(TEXT, VALUES, max_size=2), max_size=3), st.sampled_from([None, 2]), st.booleans())
def test_any_objects_are_found_where_they_are(tmp_path: Path, objects: list[Any], indent: int | None, ascii_only: bool) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps(objects, indent=indent, ensure_ascii=ascii_only), encoding="utf-8", newline="")
    data = path.read_bytes()
    assert [json.loads(data[span.start : span.stop]) for span in spans(path)] == objects
