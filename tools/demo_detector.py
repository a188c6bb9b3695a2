"""The demo detector: images float32 [b, 3, 128, 128] in [0, 1] → logits [b, 10, 11] and boxes [b, 10, 4] (cx, cy, w, h, px).

A conv backbone, tokens with a position encoding, a transformer encoder, object queries with cross attention: DETR, small.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

SIDE, STRIDE, WIDTH, HEADS, QUERIES, NONE = 128, 8, 64, 4, 10, 10
"""Pixels of a scene and of a cell, channels, attention heads, object queries, and the class that means no object."""
CELLS = SIDE // STRIDE
"""Cells along one side; each becomes a token."""


def wide(x: Tensor) -> Tensor:
    """`x` in FP32, as autocast does before norms, exp and sums; no Cast is exported where it already is."""
    return x if x.dtype == torch.float32 else x.float()


class Part(nn.Module):  # type: ignore[misc]
    """The one place where an untyped torch class is subclassed."""


class LayerNorm(Part):
    """Written out as exporters before opset 17 did."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias, self.eps = nn.Parameter(torch.ones(WIDTH)), nn.Parameter(torch.zeros(WIDTH)), 1e-5

    def forward(self, x: Tensor) -> Tensor:
        x = wide(x)
        centred = x - x.mean(-1, keepdim=True)
        return centred / (centred.pow(2).mean(-1, keepdim=True) + self.eps).sqrt() * self.weight + self.bias


class Attention(Part):
    def __init__(self, queries: int, keys: int) -> None:
        super().__init__()
        self.queries, self.keys = queries, keys
        self.q, self.k, self.v, self.out = (nn.Linear(WIDTH, WIDTH) for _ in range(4))

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q = (self.q(query) * (WIDTH // HEADS) ** -0.5).reshape(-1, self.queries, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)
        k = self.k(key).reshape(-1, self.keys, HEADS, WIDTH // HEADS).permute(0, 2, 3, 1)
        v = self.v(value).reshape(-1, self.keys, HEADS, WIDTH // HEADS).permute(0, 2, 1, 3)
        return self.out(((q @ k).softmax(-1) @ v).permute(0, 2, 1, 3).reshape(-1, self.queries, WIDTH))


def feed_forward() -> nn.Sequential:
    return nn.Sequential(nn.Linear(WIDTH, 2 * WIDTH), nn.ReLU(), nn.Linear(2 * WIDTH, WIDTH))


class EncoderLayer(Part):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.attn, self.ffn = LayerNorm(), LayerNorm(), Attention(CELLS**2, CELLS**2), feed_forward()

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attn(y, y, y)
        return x + self.ffn(self.norm2(x))


class Encoder(Part):
    def __init__(self) -> None:
        super().__init__()
        self.layers, self.norm = nn.ModuleList(EncoderLayer() for _ in range(2)), LayerNorm()

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


class DecoderLayer(Part):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (LayerNorm() for _ in range(3))
        self.self_attn, self.cross_attn, self.ffn = Attention(QUERIES, QUERIES), Attention(QUERIES, CELLS**2), feed_forward()

    def forward(self, x: Tensor, key: Tensor, memory: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.self_attn(y, y, y)
        x = x + self.cross_attn(self.norm2(x), key, memory)
        return x + self.ffn(self.norm3(x))


class BoxHead(Part):
    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.proj, self.norm, self.out = nn.Linear(WIDTH, WIDTH), LayerNorm(), nn.Linear(WIDTH, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.norm(self.proj(x)).relu())


class Pointer(Part):
    """Where each query looks, px: the mean of the cells' centres, weighted by a prior and by exp(score); its scale cancels in the ratio."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.q, self.k, self.out = LayerNorm(), *(nn.Linear(WIDTH, WIDTH) for _ in range(3))
        centres = (torch.arange(CELLS) + 0.5) * STRIDE
        y, x = torch.meshgrid(centres, centres, indexing="ij")
        self.register_buffer("grid", torch.stack((x, y), -1).reshape(-1, 2))
        self.register_buffer("prior", torch.full((CELLS**2,), 1.0 / CELLS**2))

    def forward(self, x: Tensor, key: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        """[b, queries, 2] and `x` with what is seen there added."""
        scores = wide((self.q(self.norm(x)) * WIDTH**-0.5) @ self.k(key).transpose(1, 2))
        mass = (scores - scores.amax(-1, keepdim=True)).exp() * self.prior
        centre = (mass.unsqueeze(-1) * self.grid).sum(-2) / mass.sum(-1, keepdim=True)
        return centre, x + self.out(scores.softmax(-1) @ memory)


class Decoder(Part):
    def __init__(self) -> None:
        super().__init__()
        self.queries, self.position = nn.Parameter(torch.randn(1, QUERIES, WIDTH)), nn.Parameter(sinusoids())
        self.layers, self.norms = nn.ModuleList(DecoderLayer() for _ in range(2)), nn.ModuleList(LayerNorm() for _ in range(2))
        self.pointer, self.size, self.refine, self.classes = Pointer(), BoxHead(2), BoxHead(4), nn.Linear(WIDTH, NONE + 1)
        self.size.out.bias.data.fill_(20.0)  # a middling digit

    def forward(self, memory: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Logits [b, queries, 11] and boxes [b, queries, 4] (cx, cy, w, h, px) after each layer; the last is the answer."""
        key = memory + self.position
        centre, x = self.pointer(self.layers[0](self.queries, key, memory), key, memory)
        y = self.norms[0](x)
        boxes = torch.cat((centre, self.size(y)), -1)
        z = self.norms[1](self.layers[1](x, key, memory))
        return [(self.classes(y), boxes), (self.classes(z), boxes + self.refine(z))]


def sinusoids() -> Tensor:
    """[cells², width]: half the channels tell x, half y."""
    angle = torch.arange(CELLS)[:, None] * 100.0 ** (-torch.arange(WIDTH // 4) / (WIDTH // 4))
    wave = torch.cat((angle.sin(), angle.cos()), -1)
    return torch.cat((wave[None].expand(CELLS, -1, -1), wave[:, None].expand(-1, CELLS, -1)), -1).reshape(CELLS**2, WIDTH)


class Detector(Part):
    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside, kernel, stride in ((3, 16, 5, 2), (16, 32, 3, 2), (32, 48, 3, 1), (48, 64, 3, 2), (64, 64, 3, 1)):
            layers += [nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(outside), nn.ReLU()]
        self.backbone, self.project = nn.Sequential(*layers), nn.Conv2d(64, WIDTH, 1)
        self.position, self.encoder, self.decoder = nn.Parameter(sinusoids()), Encoder(), Decoder()
        self.dense = nn.Linear(WIDTH, NONE + 1 + 4)

    def encode(self, images: Tensor) -> Tensor:
        return self.encoder(self.project(self.backbone(images)).flatten(2).transpose(1, 2) + self.position)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(self.encode(images))[-1]  # type: ignore[no-any-return]


def trained(path: Path = Path(__file__).parents[1] / "tests" / "demo" / "detector.onnx") -> Detector:
    """The detector that `path` was exported from, read back from it: `fp16fix locate … --module tools/demo_detector.py:trained`."""
    graph = onnx.load(path).graph
    value = {tensor.name: torch.from_numpy(numpy_helper.to_array(tensor).copy()) for tensor in graph.initializer}
    value |= {node.output[0]: torch.tensor(numpy_helper.to_array(node.attribute[0].t)) for node in graph.node if node.op_type == "Constant"}
    made_by = {name: node for node in graph.node for name in node.output}
    reader = {name: node for node in graph.node for name in node.input if name in value}
    convolutions = iter(node for node in graph.node if node.op_type == "Conv")
    model = Detector()
    model.eval()
    model.load_state_dict({name: value[name] for name in model.state_dict() if name in value}, strict=False)
    for index, part in enumerate(model.backbone):
        if isinstance(part, nn.Conv2d):  # the exporter folded each BatchNorm2d into the convolution before it
            weight, bias = (nn.Parameter(value[name]) for name in next(convolutions).input[1:])
            part.weight, part.bias, model.backbone[index + 1] = weight, bias, nn.Identity()
    for name, part in model.named_modules():
        if isinstance(part, nn.Linear) and f"{name}.bias" in value:  # `dense` serves training only
            part.weight.data = value[made_by[reader[f"{name}.bias"].input[1]].input[1]].T
        elif isinstance(part, LayerNorm):
            root = made_by[made_by[reader[f"{name}.weight"].input[0]].input[1]]
            part.eps = float(value[made_by[root.input[0]].input[1]])
    return model
