"""What a run has scored so far, read from the metrics file that it writes."""

import json
import math
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Tuple

METRICS = {
    "eval/survival_strict": "maximize",
    "eval/success_rate": "maximize",
    "eval/success_rate_relaxed": "maximize",
    "eval/success_rate_strict": "maximize",
    "eval/mpjpe_all": "minimize",
    "eval/mpjpe_succ": "minimize",
    "eval/mpjpe_pa": "minimize",
    "eval/mpjpel_all": "minimize",
    "eval/mpjpel_succ": "minimize",
    "eval/accel_dist": "minimize",
    "eval/vel_dist": "minimize",
}
"""Figures of an evaluation, and which way they are better."""

_UPTIME = "performance/uptime"


class Point(NamedTuple):
    """One evaluation of a run."""

    step: int
    """Environment steps before it."""
    value: float
    """Of the metric."""
    seconds: float
    """Of training before it, as if the first iteration, which starts up and compiles, had taken as long as the others."""


def read_points(path: Path, metric: str) -> List[Point]:
    """The evaluations in a run's metrics file, in order; those whose metric is not finite, and a line under way, are left out."""
    points: List[Point] = []
    times: List[Tuple[int, float]] = []
    for line in _lines(path):
        if line.get(_UPTIME) is not None:
            times.append((int(line["step"]), float(line[_UPTIME])))
        value = line.get(metric)
        if value is not None and math.isfinite(value):
            points.append(Point(int(line["step"]), float(value), _seconds(times)))
    return points


def _seconds(times: List[Tuple[int, float]]) -> float:
    """Training time until the last of ``times`` (steps, s since the start), whose first is when the first iteration ended."""
    if not times:
        return 0.0
    (first_step, first), (step, last) = times[0], times[-1]
    return (last - first) * step / (step - first_step) if step > first_step else last


def _lines(path: Path) -> List[Dict[str, Any]]:
    try:
        content = path.read_bytes()
    except OSError:
        return []
    lines = []
    for line in content.splitlines(keepends=True):
        if line.endswith(b"\n"):
            try:
                lines.append(json.loads(line))
            except ValueError:
                continue
    return lines
