"""CARBS: Bayesian search around the front of score and cost (Fetterman et al. 2023, arXiv 2306.08055), on torch.

One Gaussian process models the score, one the logarithm of the cost, one whether options fail. What has no cheaper and better observation
beside it is the front; candidates are drawn around it. A candidate is worth the improvement that is expected of it over the front at its
own predicted cost, or at a cost that is drawn anew for every suggestion where that is higher, so that the search spends its time along the
whole front and not at its cheap end alone.
"""

import math
from dataclasses import dataclass
from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from puffer_phc.sweep.gaussian_process import Bend, Fit, GaussianProcess, fitted
from puffer_phc.sweep.protocol import Observation, Params
from puffer_phc.sweep.space import Space

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


@dataclass(frozen=True)
class CarbsOptions:
    """How the search goes about it."""

    initial: Optional[int] = None
    """Suggestions before the models say something; None: as many as coordinates, at least 4."""
    radius: float = 0.3
    """Standard deviation of candidates around the front, in units of ``Space.radius``."""
    resample_interval: int = 5
    """Every so many suggestions a point of the front is tried once more, where results are noisy; 0: never."""
    max_cost: Optional[float] = None
    """Nothing is suggested that is predicted to cost more."""
    local: int = 512
    spread: int = 512
    polished: int = 6
    greedy: float = 0.5


class _Models(NamedTuple):
    """What is known after some observations."""

    score: GaussianProcess
    cost: "_CostModel"
    success: Optional[GaussianProcess]
    front: "_Front"


class Carbs:
    """Suggests along the front of score and cost; what it suggests is a function of seed and observations."""

    def __init__(self, space: Space, options: Optional[CarbsOptions] = None, seed: int = 0) -> None:
        self._space, self._options = space, options or CarbsOptions()
        self._generator = torch.Generator().manual_seed(seed)
        self._sobol = torch.quasirandom.SobolEngine(space.size, scramble=True, seed=seed)
        self._observations: List[Observation] = []
        self._models: Optional[_Models] = None
        self._fits: Tuple[Optional[Fit], ...] = (None, None)
        self._count = 0

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        failed = failed or not math.isfinite(score) or not cost > 0.0
        self._observations.append(Observation(params, score, cost, failed))
        self._models = None

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        self._count += 1
        successes = [one for one in self._observations if not one.failed]
        initial = self._options.initial or max(4, self._space.size)
        if len(successes) + len(outstanding) < initial or len(successes) < 2:
            return self._initial()
        if self._models is None:
            self._models = self._fitted(successes)
        return self._space.decode(self._best(self._models))

    def _initial(self) -> Params:
        return self._space.draw(self._sobol.draw(1, dtype=torch.float64)[0])

    def _fitted(self, successes):
        points = torch.stack([self._space.encode(one.params) for one in successes])
        scores = torch.tensor([one.score for one in successes], dtype=torch.float64)
        log_costs = torch.tensor([one.cost for one in successes], dtype=torch.float64).log()
        score, fit0 = fitted(points, scores, Bend(scores), self._fits[0])
        cost, fit1 = _CostModel.fitted(points, log_costs, self._fits[1])
        self._fits = (fit0, fit1)
        means = score.predict(points).mean
        return _Models(score, cost, None, _Front(log_costs, means))

    def _best(self, models):
        front = models.front
        u = torch.rand((), generator=self._generator, dtype=torch.float64)
        low, high = front.log_costs[0], front.log_costs[-1]
        threshold = low + (high - low) * u
        if torch.rand((), generator=self._generator) < self._options.greedy:
            threshold = high

        def acq(x):
            p = models.score.predict(x)
            c = models.cost.predict(x)
            target = front.at(torch.maximum(c, threshold))
            sd = p.variance.sqrt()
            return sd.log() + _log_h((p.mean - target) / sd)

        d = self._space.size
        centres = models.score.points[front.rows]
        pick = torch.randint(len(centres), (self._options.local,), generator=self._generator)
        steps = torch.randn(self._options.local, d, generator=self._generator, dtype=torch.float64)
        shrink = torch.rand(self._options.local, 1, generator=self._generator, dtype=torch.float64)
        local = (centres[pick] + steps * shrink * self._options.radius * self._space.radius).clamp(0, 1)
        spread = torch.rand(self._options.spread, d, generator=self._generator, dtype=torch.float64)
        cand = self._space.snapped(torch.cat((local, spread)))
        with torch.no_grad():
            values = acq(cand)
        top = values.topk(self._options.polished).indices
        starts = cand[top]

        def loss(v):
            x = torch.tensor(v.reshape(-1, d), requires_grad=True)
            out = -acq(x).sum()
            out.backward()
            return float(out.detach()), x.grad.numpy().ravel()

        res = minimize(
            loss, starts.numpy().ravel(), jac=True, method="L-BFGS-B", bounds=[(0.0, 1.0)] * starts.numel(), options={"maxiter": 40}
        )
        polished = self._space.snapped(torch.tensor(res.x.reshape(-1, d)))
        with torch.no_grad():
            pv = acq(polished)
        if pv.max() >= values.max():
            return polished[pv.argmax()]
        return cand[values.argmax()]


class _CostModel:
    def __init__(self, trend, gp, scale):
        self.trend, self.gp, self.scale = trend, gp, scale

    @classmethod
    def fitted(cls, points, log_costs, start):
        design = torch.cat((torch.ones(len(points), 1, dtype=torch.float64), points - 0.5), 1)
        gram = design.T @ design + 1e-3 * torch.diag(torch.tensor([0.0] + [1.0] * points.shape[1], dtype=torch.float64))
        trend = torch.linalg.solve(gram, design.T @ log_costs)
        residual = log_costs - design @ trend
        scale = residual.std(correction=0).clamp_min(1e-3)
        gp, fit = fitted(points, residual / scale, None, start)
        return cls(trend, gp, scale), fit

    def predict(self, x):
        return self.trend[0] + (x - 0.5) @ self.trend[1:] + self.scale * self.gp.predict(x).mean


class _Front:
    def __init__(self, log_costs, values):
        order = torch.argsort(log_costs, stable=True)
        rows, best = [], -math.inf
        for row in order.tolist():
            if values[row] > best:
                rows.append(row)
                best = float(values[row])
        self.rows = torch.tensor(rows)
        self.log_costs, self.values = log_costs[self.rows], values[self.rows]

    def at(self, log_costs):
        if len(self.rows) == 1:
            return self.values.expand_as(log_costs)
        x = log_costs.clamp(self.log_costs[0], self.log_costs[-1]).contiguous()
        i = torch.searchsorted(self.log_costs, x.detach()).clamp(1, len(self.rows) - 1)
        a, b = self.log_costs[i - 1], self.log_costs[i]
        w = (x - a) / (b - a).clamp_min(1e-12)
        return self.values[i - 1] + w * (self.values[i] - self.values[i - 1])


def _log_h(z):
    """ln(φ(z) + z Φ(z))"""
    zs = z.clamp_min(-1.0)
    phi = torch.exp(-0.5 * zs * zs - _LOG_SQRT_2PI)
    upper = (phi + zs * torch.special.ndtr(zs)).log()
    zl = z.clamp(max=-1.0, min=-1e6)
    t = math.sqrt(math.pi / 2) * torch.special.erfcx(-zl / math.sqrt(2.0))
    inner = 1 + zl * t
    far = zl < -1e3
    inner = torch.where(far, 1.0 / zl.square(), inner.clamp_min(1e-300))
    lower = -0.5 * zl * zl - _LOG_SQRT_2PI + inner.log()
    return torch.where(z > -1.0, upper, lower)
