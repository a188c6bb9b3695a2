from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.engines.options import (
    BuildOptions,
    EngineInput,
    check_profiles,
    covering,
    options_from_json,
    parse_profiles,
    profile_from_lists,
)
from fp16fix.errors import ConfigError

IMAGES = EngineInput("images", (-1, 3, -1, -1))
IDS = EngineInput("ids", (-1, -1))
MASK = EngineInput("mask", (4,))
SHAPE = EngineInput("sizes", (2,), holds_shape=True)


def test_options_survive_json() -> None:
    options = BuildOptions(
        backend="weak",
        targets=("sm89",),
        profiles=({"x:0": ((1, 3), (2, 3), (8, 3))}, {"x:0": ((16, 3), (16, 3), (32, 3))}),
        plugins=("a.so",),
        optimization_level=5,
        tf32=False,
        pins=(("n", "bf16"),),
    )
    assert options_from_json(json.loads(json.dumps(options.to_json()))) == options


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"backend": "tensorrt"}, "backend is 'tensorrt'"),
        ({"capability": "fast"}, "capability is 'fast'"),
        ({"log_severity": "loud"}, "log_severity is 'loud'"),
        ({"hardware_compatible": "all"}, "hardware_compatible is 'all'"),
        ({"optimization_level": 6}, "optimization_level is 6"),
        ({"timeout_s": 0.0}, "timeout_s must be positive"),
        ({"memory_mib": -1}, "not negative"),
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        BuildOptions(**wrong)  # type: ignore[arg-type]


class TestParseProfiles:
    def test_several_profiles_and_a_colon_in_a_name(self) -> None:
        found = parse_profiles(["x:0:1x3,2x3,8x3", "m:7", "x:0:16x3,16x3,32x3", "m:1,2,3"])
        assert found == (
            {"x:0": ((1, 3), (2, 3), (8, 3)), "m": ((7,), (7,), (7,))},
            {"x:0": ((16, 3), (16, 3), (32, 3)), "m": ((1,), (2,), (3,))},
        )

    def test_none(self) -> None:
        assert parse_profiles([]) == ()

    @pytest.mark.parametrize("flag", ["x", "x:", ":1x3", "x:1x3,2x3", "x:axb", "x:2,1,3"])
    def test_another_form_is_an_error(self, flag: str) -> None:
        with pytest.raises(ConfigError):
            parse_profiles([flag])

    def test_lists_from_yaml(self) -> None:
        assert profile_from_lists({"x": [[1, 3], [2, 3], [8, 3]]}) == {"x": ((1, 3), (2, 3), (8, 3))}
        with pytest.raises(ConfigError, match="2 shapes instead of"):
            profile_from_lists({"x": [[1, 3], [2, 3]]})


class TestCheckProfiles:
    def test_no_profile_prints_flags_that_then_pass(self) -> None:
        inputs = (IMAGES, IDS, MASK, SHAPE)
        with pytest.raises(ConfigError, match="3 inputs are dynamic") as caught:
            check_profiles((), inputs)
        flags = [word for word in caught.value.hint.split() if ":" in word]
        check_profiles(parse_profiles(flags), inputs)

    def test_static_models_need_none(self) -> None:
        check_profiles((), (MASK,))

    @pytest.mark.parametrize(
        ("flags", "words"),
        [
            (["image:1x3x8x8"], "did you mean 'images'"),
            (["images:1x3x8"], "4 numbers expected, found 1x3x8"),
            (["images:1x4x8x8"], r"axis 1 is 3 in the model, \[4\] in the profile"),
            (["mask:4"], "leaves out dynamic input 'images'"),
        ],
    )
    def test_faults(self, flags: list[str], words: str) -> None:
        with pytest.raises(ConfigError, match=words):
            check_profiles(parse_profiles(flags), (IMAGES, MASK))

    def test_bounds_out_of_order_in_a_profile_from_python(self) -> None:
        with pytest.raises(ConfigError, match="8 ≤ 1 ≤ 8 does not hold"):
            check_profiles([{"ids": ((8, 1), (1, 1), (8, 1))}], (IDS,))

    def test_all_faults_at_once(self) -> None:
        with pytest.raises(ConfigError) as caught:
            check_profiles(parse_profiles(["images:1x4x8", "other:1"]), (IMAGES, IDS))
        for word in ("'ids'", "'other'", "4 numbers expected"):
            assert word in caught.value.what

    def test_shape_tensors_are_bounded_by_values(self) -> None:
        check_profiles(parse_profiles(["sizes:1x1,8x8,64x64"]), (SHAPE,))
        with pytest.raises(ConfigError, match="2 numbers expected"):
            check_profiles(parse_profiles(["sizes:1,8,64"]), (SHAPE,))


class TestCovering:
    PROFILES = parse_profiles(["x:1x3,1x3,4x3", "x:8x3,8x3,16x3"])

    @pytest.mark.parametrize(("batch", "index"), [(1, 0), (4, 0), (5, None), (8, 1), (16, 1), (17, None)])
    def test_the_first_profile_that_holds_the_shape(self, batch: int, index: int | None) -> None:
        assert covering(self.PROFILES, {"x": (batch, 3)}) == index

    def test_another_rank_or_static_axis_is_not_covered(self) -> None:
        assert covering(self.PROFILES, {"x": (1, 3, 1)}) is None
        assert covering(self.PROFILES, {"x": (1, 4)}) is None

    @given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=4))
    def test_its_own_corners_are_always_covered(self, bounds: list[tuple[int, int]]) -> None:
        low, high = tuple(min(pair) for pair in bounds), tuple(max(pair) for pair in bounds)
        profile = {"x": (low, low, high)}
        check_profiles([profile], [EngineInput("x", (-1,) * len(bounds))])
        assert covering([profile], {"x": low}) == covering([profile], {"x": high}) == 0
        assert covering([profile], {"x": (high[0] + 1, *high[1:])}) is None
