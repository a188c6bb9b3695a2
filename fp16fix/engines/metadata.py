"""A layer's metadata → the ONNX nodes it came from."""

from __future__ import annotations

import re

OWNER = re.compile(r"\[ONNX Layer: (.*?)\](?=\[ONNX Layer: |[\x1e\x1f\s,;+]*\[ONNX Layer: |[\x1e\x1f\s]*$)")
"""One owner in a layer's metadata; fused engine layers carry several, separated by control characters."""


def owners(metadata: str) -> tuple[str, ...]:
    """ONNX nodes named in a layer's metadata.

    ``[ONNX Layer: node]``; inside If, Loop, Scan or a function ``[ONNX Layer: node | body (branch) | parent (If)]``, of which the
    innermost node is the owner. A text cut off at TensorRT's 4000 characters still gives its complete entries.
    """
    found = dict.fromkeys(text.split(" | ", 1)[0] for text in OWNER.findall(metadata))
    return tuple(found)
