"""Ranges before and after a repair → SVG, one for light pages and one for dark ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from typing import TYPE_CHECKING, Any

from fp16fix.report.chart import WIDTH
from fp16fix.report.outcome import Outcome
from fp16fix.report.view import charts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from fp16fix.report.chart import Picture, Tick


@dataclass(frozen=True, slots=True)
class Scheme:
    """Colours, as the tool's own pages have them."""

    ink: str
    soft: str
    held: str
    """Between FP16's limits."""
    tones: Mapping[str, str]
    """By ``chart.TONES``; what is harmless is an outline in ``soft``."""


SCHEMES = {
    "light": Scheme(
        "#1c2126", "#5c6670", "#e4f3ea", {"fits": "#86a5c1", "wide": "#33648f", "coarse": "#7b4fa0", "small": "#8a5a00", "over": "#b3261e"}
    ),
    "dark": Scheme(
        "#e6e8ea", "#9aa5af", "#17301f", {"fits": "#6488a6", "wide": "#8fbbe0", "coarse": "#c39be6", "small": "#f2c063", "over": "#ff8a80"}
    ),
}
WORDS = {"fits": "fits", "harmless": "harmless", "wide": "kept wide", "coarse": "too coarse", "small": "too small", "over": "overflows"}
"""Tones as the tool's own legend has them, in fewer letters."""


def drawn(outcome: Outcome, scheme: str) -> str:
    """The picture: both graphs on one axis, bars in the tones of the tool's own chart. The same bytes for the same outcome."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt
    from matplotlib.patches import Patch

    found, colours = charts(outcome), SCHEMES[scheme]
    with plt.rc_context({"svg.hashsalt": "fp16fix", "font.size": 9, "text.color": colours.ink}):
        figure, pair = plt.subplots(2, figsize=(4.2, 4.2), layout="constrained")
        for axes, picture, title in zip(pair, (found.before, found.after), ("as given", "repaired"), strict=True):
            panel(axes, picture, found.ticks, colours)
            axes.set_title(title, loc="left", color=colours.ink, fontsize=10)
        seen = {bar.tone for picture in (found.before, found.after) for bar in picture.bars}
        handles = [Patch(**paint(tone, colours), label=word) for tone, word in WORDS.items() if tone in seen]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, labelcolor=colours.ink)
        out = StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None})
        plt.close(figure)
    return out.getvalue()


def panel(axes: Axes, picture: Picture, ticks: tuple[Tick, ...], colours: Scheme) -> None:
    """Bars of one graph; y runs from 0, the top, to 100."""
    axes.axhspan(ticks[0].y, ticks[2].y, color=colours.held, zorder=0)
    for tick in ticks:
        axes.axhline(tick.y, color=colours.soft, linewidth=0.8, linestyle="--" if tick.limit else ":", zorder=1)
    for bar in picture.bars:
        middle, style = bar.x + bar.width / 2, paint(bar.tone, colours)
        if bar.whisker > bar.top + bar.height:
            axes.bar(middle, bar.whisker - bar.top - bar.height, bar.width / 5, bottom=bar.top + bar.height, alpha=0.6, zorder=2, **style)
        axes.bar(middle, bar.height, bar.width, bottom=bar.top, zorder=3, **style)
    axes.set(xlim=(0, WIDTH), ylim=(100, 0), xticks=[], yticks=[tick.y for tick in ticks], yticklabels=[tick.label for tick in ticks])
    axes.tick_params(length=0, labelcolor=colours.soft)
    axes.set_frame_on(False)


def paint(tone: str, colours: Scheme) -> dict[str, Any]:
    """How a bar of that tone is filled and edged."""
    if tone == "harmless":
        return {"facecolor": "none", "edgecolor": colours.soft, "linestyle": "--"}
    return {"facecolor": colours.tones[tone], "edgecolor": "none"}
