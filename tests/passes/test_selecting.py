"""Patterns select nodes by name, expression and operator; one that selects nothing is an error that names near ones."""

from __future__ import annotations

import pytest

from fp16fix.config import Config, merged
from fp16fix.errors import ConfigError
from fp16fix.passes.selecting import selected
from tests.models import model

CHAIN = model("g (float[4,8] x) => (float[4,8] y) { a = Relu (x) b = Softmax (a) c = Softmax (b) d = Add (a, c) y = Tanh (d) }")


@pytest.fixture(autouse=True)
def names() -> None:
    for node, name in zip(CHAIN.graph.nodes, ("enc/act", "enc/attn.0/softmax", "enc/attn.1/softmax", "dec[0]", "dec/out"), strict=True):
        node.name = name


@pytest.mark.parametrize(
    ("pattern", "means"),
    [
        ("enc/*", {"enc/*"}),
        ("dec[0]", {"dec[0]"}),
        ("re:attn\\.\\d", {"enc/attn.0/softmax", "enc/attn.1/softmax"}),
        ("re:^dec", {"dec[0]", "dec/out"}),
        ("op:Softmax", {"enc/attn.0/softmax", "enc/attn.1/softmax"}),
        ("op:*a*", {"enc/attn.0/softmax", "enc/attn.1/softmax", "dec/out"}),
    ],
)
def test_what_a_pattern_means(pattern: str, means: set[str]) -> None:
    found = selected(Config(pin=(pattern,), allow=("enc/act",)), CHAIN)
    assert set(found.pin) == means
    assert found.allow == ("enc/act",)


@pytest.mark.parametrize(
    ("pattern", "near"),
    [
        ("op:softmax", "'op:Softmax'"),
        ("op:SoftMx", "'op:Softmax'"),
        ("enc/atn.0/softmax", "'enc/attn.0/softmax'"),
        ("*ATTN.7*", "'enc/attn.0/softmax' or 'enc/attn.1/softmax'"),
        ("re:^out$", "'dec/out'"),
        ("zzz", "nodes are 'enc/act', "),
    ],
)
def test_one_that_means_nothing_names_near_ones(pattern: str, near: str) -> None:
    for key in ("pin", "allow"):
        with pytest.raises(ConfigError) as caught:
            selected(Config.model_validate({key: (pattern,)}), CHAIN)
        assert caught.value.where == key
        assert "matches none of the model's 5 nodes" in caught.value.what
        assert near in caught.value.hint


def test_an_expression_that_is_none_is_said_at_once() -> None:
    with pytest.raises(ConfigError, match=r"flags: pin\[0\]: expected a regular expression after re: \("):
        merged(Config(), {"pin": ["re:(a"]})
