"""A diffusion U-Net with random weights: residual blocks with GroupNorms, attention at the lower levels, a time embedding."""

from __future__ import annotations

from typing import Any

import numpy as np

SEED, GROUPS, TEXT = 11, 8, 64
WIDTHS = (32, 64, 96)
BLOCKS = 9
"""Residual blocks a level on the way down, and one more on the way up; two GroupNorms each."""
ATTENDED = {1: 6, 2: 6}
"""By level, how many blocks either way have attention behind them, with a GroupNorm of its own."""


def unet() -> Any:
    """Latent [1, 4, 32, 32], timestep [1], text [1, 16, 64] in; noise [1, 4, 32, 32] out; 139 InstanceNormalizations once exported."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Residual(nn.Module):  # type: ignore[misc]  # torch is not followed
        def __init__(self, inside: int, width: int) -> None:
            super().__init__()
            self.norms = nn.ModuleList([nn.GroupNorm(GROUPS, inside), nn.GroupNorm(GROUPS, width)])
            self.convs = nn.ModuleList([nn.Conv2d(inside, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)])
            self.time = nn.Linear(128, width)
            self.skip = nn.Conv2d(inside, width, 1) if inside != width else nn.Identity()

        def forward(self, x: Any, time: Any) -> Any:
            h = self.convs[0](functional.silu(self.norms[0](x))) + self.time(functional.silu(time))[:, :, None, None]
            return self.skip(x) + self.convs[1](functional.silu(self.norms[1](h)))

    class Attention(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int, text: int) -> None:
            super().__init__()
            self.q, self.k, self.v, self.out = (nn.Linear(size, width) for size in (width, text, text, width))

        def forward(self, x: Any, text: Any) -> Any:
            q, k, v = self.q(x), self.k(text), self.v(text)
            return self.out(torch.softmax(q @ k.transpose(1, 2) * q.shape[-1] ** -0.5, -1) @ v)

    class Transformer(nn.Module):  # type: ignore[misc]
        def __init__(self, width: int) -> None:
            super().__init__()
            self.norm = nn.GroupNorm(GROUPS, width)
            self.layers = nn.ModuleList([nn.LayerNorm(width) for _ in range(3)])
            self.own, self.cross = Attention(width, width), Attention(width, TEXT)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Any, text: Any) -> Any:
            tokens = self.norm(x).flatten(2).transpose(1, 2)
            normed = self.layers[0](tokens)
            tokens = tokens + self.own(normed, normed)
            tokens = tokens + self.cross(self.layers[1](tokens), text)
            tokens = tokens + self.down(functional.gelu(self.up(self.layers[2](tokens))))
            return x + tokens.transpose(1, 2).reshape(x.shape)

    class UNet(nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.time = nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, 128))
            self.enter, self.leave = nn.Conv2d(4, WIDTHS[0], 3, padding=1), nn.Conv2d(WIDTHS[0], 4, 3, padding=1)
            self.last = nn.GroupNorm(GROUPS, WIDTHS[0])
            self.down, self.up, self.shrink, self.grow = (nn.ModuleList() for _ in range(4))
            for level, width in enumerate(WIDTHS):
                before = WIDTHS[max(level - 1, 0)]
                self.down.append(self.level(before, width, level, BLOCKS))
                self.shrink.append(nn.Conv2d(width, width, 3, stride=2, padding=1) if width != WIDTHS[-1] else nn.Identity())
                self.up.append(self.level(2 * width, width, level, BLOCKS + 1))
                self.grow.append(nn.Conv2d(width, before, 3, padding=1))

        def level(self, inside: int, width: int, level: int, blocks: int) -> Any:
            made = nn.ModuleList()
            for block in range(blocks):
                made.append(Residual(inside if block == 0 else width, width))
                if block < ATTENDED.get(level, 0):
                    made.append(Transformer(width))
            return made

        def forward(self, latent: Any, timestep: Any, text: Any) -> Any:
            rates = torch.exp(-torch.arange(32) * 0.29)
            angles = timestep[:, None] * rates[None]
            time = self.time(torch.cat([angles.sin(), angles.cos()], 1))
            x, kept = self.enter(latent), []
            for blocks, shrink in zip(self.down, self.shrink, strict=True):
                x = through(blocks, x, time, text)
                kept.append(x)
                x = shrink(x)
            for level in reversed(range(len(WIDTHS))):
                if level < len(WIDTHS) - 1:
                    x = functional.interpolate(x, scale_factor=2.0)
                x = through(self.up[level], torch.cat([x, kept[level]], 1), time, text)
                x = self.grow[level](x)
            return self.leave(functional.silu(self.last(x)))

    def through(blocks: Any, x: Any, time: Any, text: Any) -> Any:
        for each in blocks:
            x = each(x, time) if isinstance(each, Residual) else each(x, text)
        return x

    torch.manual_seed(SEED)
    return UNet().eval()


def feeds(generator: np.random.Generator) -> dict[str, np.ndarray]:
    """One step of a diffusion."""
    return {
        "latent": generator.standard_normal((1, 4, 32, 32)).astype(np.float32),
        "timestep": generator.uniform(0, 999, 1).astype(np.float32),
        "text": generator.standard_normal((1, 16, TEXT)).astype(np.float32),
    }
