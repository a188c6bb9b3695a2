"""Text of flags in, dimensions out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fp16fix.errors import ConfigError
from fp16fix.inputs.shapes import InputShapes, dims_from_text, gather_profiles, parse_profile, parse_shape, text_from_dims

DIMS = st.lists(st.integers(0, 10**6), min_size=1, max_size=6).map(tuple)
NAMES = st.text(min_size=1, max_size=12)


@given(NAMES, DIMS)
def test_shape_survives_the_round_trip(name: str, dims: tuple[int, ...]) -> None:
    assert parse_shape(f"{name}:{text_from_dims(dims)}") == (name, dims)


@given(NAMES, DIMS, st.integers(0, 5), st.integers(0, 5))
def test_profile_survives_the_round_trip(name: str, low: tuple[int, ...], more: int, most: int) -> None:
    opt = tuple(dim + more for dim in low)
    profile = InputShapes(name, low, opt, tuple(dim + most for dim in opt))
    assert parse_profile(str(profile)) == profile


@given(st.text(max_size=20))
def test_any_text_is_dimensions_or_an_error(text: str) -> None:
    try:
        dims = dims_from_text(text)
    except ConfigError:
        return
    assert [int(part) for part in text.split("x")] == list(dims)


def test_one_shape_stands_for_all_three() -> None:
    assert parse_profile("a:b:1x2") == InputShapes("a:b", (1, 2), (1, 2), (1, 2))


@pytest.mark.parametrize("text", ["", "x", "x:", ":1x3", "1x3", "x:1x", "x:-1x3", "x:1x3.0", "x:1X3", "x:1 x 3", "x:①"])
def test_no_shape(text: str) -> None:
    with pytest.raises(ConfigError, match="--shape"):
        parse_shape(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x:1x3,2x3", "found 2 shapes"),
        ("x:1x3,2x3,3x3,4x3", "found 4 shapes"),
        ("x:1x3,2x3,4", "different ranks: 2, 2, 1"),
        ("x:1x3,4x3,2x3", "axis 0: 1, 4, 2"),
        ("x:1,,3", "expected dimensions"),
        ("1x3,2x3,4x3", "expected name:"),
    ],
)
def test_no_profile(text: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_profile(text)
    assert says in str(caught.value)


def test_an_input_met_again_opens_the_next_profile() -> None:
    found = gather_profiles(["a:1", "b:2", "a:3", "b:4"])
    assert [{name: profile.opt for name, profile in one.items()} for one in found] == [{"a": (1,), "b": (2,)}, {"a": (3,), "b": (4,)}]
    assert gather_profiles([]) == ()
