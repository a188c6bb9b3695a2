"""CPU-seconds of stages → one stacked bar a model, as SVG."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO

LEAST = 0.02
"""Share of a model's time below which a stage is drawn with the rest."""


def drawn(seconds: Mapping[str, Mapping[str, float]]) -> str:
    """The picture; each bar is the whole of its model's time, which stands behind its name."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(stage for each in seconds.values() for stage in each))
    figure, axes = plt.subplots(figsize=(9, 0.45 * len(seconds) + 1.6), layout="constrained")
    totals = {model: sum(each.values()) or 1.0 for model, each in seconds.items()}
    labels, left = [f"{model} ({total:.0f} s)" for model, total in totals.items()], dict.fromkeys(seconds, 0.0)
    kept = [name for name in names if any(each.get(name, 0.0) > LEAST * totals[model] for model, each in seconds.items())]
    for index, name in enumerate([*kept, "other"]):
        shares = [
            (each.get(name, 0.0) if name != "other" else sum(value for stage, value in each.items() if stage not in kept)) / totals[model]
            for model, each in seconds.items()
        ]
        axes.barh(labels, shares, left=list(left.values()), label=name, color=plt.get_cmap("tab20")(index % 20))
        left = {model: before + share for (model, before), share in zip(left.items(), shares, strict=True)}
    axes.invert_yaxis()
    axes.set_xlabel("share of CPU-seconds")
    axes.legend(fontsize=7, ncols=3, loc="upper center", bbox_to_anchor=(0.4, -0.12))
    out = StringIO()
    figure.savefig(out, format="svg")
    plt.close(figure)
    return out.getvalue()
