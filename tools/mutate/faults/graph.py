"""What is delivered: types, casts, saved graphs."""

from __future__ import annotations

from tools.mutate.fault import Fault

LOWER = "graph/lower.py"
OF_LOWER = ("tests/passes/test_lower.py",)

FAULTS = (
    Fault(
        "pins-not-typed",
        LOWER,
        'self.wide.get(node.name, "fp16")',
        '"fp16"',
        OF_LOWER,
        "an island is in the recipe and not in the graph",
    ),
    Fault(
        "clip-at-infinity",
        LOWER,
        "clipped(self.edit, tensor, FP16.largest,",
        "clipped(self.edit, tensor, FP32.largest,",
        OF_LOWER,
        "what leaves an island is clipped where FP16 has no numbers",
    ),
    Fault(
        "old-clip-without-bounds",
        "graph/lone.py",
        '{"min": -bound, "max": bound}',
        "{}",
        OF_LOWER,
        "before opset 11 what leaves an island is not clipped",
    ),
    Fault(
        "interface-ignored",
        LOWER,
        "return asked if asked is not None else ",
        "return ",
        OF_LOWER,
        "--io does nothing",
    ),
    Fault(
        "no-fp16-form-ignored",
        LOWER,
        "return wanted if runs_in(node, wanted.onnx, self.model.opset) else FP32",
        "return wanted",
        OF_LOWER,
        "a graph is delivered that no parser takes",
    ),
    Fault(
        "border-counted-as-fp32",
        LOWER,
        "        elif node.name in model.border:\n",
        "        elif False:\n",
        OF_LOWER,
        "the outcome counts FP32 nodes that are none",
    ),
    Fault(
        "replay-of-another-file",
        "report/replay.py",
        "    if loaded.digest != facts.digest:\n",
        "    if False:\n",
        ("tests/report/test_replay.py",),
        "a recipe is replayed on another model",
    ),
    Fault(
        "pins-unguarded",
        LOWER,
        "    guard(typed)\n",
        "",
        ("tests/strict/test_compiled.py",),
        "a compiler rounds the weights of pinned products to FP16",
    ),
    Fault(
        "guard-changes-values",
        "graph/lone.py",
        "BEYOND = 2.0**17",
        "BEYOND = 2.0**10",
        ("tests/strict/test_compiled.py",),
        "the guard clips what FP16 holds",
    ),
    Fault(
        "any-reader-is-a-cast",
        "graph/lone.py",
        "    if id(tensor) in kept or not tensor.outputs:\n",
        "    if not tensor.outputs:\n",
        ("tests/strict/test_compiled.py",),
        "a product that leaves in FP32 is thought narrow",
    ),
    Fault(
        "broken-optimiser-believed",
        "graph/session.py",
        "[*disabled, BREAKING], filed=True)",
        "disabled, filed=True)",
        ("tests/graph/test_session.py",),
        "a sound candidate ends the repair, for ONNX Runtime breaks it",
    ),
    Fault(
        "table-read-by-others-shared",
        "graph/session.py",
        "found -= {*node.input[looks_up:], ",
        "found -= {*(), ",
        ("tests/graph/test_session.py",),
        "an optimiser reads zeros where a weight is",
    ),
    Fault(
        "weights-of-branches-nowhere",
        "graph/session.py",
        "    if not shared and not filed:\n",
        "    if not shared:\n",
        ("tests/graph/test_session.py",),
        "a model whose branch looks into a table is refused",
    ),
    Fault(
        "magnitude-by-a-copy",
        "graph/model.py",
        "return float(np.maximum(float(values.max()), -float(values.min()))) if values.size else 0.0",
        "return float(np.max(np.abs(values), initial=0.0))",
        ("tests/graph/test_session.py",),
        "a repair takes the memory of another table",
    ),
)
