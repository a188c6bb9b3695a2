"""``configs/encoder.yaml`` as it stands on a small BERT, ``vae.yaml`` on a small decoder (the detector's and the zoo's are run by the README's and the zoo's tests)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest

from tests.ill.vae import decoder

CONFIGS = Path(__file__).parent.parent / "configs"


def export(path: Path) -> None:
    """A two-layer BERT with three inputs of free batch and length."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=500, attn_implementation="eager"
    )
    encoder = transformers.BertModel(config, add_pooling_layer=False).eval()

    class Hidden(torch.nn.Module):  # type: ignore[misc,name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, ids: Any, mask: Any, kinds: Any) -> Any:
            return self.encoder(input_ids=ids, attention_mask=mask, token_type_ids=kinds).last_hidden_state

    names = ["input_ids", "attention_mask", "token_type_ids"]
    ones = torch.ones(2, 16, dtype=torch.long)
    torch.onnx.export(
        Hidden().eval(),
        (ones, ones, ones * 0),
        str(path),
        input_names=names,
        output_names=["hidden"],
        dynamic_axes={name: {0: "batch", 1: "sequence"} for name in [*names, "hidden"]},
        opset_version=17,
        dynamo=False,
    )


def test_the_encoder_example_makes_a_verified_plan(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    export(tmp_path / "encoder.onnx")
    arguments = ["repair", str(tmp_path / "encoder.onnx"), "-o", str(tmp_path / "encoder.plan"), "--config", str(CONFIGS / "encoder.yaml")]
    done = subprocess.run([sys.executable, "-m", "fp16fix", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads((tmp_path / "encoder.outcome.json").read_text())
    assert outcome["samples"]["made_up"]
    assert outcome["verdict"]["verified"]
    assert (tmp_path / "encoder.fp16.onnx").exists(), "the repaired graph leaves the model its name"
    assert (tmp_path / "encoder.plan").stat().st_size == outcome["engine"]["plan_bytes"]


def test_the_vae_example_repairs_a_decoder_that_overflows(tmp_path: Path) -> None:
    onnx.save(decoder(18, 1e-6), tmp_path / "vae.onnx")
    arguments = ["repair", str(tmp_path / "vae.onnx"), "-o", str(tmp_path / "out.onnx"), "--config", str(CONFIGS / "vae.yaml")]
    done = subprocess.run([sys.executable, "-m", "fp16fix", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    outcome = json.loads((tmp_path / "out.outcome.json").read_text())
    assert outcome["before"][0]["lost"] > 0, "plain FP16 is black"
    assert outcome["verdict"]["verified"]
    assert outcome["verdict"]["outputs"][0]["max_rel"] <= 0.01


def test_every_example_is_run_by_some_test() -> None:
    assert {path.name for path in CONFIGS.glob("*.yaml")} == {"detector.yaml", "encoder.yaml", "vae.yaml", "zoo.yaml"}
