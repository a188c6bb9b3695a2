from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fp16fix.engines import api
from fp16fix.engines.listen import LibraryRefusal, Listener
from fp16fix.engines.runner import Runner, pointer
from tests.engines import fake_gpu
from tests.engines.fake_gpu import DataType, HostDevice, ICudaEngine, TensorIOMode

IN, OUT = TensorIOMode.INPUT, TensorIOMode.OUTPUT
PROFILES = [{"x": ((1, 2), (1, 2), (4, 2))}, {"x": ((8, 2), (8, 2), (16, 2))}]


def doubled(x: np.ndarray) -> dict[str, np.ndarray]:
    return {"y": x * 2, "hidden": x.astype(np.float16) + 1}


def engine() -> ICudaEngine:
    return ICudaEngine({"x": (IN, DataType.FLOAT, (0, 2)), "y": (OUT, DataType.FLOAT, (0, 2))}, PROFILES, doubled)


def runner(tmp_path: Path, built: ICudaEngine | None) -> Runner:
    (tmp_path / "x.plan").write_bytes(b"plan")
    return Runner(fake_gpu.library(built), tmp_path / "x.plan", HostDevice(), Listener())


def test_outputs_come_back_in_shape(tmp_path: Path) -> None:
    ready = runner(tmp_path, engine())
    for batch in (1, 3):
        x = np.arange(batch * 2, dtype=np.float64).reshape(batch, 2)
        found = ready.run({"x": x})
        assert found["y"].dtype == np.float32
        np.testing.assert_array_equal(found["y"], x * 2)


def test_buffers_do_not_pile_up(tmp_path: Path) -> None:
    ready = runner(tmp_path, engine())
    for _ in range(5):
        ready.run({"x": np.ones((1, 2), np.float32)})
        assert ready.device.held == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("batch", "profile"), [(1, 0), (4, 0), (8, 1)])
def test_the_profile_follows_the_sample(tmp_path: Path, batch: int, profile: int) -> None:
    ready = runner(tmp_path, engine())
    ready.run({"x": np.ones((batch, 2), np.float32)})
    assert ready.context.profile == profile


def test_a_sample_outside_every_profile(tmp_path: Path) -> None:
    with pytest.raises(LibraryRefusal, match="no optimisation profile of the plan covers") as caught:
        runner(tmp_path, engine()).run({"x": np.ones((5, 2), np.float32)})
    assert caught.value.kind == "ConfigError"


def test_an_output_whose_shape_depends_on_data(tmp_path: Path) -> None:
    built = ICudaEngine(
        {"x": (IN, DataType.FLOAT, (0, 2)), "kept": (OUT, DataType.INT64, (-1, 2))},
        PROFILES,
        lambda x: {"kept": np.argwhere(x > 0)},
    )
    x = np.array([[1, -1], [0, 2], [3, 4]], np.float32)
    np.testing.assert_array_equal(runner(tmp_path, built).run({"x": x})["kept"], np.argwhere(x > 0))


def test_shape_inputs_stay_on_the_host(tmp_path: Path) -> None:
    built = ICudaEngine(
        {"x": (IN, DataType.FLOAT, (0, 2)), "n": (IN, DataType.INT64, (1,)), "y": (OUT, DataType.FLOAT, (0, 2))},
        PROFILES,
        lambda x, n: {"y": (x * n).astype(np.float32)},
    )
    built.on_host = {"n"}
    ready = runner(tmp_path, built)
    found = ready.run({"x": np.ones((1, 2), np.float32), "n": np.array([3])})
    np.testing.assert_array_equal(found["y"], [[3, 3]])
    assert "n" not in ready.context.shapes


def test_latencies_are_counted_after_the_warm_up(tmp_path: Path) -> None:
    ready = runner(tmp_path, engine())
    assert ready.latencies({"x": np.ones((1, 2), np.float32)}, warm_up=3, repeats=5) == [1.0] * 5
    assert ready.context.runs == 8


def test_intermediate_values(tmp_path: Path) -> None:
    ready = runner(tmp_path, engine())
    found = ready.intermediates({"x": np.array([[1, 2]], np.float32)})
    assert ready.context.unfused_tensors_debug_state is True
    assert found["hidden"].dtype == np.float16
    np.testing.assert_array_equal(found["hidden"], [[2, 3]])


def test_a_plan_that_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(LibraryRefusal, match=r"10\.13 cannot load the plan") as caught:
        runner(tmp_path, None)
    assert "--target" in caught.value.hint


def test_an_engine_that_does_not_run(tmp_path: Path) -> None:
    ready = runner(tmp_path, engine())
    ready.context.fails = True
    with pytest.raises(LibraryRefusal, match="does not run"):
        ready.run({"x": np.ones((1, 2), np.float32)})


def test_a_library_that_is_too_old(tmp_path: Path) -> None:
    library = fake_gpu.library(engine())
    del library.IOutputAllocator
    with pytest.raises(LibraryRefusal, match=r"lacks IOutputAllocator") as caught:
        Runner(library, tmp_path / "x.plan", HostDevice(), Listener())
    assert caught.value.kind == "BackendMissingError"


def test_addresses_come_as_numbers_or_capsules() -> None:
    import ctypes

    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    assert pointer(1234) == 1234
    assert pointer(new(1234, None, None)) == 1234


def test_the_fake_has_no_name_the_real_one_lacks() -> None:
    real = {need.partition("(")[0] for need in (*api.EXECUTE, *api.OPTIONAL)}
    own = {"tensors", "profiles", "compute", "on_host", "read", "write"}
    for part in (fake_gpu.ICudaEngine, fake_gpu.IExecutionContext):
        names = {name for name in vars(part) if not name.startswith("_")} - own
        assert {f"{part.__name__}.{name}" for name in names} <= real
