"""What a candidate is worth: pure functions of predictions, and the front that they are compared with."""

import math
from typing import List

import torch
from torch import Tensor

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)
_SPLIT = -1.0
"""Below, φ(z) + z Φ(z) is a small difference of large terms and is computed another way."""
_FAR = -1e3
"""Below, that way has no digits left, and the first term of the expansion is exact to 1e-6."""

_STEEPNESS = 4.0
"""Of the chance of success over the regression: next to a failure it is 3e-5, because the score is unknown there and promises much."""


def log_expected_improvement(mean: Tensor, variance: Tensor, target: Tensor) -> Tensor:
    """(q,) logarithm of E[max(f − target, 0)] for f ~ N(mean, variance), precise where the expectation itself would be 0."""
    deviation = variance.sqrt()
    return deviation.log() + _log_h((mean - target) / deviation)


def _log_h(z: Tensor) -> Tensor:
    """ln(φ(z) + z Φ(z)); the branches that ``torch.where`` does not take are kept finite for the sake of their gradients."""
    near = z.clamp_min(_SPLIT)
    upper = (torch.exp(-0.5 * near.square() - _LOG_SQRT_2PI) + near * torch.special.ndtr(near)).log()
    below = z.clamp(max=_SPLIT)
    middle = below.clamp_min(_FAR)
    share = 1.0 + middle * math.sqrt(0.5 * math.pi) * torch.special.erfcx(-middle / math.sqrt(2.0))
    lower = torch.where(below > _FAR, share.clamp_min(1e-300).log(), -2.0 * (-below).log())
    return torch.where(z > _SPLIT, upper, lower - 0.5 * below.square() - _LOG_SQRT_2PI)


def log_success(mean: Tensor, variance: Tensor) -> Tensor:
    """(q,) logarithm of the probability of success, by a regression of 1 (success) and −1 (failure)."""
    return torch.special.log_ndtr(_STEEPNESS * mean / (1.0 + variance).sqrt())


class Front:
    """The observations that no cheaper one is as good as.

    ``log_costs`` and ``values`` are (n,); ``rows`` are those on the front, in order of cost. Only observations where ``is_candidate`` (n,)
    can be.
    """

    def __init__(self, log_costs: Tensor, values: Tensor, is_candidate: Tensor) -> None:
        rows: List[int] = []
        order = sorted(is_candidate.nonzero()[:, 0].tolist(), key=lambda row: (float(log_costs[row]), -float(values[row])))
        for row in order:
            if not rows or values[row] > values[rows[-1]]:
                rows.append(row)
        self.rows = torch.tensor(rows)
        self.log_costs, self.values = log_costs[self.rows], values[self.rows]

    def at(self, log_costs: Tensor) -> Tensor:
        """(q,) the best value for these costs: straight between points of the front, constant beyond its ends."""
        if len(self.rows) == 1:
            return self.values.expand_as(log_costs)
        inside = log_costs.clamp(float(self.log_costs[0]), float(self.log_costs[-1]))
        right = torch.searchsorted(self.log_costs, inside.detach().contiguous()).clamp(1, len(self.rows) - 1)
        low, high = self.log_costs[right - 1], self.log_costs[right]
        share = (inside - low) / (high - low)
        return self.values[right - 1] + share * (self.values[right] - self.values[right - 1])

    def cost_between(self, share: float) -> float:
        """The log cost that lies this share of the way from the cheap end to the dear one."""
        low, high = float(self.log_costs[0]), float(self.log_costs[-1])
        return low + share * (high - low)
