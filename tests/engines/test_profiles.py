from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fp16fix.config import Config, merged
from fp16fix.engines.profiles import bounds, declared, measures, plain, profiles_of, refuse_uncovered, settled
from fp16fix.errors import ConfigError, ModelError
from fp16fix.inputs.signature import Input
from fp16fix.passes.evidence import Arrays, gather
from fp16fix.progress import Silent, Stages
from fp16fix.search.answer import settle_on
from fp16fix.search.trials import trials
from fp16fix.tasks.corners import corners, distinct
from tests.models import proto

DYNAMIC = 'g (float["B",4] x, float["B","N"] k) => (float["B",4] y, float["B","N"] j) { y = Relu (x) j = Exp (k) }'
RANGES = {"x": ((1, 4), (4, 4), (8, 4)), "k": ((1, 2), (4, 8), (8, 16))}


@pytest.fixture
def dynamic(tmp_path: Path) -> Path:
    onnx.save(proto(DYNAMIC), tmp_path / "dynamic.onnx")
    return tmp_path / "dynamic.onnx"


def samples(folder: Path, *sizes: tuple[int, int]) -> Path:
    (folder / "samples").mkdir()
    for index, (batch, length) in enumerate(sizes):
        arrays = {"x": np.full((batch, 4), 1.0 + index, np.float32), "k": np.ones((batch, length), np.float32)}
        np.savez(folder / "samples" / f"s{index}.npz", **arrays)  # type: ignore[arg-type]
    return folder / "samples"


def config(model: Path, ranges: dict[str, Any] | None = RANGES, **keys: Any) -> Config:
    profiles = [] if ranges is None else [{name: dict(zip(("min", "opt", "max"), each, strict=True)) for name, each in ranges.items()}]
    return merged(Config(), {"model": str(model), "output": str(model.with_suffix(".plan")), "build.profiles": profiles, **keys})


def test_a_dynamic_input_without_a_profile_is_an_error_with_the_flags_to_add(dynamic: Path) -> None:
    with pytest.raises(ConfigError, match="2 inputs are dynamic") as caught:
        settled(config(dynamic, None))
    assert "--profile x:1x4,1x4,8x4 --profile k:1x1,1x1,8x8" in caught.value.hint


def test_a_profile_that_does_not_fit_is_an_error_before_anything_is_loaded(dynamic: Path) -> None:
    with pytest.raises(ConfigError, match="axis 1 is 4 in the model"):
        settled(config(dynamic, RANGES | {"x": ((1, 5), (4, 5), (8, 5))}))


def test_no_model_is_said_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        declared(tmp_path / "absent.onnx")
    (tmp_path / "junk.onnx").write_bytes(b"\xff\xff\xff")
    with pytest.raises(ModelError, match="not a readable ONNX file"):
        declared(tmp_path / "junk.onnx")


def test_shapes_that_settle_everything_are_a_profile(dynamic: Path) -> None:
    found = settled(config(dynamic, None, shapes={"x": (2, 4), "k": (2, 3)}))
    assert profiles_of(found) == ({"x": ((2, 4),) * 3, "k": ((2, 3),) * 3},)
    with pytest.raises(ConfigError, match="dynamic"):
        settled(config(dynamic, None, shapes={"x": (2, 4)}))


def test_made_up_samples_have_the_likeliest_shapes(dynamic: Path) -> None:
    assert settled(config(dynamic)).shapes == {"x": (4, 4), "k": (4, 8)}


def test_a_sample_no_profile_covers_is_named_with_its_shapes(dynamic: Path, tmp_path: Path) -> None:
    inputs = samples(tmp_path, (1, 2), (9, 16))
    with pytest.raises(ConfigError, match="sample 's1' has x 9x4, k 9x16, which no optimisation profile covers: k 1x2 to 8x16"):
        settled(config(dynamic, inputs=str(inputs)))


def test_samples_of_a_function_are_looked_at_once_they_are_there(dynamic: Path, tmp_path: Path) -> None:
    code = "import numpy as np\ndef feeds():\n    yield {'x': np.ones((9, 4), np.float32), 'k': np.ones((9, 2), np.float32)}\n"
    (tmp_path / "feeds.py").write_text(code)
    given = settled(config(dynamic, inputs=f"{tmp_path}/feeds.py:feeds"))
    with pytest.raises(ConfigError, match="x 9x4"):
        refuse_uncovered(given, Arrays(gather(given, Stages(Silent())).samples))


def test_values_are_bounded_where_they_may_decide_shapes() -> None:
    inputs = (Input("x", 1, ("B", 4)), Input("size", 7, (2,)))
    sample = {"x": np.zeros((3, 4), np.float32), "size": np.array([16, 32])}
    assert measures(sample, inputs) == {"x": (3, 4), "size": (16, 32)}
    assert plain({"x": ((1, 4),) * 3, "size": ((8, 8),) * 3}, inputs) == {"x": ((1, 4),) * 3}


def test_corners_that_coincide_are_one() -> None:
    assert [at for at, _ in distinct({"x": ((1,), (1,), (4,))})] == ["min, opt", "max"]
    assert [at for at, _ in distinct({"x": ((1,), (1,), (1,))})] == ["min, opt, max"]
    assert bounds({"x": ((1, 4), (2, 4), (8, 4))}) == "x 1x4 to 8x4"


def test_every_corner_that_samples_show_has_its_own_verdict(dynamic: Path, tmp_path: Path) -> None:
    inputs = samples(tmp_path, (1, 2), (1, 2), (4, 8), (4, 8), (2, 2), (2, 2))
    given = config(dynamic, inputs=str(inputs))
    found = gather(given, Stages(Silent()))
    stages = Stages(Silent())
    with trials(found, stages) as tried:
        answer = settle_on(tried, stages)
        seen = {each.at: each for each in corners(found, answer, tried.typed(answer.recipe))}
    assert {at: each.samples for at, each in seen.items()} == {"min": 2, "opt": 2, "max": 0}
    assert seen["max"].verdict is None
    opt = seen["opt"]
    assert opt.verdict is not None
    assert (opt.verdict.verified, opt.verdict.samples, opt.shapes) == (True, 2, {"x": (4, 4), "k": (4, 8)})


def test_samples_in_files_give_a_profile_where_there_is_no_other(dynamic: Path, tmp_path: Path) -> None:
    place = str(samples(tmp_path, (3, 7), (5, 7), (3, 7), (2, 9)))
    (profile,) = settled(config(dynamic, None, inputs=place)).build.profiles
    assert (profile["x"].min, profile["x"].opt, profile["x"].max) == ((2, 4), (3, 4), (5, 4))
    assert (profile["k"].min, profile["k"].opt, profile["k"].max) == ((2, 7), (3, 7), (5, 9))
    given = config(dynamic, inputs=place)
    assert settled(given).build.profiles == given.build.profiles
