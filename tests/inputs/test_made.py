"""Made-up inputs suit the model: it runs on them, ids lie in their table, and padding is met on both sides of the split."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnxruntime as ort
import pytest

from fp16fix.errors import ConfigError, SampleError
from fp16fix.graph.model import Model
from fp16fix.inputs.made import make
from fp16fix.inputs.sample import Samples
from fp16fix.inputs.signature import signature
from fp16fix.inputs.split import split

from .models import model

BERT = """
g (int64[batch,seq] input_ids, int64[batch,seq] attention_mask, int64[batch,seq] token_type_ids, int64[batch,seq] position_ids)
    => (float[batch,seq,2] y)
<float[11,2] words = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21}, float[2,2] kinds = {0,1,2,3},
 float[16,2] places = {0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15},
 float one = {1}, float low = {-10000}, int64[1] last = {2}> {
    a = Gather(words, input_ids)
    b = Gather(kinds, token_type_ids)
    c = Gather(places, position_ids)
    m = Cast <to = 1> (attention_mask)
    off = Sub(one, m)
    add = Mul(off, low)
    wide = Unsqueeze(add, last)
    ab = Add(a, b)
    abc = Add(ab, c)
    y = Add(abc, wide)
}
"""


def made(text: str, shapes: dict[str, tuple[int, ...]] | None = None, count: int = 8, seed: int = 0) -> Samples:
    built = model(text)
    return make(built, signature(built), shapes or {}, count, seed)


def run(text: str, samples: Samples) -> list[np.ndarray]:
    built: Model = model(text)
    proto = gs.export_onnx(built.graph)
    proto.ir_version = 8
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return [session.run(None, sample.arrays)[0] for sample in samples]


def echo(inputs: str) -> str:
    return f"g ({inputs}) => (float[1] y) {{ y = Constant <value = float[1] {{1.0}}> () }}"


def test_a_bert_runs_on_what_is_made() -> None:
    samples = made(BERT)
    outputs = run(BERT, samples)
    assert [output.shape[:2] for output in outputs] == [(1, 16)] * 4 + [(2, 16)] * 4
    arrays = [sample.arrays for sample in samples]
    ids = np.concatenate([each["input_ids"].ravel() for each in arrays])
    assert set(ids) == set(range(11)), "the whole table, and nothing past it"
    assert all(each["position_ids"][0].tolist() == list(range(16)) for each in arrays)
    assert all(set(each["token_type_ids"].ravel()) == {0, 1} for each in arrays)
    assert samples.made_up
    assert "seed 0" in samples.source
    assert samples.notes[1] == "input 'attention_mask': made up as mask"


@pytest.mark.parametrize("count", [2, 4, 8])
def test_padding_and_both_batches_are_met_in_calibration_and_verdict(count: int) -> None:
    samples = made(BERT, count=count)
    full = [bool(sample.arrays["attention_mask"].all()) for sample in samples]
    assert set(full) == {True, False}
    assert [len(sample.arrays["input_ids"]) for sample in samples] == [1] * (count // 2) + [2] * (count // 2)
    if count >= 4:
        for part in split(samples):
            assert {bool(sample.arrays["attention_mask"].all()) for sample in part} == {True, False}
            assert {len(sample.arrays["input_ids"]) for sample in part} == {1, 2}


def test_the_same_seed_makes_the_same_and_another_does_not() -> None:
    assert made(BERT).digest() == made(BERT).digest()
    assert made(BERT).digest() != made(BERT, seed=1).digest()
    samples = made(BERT)
    assert np.array_equal(samples[3].arrays["input_ids"], samples[3].arrays["input_ids"])
    assert not np.array_equal(samples[0].arrays["input_ids"], samples[1].arrays["input_ids"])


def test_shapes_settle_what_is_free_everywhere() -> None:
    samples = made(BERT, {"input_ids": (3, 5)})
    assert {array.shape for sample in samples for array in sample.arrays.values()} == {(3, 5)}
    with pytest.raises(ConfigError, match="'seq' is 6 here and 5 before"):
        made(BERT, {"input_ids": (3, 5), "attention_mask": (3, 6)})


@pytest.mark.parametrize(
    ("declared", "kind", "dtype", "low", "high"),
    [
        ("float[N,3,32,32] images", "image", "float32", 0.0, 1.0),
        ("float16[1,3,32,32] x", "image", "float16", 0.0, 1.0),
        ("uint8[1,32,32,3] x", "image, channels last", "uint8", 0, 255),
        ("float[1,12,1,3] points", "normal", "float32", -6, 6),
        ("float[1,256,8,8] x", "normal", "float32", -6, 6),
        ("float[1,4,8,8] latent_sample", "normal", "float32", -6, 6),
        ("bfloat16[1,50] x", "normal", "bfloat16", -6, 6),
        ("double[1,50] x", "normal", "float64", -6, 6),
        ("bool[2,4] x", "flags", "bool", 0, 1),
        ("bool[2,4] key_padding_mask", "mask", "bool", 0, 1),
        ("float[2,4] attention_mask", "mask", "float32", 0, 1),
        ("int32[2] timestep", "time steps", "int32", 0, 999),
        ("float[2] time_step", "time steps", "float32", 0, 999),
        ("int64[1,9] x", "small integers", "int64", 0, 7),
    ],
)
def test_kinds(declared: str, kind: str, dtype: str, low: float, high: float) -> None:
    samples = made(echo(declared))
    assert samples.notes[0].endswith(f": made up as {kind}")
    for sample in samples:
        (array,) = sample.arrays.values()
        assert str(array.dtype) == dtype
        assert low <= float(array.astype(np.float64).min())
        assert float(array.astype(np.float64).max()) <= high


def test_uses_tell_masks_that_names_do_not() -> None:
    text = "g (int64[2,4] m) => (float[2,4] y) <float one = {1}> { f = Cast <to = 1> (m) y = Sub(one, f) }"
    assert made(text).notes == ("input 'm': made up as mask",)
    text = "g (float[1,1,4,4] attention_mask, float[1,1,4,4] s) => (float[1,1,4,4] y) { y = Add(s, attention_mask) }"
    samples = made(text)
    assert samples.notes[0] == "input 'attention_mask': made up as additive mask"
    assert {float(value) for sample in samples for value in np.unique(sample.arrays["attention_mask"])} == {0.0, -1e4}


def test_lengths_fit_the_sequence_they_measure() -> None:
    samples = made(echo("float[N,time,80] feats, int64[N] feat_lengths"))
    lengths = np.concatenate([sample.arrays["feat_lengths"] for sample in samples])
    assert lengths.max() == 16
    assert 1 <= lengths.min() < 16


def test_what_cannot_be_made_up() -> None:
    with pytest.raises(SampleError, match="neither numbers nor booleans"):
        made(echo("string[1] x"))
    assert len(made(echo("float[N,?] x"), {"x": (4, 7)})) == 8


def test_what_decides_a_shape_leaves_it_as_it_is() -> None:
    text = "g (float[4] x, int64[2] s) => (float[N,M] y) { y = Reshape(x, s) }"
    assert [output.shape for output in run(text, made(text))] == [(4, 1)] * 8
    text = "g (float[1,1,4,4] x, float[4] scales) => (float[N,M,K,L] y) { r = Identity (x) y = Resize (r, , scales) }"
    assert [output.shape for output in run(text, made(text, count=2))] == [(1, 1, 4, 4)] * 2
    text = "g (float[4] x, int64[1] n) => (float[N] y) { y = Tile (x, n) }"
    assert [output.shape for output in run(text, made(text, count=2))] == [(4,)] * 2


def test_a_condition_of_no_dimension_is_an_array() -> None:
    samples = made(echo("bool c, float v"))
    assert all(type(array) is np.ndarray and array.shape == () for sample in samples for array in sample.arrays.values())
    assert {bool(sample.arrays["c"]) for sample in samples} == {True, False}


def test_a_guessed_dimension_is_a_caveat() -> None:
    assert any("--shape x:1x16" in said for said in made(echo("float[N,?] x")).caveats)
    assert not any("--shape" in said for said in made(echo("float[N,8] x")).caveats)


def test_ids_of_a_contrib_embedding() -> None:
    table = "{" + ",".join(["0"] * 14) + "}"
    text = f"""
    g (int32[1,4] ids, int32[1,4] seg) => (float[1,4,2] y, int32[1] m)
    <float[7,2] w = {table}, float[7,2] p = {table}, float[3,2] s = {{0,0,0,0,0,0}}, float[2] one = {{1,1}}, float[2] zero = {{0,0}}>
    {{ y, m = com.microsoft.EmbedLayerNormalization(ids, seg, w, p, s, one, zero) }}
    """
    samples = made(text, count=40)
    ids = {int(value) for sample in samples for value in sample.arrays["ids"].ravel()}
    segments = {int(value) for sample in samples for value in sample.arrays["seg"].ravel()}
    assert ids == set(range(7))
    assert segments <= {0, 1, 2}
    assert signature(model(text))[0].element == onnx.TensorProto.INT32
