"""What a sweep has found: the front of score and cost, and what the score depends on."""

import math
from typing import Dict, List, Sequence, Tuple

import torch
from torch import Tensor

from puffer_phc.sweep.gaussian_process import Bend, GaussianProcess, fitted
from puffer_phc.sweep.protocol import Observation
from puffer_phc.sweep.space import Space

MIN_OBSERVATIONS = 8
"""Fewer say nothing about importance."""

_SAMPLES = 1024


def front_rows(costs: Sequence[float], scores: Sequence[float]) -> List[int]:
    """Rows that no cheaper one is as good as, in order of cost; those that are not finite are left out."""
    usable = [row for row in range(len(costs)) if math.isfinite(costs[row]) and math.isfinite(scores[row])]
    rows: List[int] = []
    for row in sorted(usable, key=lambda row: (costs[row], -scores[row])):
        if not rows or scores[row] > scores[rows[-1]]:
            rows.append(row)
    return rows


def importance(space: Space, observations: Sequence[Observation]) -> Dict[str, Tuple[float, float]]:
    """By option: shares of the variance of the modelled score over all ranges, (alone, with all interactions); empty for few observations.

    First-order and total Sobol' indices after Jansen (1999), of the mean of the Gaussian process, so that noise counts for nothing.
    """
    usable = [one for one in observations if not one.failed and math.isfinite(one.score)]
    if len(usable) < MIN_OBSERVATIONS:
        return {}
    points = torch.stack([space.encode(one.params) for one in usable])
    scores = torch.tensor([one.score for one in usable], dtype=torch.float64)
    return _indices(space, fitted(points, scores, Bend(scores))[0])


def _indices(space: Space, process: GaussianProcess) -> Dict[str, Tuple[float, float]]:
    uniform = torch.quasirandom.SobolEngine(2 * space.size, scramble=True, seed=0).draw(_SAMPLES, dtype=torch.float64)
    one, other = (torch.stack([space.encode(space.draw(row)) for row in part]) for part in uniform.split(space.size, dim=1))
    values, other_values = (process.predict(points).mean for points in (one, other))
    variance = torch.cat((values, other_values)).var().clamp_min(1e-12)
    found, first = {}, 0
    for parameter in space.parameters:
        mixed = one.clone()
        mixed[:, first : first + parameter.width] = other[:, first : first + parameter.width]
        found[parameter.name] = _shares(values, other_values, process.predict(mixed).mean, variance)
        first += parameter.width
    return found


def _shares(values: Tensor, other_values: Tensor, mixed: Tensor, variance: Tensor) -> Tuple[float, float]:
    """Both are estimates; where they are near each other, the smaller may come out larger."""
    alone = min(max(1.0 - float(0.5 * (other_values - mixed).square().mean() / variance), 0.0), 1.0)
    total = float(0.5 * (values - mixed).square().mean() / variance)
    return alone, min(max(total, alone), 1.0)
