"""An outcome and its model → the delivered graph again, on disk."""

from __future__ import annotations

from pathlib import Path

from fp16fix.config import Config
from fp16fix.graph.save import save_model
from fp16fix.passes.evidence import equip
from fp16fix.process.memory import seldom_collected
from fp16fix.report import outcome as outcomes
from fp16fix.report.outcome import Outcome
from fp16fix.report.replay import replay as replayed


@seldom_collected()
def replay(outcome: Outcome | Path | str, output: Path | str, model: Path | str | None = None, config: Config | None = None) -> Path:
    """Write the typed graph that a repair delivered, byte for byte, from its recipe and the model alone.

    Args:
        outcome: of the repair, or the path of its ``x.outcome.json``.
        output: where the graph goes, whole or not at all.
        model: the file that was repaired, if it has moved.
        config: of which kernels and stand-ins of custom operators are taken, without which such a model does not load.

    Returns:
        ``output``.

    Raises:
        ModelError: the model is not there.
        ReplayError: no outcome, another model, or one that loads differently than it did.
        InputError: ``output`` cannot be written.
    """
    equip(config or Config())
    found = outcome if isinstance(outcome, Outcome) else outcomes.load(Path(outcome))
    save_model(replayed(found, None if model is None else Path(model)), Path(output))
    return Path(output)
