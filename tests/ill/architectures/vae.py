"""In: an exponent. Out: a small image-VAE decoder in plain torch, after SDXL's, whose stream is times 2^exponent, in ONNX."""

from __future__ import annotations

from typing import Any

import onnx

from .export import exported, rescale, rescale_eps, seeded

CHANNELS, GROUPS = 32, 8


def modules() -> Any:
    """conv_in, ResNet, attention, ResNet, upsample and conv, ResNet with fewer channels, norm, SiLU, conv_out."""
    import torch
    from torch import nn
    from torch.nn.functional import interpolate, silu

    class ResNet(nn.Module):  # type: ignore[misc]
        def __init__(self, channels_in: int, channels: int) -> None:
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(GROUPS, channels_in, eps=1e-6), nn.Conv2d(channels_in, channels, 3, padding=1)
            self.norm2, self.conv2 = nn.GroupNorm(GROUPS, channels, eps=1e-6), nn.Conv2d(channels, channels, 3, padding=1)
            self.conv_shortcut = nn.Conv2d(channels_in, channels, 1) if channels_in != channels else nn.Identity()

        def forward(self, x: Any) -> Any:
            inner = self.conv1(silu(self.norm1(x)))
            return self.conv_shortcut(x) + self.conv2(silu(self.norm2(inner)))

    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.group_norm = nn.GroupNorm(GROUPS, channels, eps=1e-6)
            self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(channels, channels) for _ in range(4))

        def forward(self, x: Any) -> Any:
            tokens = self.group_norm(x).flatten(2).transpose(1, 2)
            scores = self.to_q(tokens) @ self.to_k(tokens).transpose(1, 2) * x.shape[1] ** -0.5
            return x + self.to_out(scores.softmax(-1) @ self.to_v(tokens)).transpose(1, 2).reshape(x.shape)

    class Upsample(nn.Module):  # type: ignore[misc]
        def __init__(self, channels: int) -> None:
            super().__init__()
            self.conv = nn.Conv2d(channels, channels, 3, padding=1)

        def forward(self, x: Any) -> Any:
            return self.conv(interpolate(x, scale_factor=2.0, mode="nearest"))

    class Decoder(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.conv_in = nn.Conv2d(4, CHANNELS, 3, padding=1)
            middle = [ResNet(CHANNELS, CHANNELS), Attention(CHANNELS), ResNet(CHANNELS, CHANNELS)]
            self.blocks = nn.Sequential(*middle, Upsample(CHANNELS), ResNet(CHANNELS, CHANNELS // 2))
            self.conv_norm_out = nn.GroupNorm(GROUPS, CHANNELS // 2, eps=1e-6)
            self.conv_out = nn.Conv2d(CHANNELS // 2, 3, 3, padding=1)

        def forward(self, latent: Any) -> Any:
            return self.conv_out(silu(self.conv_norm_out(self.blocks(self.conv_in(latent)))))

    decoder = Decoder()
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)
    return decoder


def decoder(shift: int) -> onnx.ModelProto:
    """The decoder with all that writes the stream times 2^shift; biases alone where a layer reads the stream itself.

    The eps of the norms that read the stream are times 2^(2·shift); norm2 reads conv1's output, which keeps its size.
    """
    import torch

    with seeded(6):
        model = modules()
    writers = ("conv_in", "conv2", "to_out")
    rescale(model, 2.0**shift, *(f"{name}.{leaf}" for name in writers for leaf in ("weight", "bias")))
    rescale(model, 2.0**shift, "conv_shortcut.bias", "3.conv.bias")
    rescale_eps(model, 4.0**shift, but="norm2")
    return exported(
        model,
        lambda module, latent: module(latent),
        {"latent_sample": torch.zeros(1, 4, 8, 8)},
        "sample",
        name="decoder",
    )
