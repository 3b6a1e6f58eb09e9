"""Charts of a sweep, drawn by matplotlib into SVG."""

from typing import Any, Dict, NamedTuple, Sequence, Tuple

import numpy as np

from puffer_phc.report.charts import QUIET, styled

_BLUE = "#3a6ea5"


class Axis(NamedTuple):
    """How an option is drawn: numbers on their own scale, other values by name."""

    name: str
    positions: np.ndarray
    """(R,) of the runs."""
    is_logarithmic: bool
    ticks: Sequence[Tuple[float, str]] = ()
    """Positions and names, where the option is no number."""


_ABOVE: Dict[str, Any] = {"loc": "lower right", "bbox_to_anchor": (1.0, 1.0), "ncols": 2, "borderaxespad": 0.2}
"""Place of a legend: inside it would hide runs."""


def front_chart(
    costs: np.ndarray, scores: np.ndarray, front: Sequence[int], cost_label: str, score_label: str, is_less_better: bool
) -> bytes:
    """Scores (R,) over costs (R,) of all runs; ``front`` has the rows that no cheaper run was as good as, in order of cost."""

    def draw(axes: Any) -> None:
        rows = list(front)
        axes.scatter(costs, scores, s=18, color=QUIET, alpha=0.55, linewidth=0, label="runs")
        axes.plot(costs[rows], scores[rows], color=_BLUE, linewidth=1.6, drawstyle="steps-post", label="front")
        axes.scatter(costs[rows], scores[rows], s=26, color=_BLUE, linewidth=0)
        if len(costs) and float(costs.min()) > 0 and float(costs.max()) > 3 * float(costs.min()):
            axes.set_xscale("log")
        if is_less_better:
            axes.invert_yaxis()
        axes.set(title="Front of score and cost", xlabel=cost_label, ylabel=score_label)
        axes.legend(**_ABOVE)

    return styled(draw, 6.2, 3.6)


def progress_chart(scores: np.ndarray, score_label: str, is_less_better: bool) -> bytes:
    """Scores (R,) in the order of the runs, NaN for those without one, and the best so far."""

    def draw(axes: Any) -> None:
        numbers = np.arange(len(scores))
        axes.scatter(numbers, scores, s=16, color=QUIET, alpha=0.6, linewidth=0, label="runs")
        best = np.fmin.accumulate(scores) if is_less_better else np.fmax.accumulate(scores)
        axes.plot(numbers, best, color=_BLUE, linewidth=1.6, drawstyle="steps-post", label="best so far")
        if is_less_better:
            axes.invert_yaxis()
        axes.set(title="In the order of the runs", xlabel="run", ylabel=score_label)
        axes.legend(**_ABOVE)

    return styled(draw, 6.2, 3.6)


def importance_chart(shares: Dict[str, Tuple[float, float]]) -> bytes:
    """By option: the share of the score's variance that it explains alone, and with all its interactions."""

    def draw(axes: Any) -> None:
        names = sorted(shares, key=lambda name: shares[name][1])
        places = np.arange(len(names))
        axes.barh(places, [100 * shares[name][1] for name in names], color="#c9d8e8", label="with interactions")
        axes.barh(places, [100 * shares[name][0] for name in names], height=0.45, color=_BLUE, label="alone")
        axes.set_yticks(places, names)
        axes.set(title="What the score depends on", xlabel="% of its variance over the ranges, by the model", xlim=(0, 100))
        axes.legend(**_ABOVE)

    return styled(draw, 6.2, max(1.6, 0.32 * len(shares) + 1.1))


def option_chart(axis: Axis, scores: np.ndarray, front: Sequence[int], score_label: str, is_less_better: bool) -> bytes:
    """Scores (R,) over one option; runs of the ``front`` in colour."""

    def draw(axes: Any) -> None:
        rows = list(front)
        axes.scatter(axis.positions, scores, s=16, color=QUIET, alpha=0.55, linewidth=0)
        axes.scatter(axis.positions[rows], scores[rows], s=24, color=_BLUE, linewidth=0)
        if axis.is_logarithmic:
            axes.set_xscale("log")
        if axis.ticks:
            places, names = zip(*axis.ticks)
            axes.set_xticks(places, names)
        if is_less_better:
            axes.invert_yaxis()
        axes.set(xlabel=axis.name, ylabel=score_label)

    return styled(draw, 3.6, 2.5)
