"""Arrays that fit are fed as the model wants them; those that do not are refused by name."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fp16fix.errors import SampleError
from fp16fix.inputs.check import Contract, convert

from .models import takes

T = onnx.TensorProto


@pytest.mark.parametrize(
    ("array", "element", "dtype"),
    [
        (np.ones(2, np.float64), T.FLOAT, "float32"),
        (np.ones(2, ">f4"), T.FLOAT, "float32"),
        (np.ones(2, np.float32), T.FLOAT16, "float16"),
        (np.ones(2, np.float32), T.BFLOAT16, "bfloat16"),
        (np.ones(2, ml_dtypes.bfloat16), T.FLOAT, "float32"),
        (np.ones(2, np.int32), T.INT64, "int64"),
        (np.array([5], np.int64), T.INT32, "int32"),
        (np.array([0, 255], np.uint8), T.FLOAT, "float32"),
        (np.array([True]), T.FLOAT, "float32"),
        (np.array([0, 1]), T.BOOL, "bool"),
        (np.array([], np.int64), T.FLOAT16, "float16"),
    ],
)
def test_what_survives_is_converted_and_noted(array: np.ndarray, element: int, dtype: str) -> None:
    converted, note = convert(array, element, "here")
    assert str(converted.dtype) == dtype
    assert np.array_equal(converted.astype(np.float64), array.astype(np.float64))
    assert note.startswith(f"{array.dtype} converted to {dtype}")


def test_unscaled_bytes_are_noted_with_their_span() -> None:
    assert convert(np.array([3, 250], np.uint8), T.FLOAT, "")[1] == "uint8 converted to float32, values 3 to 250 as they are"


def test_bfloat16_from_a_numpy_file_is_two_raw_bytes() -> None:
    true = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    converted, note = convert(true.view("V2"), T.BFLOAT16, "")
    assert converted.dtype == true.dtype
    assert np.array_equal(converted, true)
    assert note == ""


@pytest.mark.parametrize(
    ("array", "element", "says"),
    [
        (np.ones(2, np.float32), T.INT64, "expected int64, found float32"),
        (np.ones(2, np.float32), T.BOOL, "expected bool, found float32"),
        (np.array([1e39]), T.FLOAT, "found float64 1e+39, past what it holds"),
        (np.array([70000], np.float32), T.FLOAT16, "found float32 70000, past"),
        (np.array([2**40]), T.INT32, "values 1099511627776 to 1099511627776, which it does not hold"),
        (np.array([-1]), T.UINT8, "which it does not hold"),
        (np.array([2]), T.BOOL, "which it does not hold"),
        (np.array([2**24 + 1]), T.FLOAT, "which it does not hold"),
        (np.array([1j]), T.FLOAT, "found complex128"),
        (np.array(["a"]), T.FLOAT, "found <U1"),
        (np.array([1]), T.STRING, "expected strings, found int64"),
    ],
)
def test_what_would_be_lost_is_refused(array: np.ndarray, element: int, says: str) -> None:
    with pytest.raises(SampleError) as caught:
        convert(array, element, "a.npz, input 'x'")
    assert says in str(caught.value)
    assert str(caught.value).startswith("a.npz, input 'x': ")


@given(
    hnp.arrays(hnp.integer_dtypes() | hnp.unsigned_integer_dtypes() | hnp.boolean_dtypes(), st.just((3,))),
    st.sampled_from([T.FLOAT, T.FLOAT16, T.BFLOAT16, T.DOUBLE, T.INT8, T.UINT8, T.INT32, T.INT64, T.BOOL]),
)
def test_integers_convert_exactly_or_not_at_all(array: np.ndarray, element: int) -> None:
    try:
        converted, _ = convert(array, element, "")
    except SampleError:
        return
    assert [int(value) for value in converted] == [int(value) for value in array]


def refused(inputs: str, **arrays: Any) -> str:
    with pytest.raises(SampleError) as caught:
        Contract(takes(inputs)).check("s.npz", arrays)
    return str(caught.value)


def test_names() -> None:
    assert "holds 'input_id', which the model does not take and lacks 'input_ids'" in refused("int64[2] input_ids", input_id=np.ones(2))
    assert "did you mean 'input_ids'?" in refused("int64[2] input_ids", input_id=np.ones(2))
    assert "lacks input 'b'; found 'a'" in refused("float[2] a, float[2] b", a=np.ones(2))
    assert "lacks input 'a'; found nothing" in refused("float[2] a")


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((3, 8, 8), "expected shape [N, 3, 8, 8], found [3, 8, 8]\n  → add the batch axis"),
        ((5, 1, 3, 8, 8), "one file is one sample"),
        ((1, 8, 8, 3), "channel-last"),
        ((1, 3, 8, 9), "found [1, 3, 8, 9]"),
        ((), "found []"),
    ],
)
def test_shapes(shape: tuple[int, ...], says: str) -> None:
    assert says in refused("float[N,3,8,8] x", x=np.zeros(shape, np.float32))


def test_one_name_may_have_two_sizes_and_that_is_said() -> None:
    """Exporters name dimensions carelessly, and ONNX Runtime runs what comes of it."""
    contract = Contract(takes("float[N,2] x, float[N] y, float[M] z"))
    fed = contract.check("s", {"x": np.zeros((4, 2)), "y": np.zeros(3), "z": np.zeros(4)})
    assert fed.apart == {"N"}
    assert "dimension 'N' has sizes 3, 4 at once: told apart" in fed.notes
    assert not contract.check("s", {"x": np.zeros((4, 2)), "y": np.zeros(4), "z": np.zeros(5)}).apart


@pytest.mark.parametrize("kind", ["float", "float16", "bfloat16", "double"])
def test_values_must_be_numbers(kind: str) -> None:
    message = refused(f"{kind}[2,2] x", x=np.array([[0.0, 0.0], [0.0, np.nan]]))
    assert "s.npz, input 'x': expected numbers, found NaN at [1, 1] (1 of 4)" in message
    masked = np.array([[0.0, -np.inf], [0.0, np.inf]])
    fed = Contract(takes(f"{kind}[2,2] x")).check("s", {"x": masked}).arrays["x"]
    assert np.array_equal(fed.astype(np.float64), masked), "a mask is made of infinities"


def test_what_fits_comes_back_in_the_models_order() -> None:
    checked = Contract(takes("float[N] a, int64[?] b, string[1] c")).check("s", {"c": np.array(["z"]), "b": np.arange(5), "a": np.ones(3)})
    assert list(checked.arrays) == ["a", "b", "c"]
    assert checked.notes == ("input 'a': float64 converted to float32",)
    assert checked.arrays["c"].dtype == object
