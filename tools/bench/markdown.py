"""Rows of both sides → the page ``notes/ill-table.md``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib import metadata

from tools.bench.autocast import AutoCast
from tools.bench.row import Row

HEAD = """# Every ill model, repaired

Made by `python -m tools.bench.ill_table --env CACHE_DIR` with {versions}.

Every model of `tests/ill` goes through `fp16fix.tasks.repair.repair` as a file with a folder of samples, half of which calibrate. What
comes out is loaded again and judged by the strict emulator on **all** samples and on the inputs kept outside them on purpose (a fully
masked row, a longer sequence, values four times larger), against the FP32 model as it was given; right means at least 50 dB on every
output, no new NaN or infinity, and equal integers. NVIDIA ModelOpt AutoCast 0.47 calibrates on the same files and is judged the same
way; its process runs in an environment of its own.

- *plain FP16*, *strict*, *pessimistic*: SQNR of the worst output in dB; **bold** is wrong. The pessimistic profile holds sums inside
  operators in FP16, which no engine does by default: information, not a gate.
- *FP32*: FP32 nodes (+ BF16 nodes, which the totals count alike) / float nodes, Casts not counted; *own* are those that the
  model's author placed.
- *Muls*: by powers of two that exponents added, inside the graph + at FP32 inputs and outputs.
- *head-room*: least octaves to 65504 over all FP16 tensors, before → after; tensors whose overflow is proven harmless are left out.
- *FP32 moved*: largest |repaired − original| of the two FP32 graphs over the range of its output, on the samples; `=` is bit for bit.
"""
WALLS = """Softmax and its like read values at their true scale, so no exponent makes room there: what a product of Q and K may still
grow by is up to the model. A mask's literal does not grow with the input."""
"""Why some rows cannot have what was asked for."""
COLUMNS = (
    "model",
    "classes",
    "plain FP16",
    "strict",
    "pessimistic",
    "FP32",
    "casts",
    "Muls",
    "head-room",
    "FP32 moved",
    "rules",
    "AutoCast FP32",
    "AutoCast dB",
)


def page(rows: Sequence[Row], peers: Mapping[str, AutoCast]) -> str:
    """The whole note."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    lines += ["| " + " | ".join(cells(each, peers.get(each.subject.name))) + " |" for each in rows]
    return "\n".join([HEAD.format(versions=versions()), *lines, "", *totals(rows, peers), *complaints(rows, peers)]) + "\n"


def versions() -> str:
    """Of what the figures depend on."""
    return ", ".join(f"{name} {metadata.version(name)}" for name in ("onnx", "onnxruntime", "onnxsim", "scipy", "numpy"))


def cells(each: Row, peer: AutoCast | None) -> tuple[str, ...]:
    """One line of the table."""
    subject = each.subject
    return (
        subject.name,
        ", ".join(map(str, subject.classes)),
        score(each.plain.db, each.plain.nonfinite, each.plain.right),
        score(each.strict.db, each.strict.nonfinite, each.strict.right),
        score(each.pessimistic.db, each.pessimistic.nonfinite, each.pessimistic.right),
        f"{wide(each)} / {each.float_nodes}",
        str(each.casts),
        f"{each.run_muls} + {each.border_muls}",
        f"{octaves(each.headroom[0])} → {octaves(each.headroom[1])}",
        "=" if each.equivalence == 0.0 else f"{each.equivalence:.0e}",
        ", ".join(each.rules) or "–",
        "" if peer is None else "crash" if peer.error else f"{peer.fp32_nodes} / {peer.float_nodes}",
        "" if peer is None else "–" if peer.error else score(peer.db, peer.nonfinite, peer.right),
    )


def wide(each: Row) -> str:
    """``3``, ``0 + 2 BF16``, ``16 (own)``."""
    bf16 = f" + {each.bf16_nodes} BF16" if each.bf16_nodes else ""
    own = f" ({'' if each.ours == 0 else f'{each.placed} '}own)" if each.placed else ""
    return f"{each.fp32_nodes}{bf16}{own}"


def score(db: float, nonfinite: int, right: bool) -> str:
    """``61.8``, ``NaN/inf``; bold if wrong."""
    words = "NaN/inf" if nonfinite else "lost" if db == -math.inf else "equal" if db == math.inf else f"{db:.1f}".replace("-", "−")
    return words if right else f"**{words}**"


def octaves(value: float) -> str:
    """One digit after the point; a dash where no FP16 tensor is left."""
    return "–" if math.isinf(value) else f"{value:.1f}".replace("-", "−")


def totals(rows: Sequence[Row], peers: Mapping[str, AutoCast]) -> list[str]:
    """What the promises are about."""
    free = [each for each in rows if each.subject.free]
    harmless = [each for each in rows if each.subject.harmless]
    mixed = [each for each in rows if each.subject.mixed]
    rest = [each for each in rows if not (each.subject.free or each.subject.harmless or each.subject.mixed)]
    moved = max((each.equivalence for each in rows), default=0.0)
    same = sum(each.equivalence == 0.0 for each in rows)
    return [
        "## Totals",
        "",
        f"- right: {sum(each.strict.right for each in rows)} of {len(rows)} rows; plain FP16 {sum(each.plain.right for each in rows)}"
        + (f"; AutoCast {sum(peer.right for peer in peers.values())}" if peers else ""),
        f"- wide nodes on the {len(free)} rows of classes 3, 4, 5, 7, 10, 11 and 16: {ours(free)} of {nodes(free)}" + against(free, peers),
        f"- wide nodes on the {len(rest)} other ill rows: {ours(rest)} of {nodes(rest)}" + against(rest, peers),
        f"- pinned on the {len(harmless)} harmless rows: {ours(harmless)} of {nodes(harmless)} nodes" + against(harmless, peers),
        f"- on the {len(mixed)} rows that arrive mixed: {ours(mixed)} wide nodes beside the {placed(mixed)} that their authors placed"
        + against(mixed, peers),
        f"- FP32 function moved by at most {moved:.0e} of an output's range; bit for bit the same on {same} rows",
        f"- right under the pessimistic profile too: {sum(each.pessimistic.right for each in rows)} rows",
        "",
    ]


def ours(rows: Sequence[Row]) -> int:
    """Wide nodes that we decided on."""
    return sum(each.ours for each in rows)


def placed(rows: Sequence[Row]) -> int:
    """Wide nodes that authors decided on, and that stay."""
    return sum(each.placed for each in rows)


def nodes(rows: Sequence[Row]) -> int:
    """Float nodes."""
    return sum(each.float_nodes for each in rows)


def against(rows: Sequence[Row], peers: Mapping[str, AutoCast]) -> str:
    """AutoCast's FP32 nodes on the rows on which it ends with a model, and ours on the same."""
    both = [each for each in rows if each.subject.name in peers and not peers[each.subject.name].error]
    if not both:
        return ""
    theirs = sum(peers[each.subject.name].fp32_nodes for each in both)
    share = f", {ours(both) / theirs:.0%}" if theirs else ""
    return f"; where AutoCast gives a model ({len(both)}): {ours(both)} against its {theirs}{share}"


def complaints(rows: Sequence[Row], peers: Mapping[str, AutoCast]) -> list[str]:
    """Rows that do not keep a promise, thin head-room, and what became of AutoCast."""
    lines = [f"- {each.subject.name}: {'; '.join(each.faults)}" for each in rows if each.faults]
    found = ["## Rows that do not keep a promise", "", *(lines or ["None."]), ""]
    wanted = [each for each in rows if each.headroom[1] < each.outcome.headroom]
    found += ["## Less head-room than asked for", ""]
    found += [f"{WALLS}\n"] if wanted else []
    found += [f"- {each.subject.name}: {octaves(each.headroom[1])} of {each.outcome.headroom:g} octaves" for each in wanted] or ["None."]
    crashed = [f"- {name}: `{peer.error}`" for name, peer in sorted(peers.items()) if peer.error]
    if crashed:
        found += ["", "## Where AutoCast ends without a model that runs", "", *crashed]
    return found
