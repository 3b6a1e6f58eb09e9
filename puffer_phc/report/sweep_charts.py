"""Charts of a sweep, drawn by matplotlib into SVG."""

import math
from typing import Any, Dict, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from puffer_phc.report.charts import QUIET, styled
from puffer_phc.report.sweep_scores import Scores, brief_number

_BLUE = "#3a6ea5"
_PALE = "#c9d8e8"
_WIDE = (4.9, 3.1)
"""Inches of the charts that stand in pairs: small enough that words stay readable on a telephone."""
_TICKS = 5
"""Numbers along a short axis; more would stand in each other."""
_LOGIT_TICKS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""And one minus these."""

_ABOVE: Dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 3, "borderaxespad": 0.2}
"""Place of a legend: inside it would hide runs."""


class Axis(NamedTuple):
    """How an option is drawn: numbers on their own scale, other values by name."""

    name: str
    positions: np.ndarray
    """(R,) of the results."""
    scale: str = "linear"
    """As matplotlib calls it: linear, log or logit."""
    ends: Optional[Tuple[float, float]] = None
    """Of the range."""
    ticks: Sequence[Tuple[float, str]] = ()
    """Positions and names, where the option is no number."""
    is_whole: bool = False
    """Whether the option is a whole number."""


def front_chart(scores: Scores, cost_label: str, score_label: str) -> bytes:
    """Scores over costs of all results, a line through those of each run, and the front."""

    def draw(axes: Any) -> None:
        costs, values, rows = scores.costs, scores.scores, list(scores.front)
        for run in {run.number: run for run in scores.runs}.values():
            own = [row for row, other in enumerate(scores.runs) if other is run]
            axes.plot(costs[own], values[own], color=QUIET, alpha=0.25, linewidth=0.8)
        _dots(axes, costs, scores)
        axes.plot(costs[rows], values[rows], color=_BLUE, linewidth=1.6, drawstyle="steps-post", label="front")
        if len(costs) and float(costs.min()) > 0 and float(costs.max()) > 3 * float(costs.min()):
            _scale(axes, "log", (float(costs.min()), float(costs.max())))
        if scores.sign < 0:
            axes.invert_yaxis()
        axes.set(title="Front of score and cost", xlabel=cost_label, ylabel=score_label)
        axes.legend(**_ABOVE)

    return styled(draw, *_WIDE)


def progress_chart(scores: Scores, score_label: str) -> bytes:
    """The last score of every run by the run's number, and the best so far."""

    def draw(axes: Any) -> None:
        numbers, values = np.array([run.number for run in scores.runs], dtype=int)[scores.is_last], scores.scores[scores.is_last]
        axes.scatter(numbers, values, s=16, color=QUIET, alpha=0.6, linewidth=0, label="runs")
        best = scores.sign * np.fmax.accumulate(scores.sign * values)
        axes.plot(numbers, best, color=_BLUE, linewidth=1.6, drawstyle="steps-post", label="best so far")
        axes.xaxis.get_major_locator().set_params(integer=True)
        if scores.sign < 0:
            axes.invert_yaxis()
        axes.set(title="In the order of the runs", xlabel="run", ylabel=score_label)
        axes.legend(**_ABOVE)

    return styled(draw, *_WIDE)


def importance_chart(shares: Dict[str, Tuple[float, float]]) -> bytes:
    """By option: the share of the score's variance that it explains alone, and with all its interactions."""

    def draw(axes: Any) -> None:
        names = sorted(shares, key=lambda name: shares[name][1])
        places = np.arange(len(names))
        axes.barh(places, [100 * shares[name][1] for name in names], color=_PALE, label="with interactions")
        axes.barh(places, [100 * shares[name][0] for name in names], height=0.45, color=_BLUE, label="alone")
        axes.set_yticks(places, names)
        axes.set(title="What the score depends on", xlabel="% of its variance over the ranges, by the model", xlim=(0, 100))
        axes.legend(loc="lower right")

    return styled(draw, _WIDE[0], max(1.8, 0.32 * len(shares) + 1.1))


def option_chart(axis: Axis, scores: Scores, score_label: str) -> bytes:
    """All scores over one option, which lies between dotted lines; those of the front in colour."""

    def draw(axes: Any) -> None:
        for end in axis.ends or ():
            axes.axvline(end, color=QUIET, linewidth=0.8, linestyle=":")
        _dots(axes, axis.positions, scores)
        if axis.ends is not None and axis.scale != "linear":
            _scale(axes, axis.scale, (min(axis.ends[0], *axis.positions), max(axis.ends[1], *axis.positions)))
        if axis.ticks:
            axes.set_xticks(*zip(*axis.ticks))
        elif axis.scale == "linear":
            axes.xaxis.get_major_locator().set_params(integer=axis.is_whole, nbins=_TICKS)
        if scores.sign < 0:
            axes.invert_yaxis()
        axes.set(xlabel=axis.name, ylabel=score_label)

    return styled(draw, 3.6, 2.5)


def _dots(axes: Any, places: np.ndarray, scores: Scores) -> None:
    """A dot for each result at ``places`` (R,): of the front, at a run's end, on the way."""
    is_front = np.zeros(len(places), dtype=bool)
    is_front[scores.front] = True
    for chosen, size, colour, label in (
        (~is_front & ~scores.is_last, 8, _PALE, "on the way"),
        (~is_front & scores.is_last, 18, "#9aa3ad", "runs"),
        (is_front, 26, _BLUE, None),
    ):
        if chosen.any():
            axes.scatter(places[chosen], scores.scores[chosen], s=size, color=colour, linewidth=0, label=label, zorder=3)


def _scale(axes: Any, scale: str, ends: Tuple[float, float]) -> None:
    """A logarithmic or logit x axis with a few plain numbers."""
    axes.set_xscale(scale)
    ticks = scale_ticks(scale, *ends)
    axes.set_xticks(ticks, [brief_number(int(tick) if tick >= 1 and tick == int(tick) else tick) for tick in ticks])
    axes.set_xticks([], minor=True)


def scale_ticks(scale: str, low: float, high: float) -> Sequence[float]:
    """At most ``_TICKS`` round numbers from ``low`` to ``high``; the two themselves where no two round ones lie between them."""
    if scale == "log":
        decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
        candidates = [[float(f"{digit}e{decade}") for decade in decades for digit in digits] for digits in ((1, 2, 5), (1, 3), (1,))]
    else:
        candidates = [[*_LOGIT_TICKS, *(round(1.0 - tick, 3) for tick in reversed(_LOGIT_TICKS[:-1]))]]
    inside = [[tick for tick in ticks if low <= tick <= high] for ticks in candidates]
    fitting = next((ticks for ticks in inside if len(ticks) <= _TICKS), inside[-1])
    return [low, high] if len(fitting) < 2 else fitting[:: math.ceil(len(fitting) / _TICKS)]
