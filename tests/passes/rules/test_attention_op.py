"""Attention written out agrees with ONNX Runtime's own operator in every variant, rows that see nothing included."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from .trial import Trial

OPSET = '<ir_version: 10, opset_import: ["" : 23]> '
KINDS = {"none": "", "truth": ", bool[5,7] m", "bias": ", float[2,1,5,7] m"}


def text(packed: bool, kv_heads: int, mask: str, causal: bool) -> str:
    """Four query heads of 8, values of 6, five queries, seven keys."""
    if packed:
        tensors = f"float[2,5,32] q, float[2,7,{kv_heads * 8}] k, float[2,7,{kv_heads * 6}] v", "float[2,5,24] y"
        attrs = [f"q_num_heads = 4, kv_num_heads = {kv_heads}"]
    else:
        tensors = f"float[2,4,5,8] q, float[2,{kv_heads},7,8] k, float[2,{kv_heads},7,6] v", "float[2,4,5,6] y"
        attrs = []
    attrs += ["is_causal = 1"] if causal else []
    attributes = f"<{', '.join(attrs)}>" if attrs else ""
    operands = "q, k, v, m" if mask != "none" else "q, k, v"
    return f"{OPSET} g ({tensors[0]}{KINDS[mask]}) => ({tensors[1]}) {{ y = Attention {attributes} ({operands}) }}"


@pytest.mark.parametrize(("packed", "kv_heads", "mask", "causal"), list(itertools.product([False, True], [4, 2, 1], KINDS, [False, True])))
def test_every_variant_agrees_with_the_operator(packed: bool, kv_heads: int, mask: str, causal: bool) -> None:
    trial = Trial("decompose-attention", text(packed, kv_heads, mask, causal))
    feeds = trial.feeds
    if mask == "truth":
        for each in feeds:  # the first key stays visible, so that causality leaves no row without one
            each["m"][:, 0] = True
    assert "Attention" not in trial.ops()
    truth = trial.truth(feeds)["y"]
    np.testing.assert_allclose(trial.after(feeds)["y"], truth, atol=2e-6)
    np.testing.assert_allclose(trial.cured(feeds)["y"], truth, atol=4e-3)


def test_row_that_sees_nothing_is_zero_as_the_operator_says() -> None:
    trial = Trial("decompose-attention", text(packed=False, kv_heads=4, mask="truth", causal=True))
    feeds = trial.feeds[:1]
    feeds[0]["m"][:] = True
    feeds[0]["m"][3] = False
    for found in (trial.after(feeds)["y"], trial.cured(feeds)["y"]):
        assert (found[0, :, :, 3] == 0).all()
        assert (found[0, :, :, 2] != 0).all()


def test_unknown_head_size_is_refused() -> None:
    trial = Trial(
        "decompose-attention",
        f"{OPSET} g (float[2,4,5,d] q, float[2,4,7,d] k, float[2,4,7,6] v) => (float[2,4,5,6] y) {{ y = Attention (q, k, v) }}",
    )
    assert trial.repairs == []
    assert "static" in trial.refusals[0].why
