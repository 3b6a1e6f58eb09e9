"""What runs say to a search, and which of them are so bad that they need not go on."""

import math
from typing import List, Optional, Sequence

import numpy as np

from puffer_phc.sweep.journal import FAILED, Run
from puffer_phc.sweep.protocol import Observation, Params
from puffer_phc.sweep.scores import Point

STEPS = "train.total_timesteps"
"""The option that says how long a run is: an evaluation in the middle of a run is the result of one that ends there."""

MIN_COMPARED = 4
"""Runs that have to have come as far before one is stopped for being worse."""


def observations_of(run: Run, sign: float, total_steps: Optional[int] = None) -> List[Observation]:
    """The results of ``run`` so far; scores are ``sign`` times the metric, so that more is better.

    Where the length of runs is swept, each evaluation is one. Otherwise there is one when the run is over; where it was stopped before
    ``total_steps``, its cost is what the whole run would have cost.
    """
    observations = []
    if STEPS in run.params:
        observations += [Observation(params_at(run, point), sign * point.value, point.seconds) for point in counted_points(run)]
    elif run.is_over and run.outcome != FAILED and run.points:
        last = run.points[-1]
        factor = max(total_steps / last.step, 1.0) if total_steps and last.step > 0 else 1.0
        observations.append(Observation(run.params, sign * last.value, factor * last.seconds))
    if run.is_over and (run.outcome == FAILED or not run.points):
        observations.append(Observation(run.params, math.nan, math.nan, failed=True))
    return observations


def counted_points(run: Run) -> List[Point]:
    """The evaluations of ``run`` that are results: the last one, or all where the length of runs is swept."""
    return run.points if STEPS in run.params else run.points[-1:]


def params_at(run: Run, point: Point) -> Params:
    """The options of the run that ``point``, an evaluation of ``run``, is the result of."""
    return {**run.params, STEPS: point.step} if STEPS in run.params and point.step < run.params[STEPS] else run.params


def final_point(run: Run) -> Optional[Point]:
    """The last evaluation of ``run``: what tables show."""
    return run.points[-1] if run.points else None


def is_bad(run: Run, others: Sequence[Run], sign: float, share: float) -> bool:
    """Whether the best of ``run`` so far is among the worst ``share`` of what ``others`` had reached for the same cost."""
    last = final_point(run)
    if share <= 0.0 or last is None:
        return False
    reached = [_best_until(other, last.seconds, sign) for other in others if other is not run and _came_to(other, last.seconds)]
    known = [value for value in reached if math.isfinite(value)]
    if len(known) < MIN_COMPARED:
        return False
    return _best_until(run, last.seconds, sign) < float(np.quantile(known, share))


def _came_to(run: Run, seconds: float) -> bool:
    return bool(run.points) and run.points[-1].seconds >= seconds


def _best_until(run: Run, seconds: float, sign: float) -> float:
    return max((sign * point.value for point in run.points if point.seconds <= seconds), default=-math.inf)
