"""CARBS: Bayesian search around the front of score and cost (Fetterman et al. 2023, arXiv 2306.08055), on torch.

One Gaussian process models the score, one the logarithm of the cost, one whether options fail. Observations that no cheaper one is as good
as are the front; candidates are drawn around it. A candidate is worth the improvement that is expected of it over the front at its own
predicted cost, or at a cost that is drawn anew for every suggestion where that is higher, times the chance that it does not fail. So the
search spends its time along the whole front, and not at its cheap end alone. docs/sweep.md says what differs from the paper and why.
"""

import math
from dataclasses import dataclass
from typing import Callable, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from puffer_phc.sweep.acquisition import Front, log_expected_improvement, log_success
from puffer_phc.sweep.gaussian_process import Bend, Fit, GaussianProcess, fitted
from puffer_phc.sweep.protocol import Observation, Params
from puffer_phc.sweep.space import Space
from puffer_phc.threads import one_thread

_LOCAL_CANDIDATES = 512
_SPREAD_CANDIDATES = 512
"""Anywhere: around the front alone, a search in few coordinates stays with the first hill that it finds."""
_POLISHED = 6
"""Best candidates that climb to the top of their hill."""
_POLISHING_STEPS = 40
_DEAREST_SHARE = 0.65
"""Of suggestions that look for the best score of all: the paper's draw of a cost reaches the dear end of the front rarely."""
_THRIFT = 0.5
"""Power of the cost by which the improvement that these promise is divided: 0 would take it whatever it costs."""
_NOISY = 0.05
"""Deviation of repeated results, in deviations of all results, from which on it is worth repeating something."""
_FAILURE_LENGTH = 0.4
"""How far, times the square root of the coordinates, a failure speaks for its neighbours."""
_LABEL_NOISE = 0.02
_COST_PENALTY = 1000.0
"""For each e-fold above the greatest cost."""

_Worth = Callable[[Tensor], Tensor]
"""Of candidates (q, d): a logarithm (q,)."""


@dataclass(frozen=True)
class CarbsOptions:
    """How the search goes about it."""

    initial: Optional[int] = None
    """Suggestions before the models say something; None: as many as options, at least 4."""
    radius: float = 0.3
    """Standard deviation of candidates around the front, in units of ``Space.radius``."""
    resample_interval: int = 5
    """Every so many suggestions a point of the front is tried once more, where results are noisy; 0: never."""
    max_cost: Optional[float] = None
    """What is predicted to cost more is not suggested."""


class _Models(NamedTuple):
    """What is known after some observations."""

    score: GaussianProcess
    cost: "_CostModel"
    success: Optional["_SuccessModel"]
    front: Front


class Carbs:
    """Suggests along the front of score and cost. ``seed`` and what was observed and suggested before determine a suggestion."""

    def __init__(self, space: Space, options: Optional[CarbsOptions] = None, seed: int = 0) -> None:
        self._space, self._options = space, options or CarbsOptions()
        self._generator = torch.Generator().manual_seed(seed)
        self._sobol = torch.quasirandom.SobolEngine(space.size, scramble=True, seed=seed)
        self._successes: List[Observation] = []
        self._failures: List[Observation] = []
        self._log_limit = math.inf if self._options.max_cost is None else math.log(self._options.max_cost)
        self._models: Optional[_Models] = None
        self._fits: Tuple[Optional[Fit], Optional[Fit]] = (None, None)

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        """Take in a result; a score that is not finite is a failure."""
        is_failure = failed or not math.isfinite(score) or not (math.isfinite(cost) and cost > 0.0)
        (self._failures if is_failure else self._successes).append(Observation(params, score, cost, is_failure))
        self._models = None

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        """What to try next. Results that are still to come count as if they were as the model expects, give or take."""
        with one_thread():  # beside trainings, 200 results took 32 s on two threads that waited for each other, instead of 1.5
            return self._suggested(outstanding)

    def _suggested(self, outstanding: Sequence[Params]) -> Params:
        initial = self._options.initial or max(4, len(self._space.parameters))
        num_known = len(self._successes) + len(outstanding)
        if num_known < initial or len(self._successes) < 2:
            return self._initial(is_first=num_known + len(self._failures) == 0)
        if self._models is None:
            self._models = self._fitted()
        models = self._models
        if self._is_repeat_due(num_known, models):
            return self._least_tried(models.front, outstanding)
        if outstanding:
            models = self._expecting(models, torch.stack([self._space.encode(params) for params in outstanding]))
        return self._space.decode(self._best_candidate(models))

    def _initial(self, is_first: bool) -> Params:
        """The centres at first, then around them; anywhere for options that have none."""
        uniform = self._sobol.draw(1, dtype=torch.float64)[0]
        centres = self._space.centres
        steps = torch.zeros_like(uniform) if is_first else torch.special.ndtri(uniform.clamp(1e-3, 1.0 - 1e-3))
        around = centres + self._options.radius * self._space.radius * steps
        return (
            self._space.draw(uniform) if bool(centres.isnan().all()) else self._space.decode(torch.where(centres.isnan(), uniform, around))
        )

    def _fitted(self) -> _Models:
        """Models of all observations; hyperparameters are looked for around those of the last time."""
        points, costs = self._points(self._successes), [one.cost for one in self._successes]
        scores = torch.tensor([one.score for one in self._successes], dtype=torch.float64)
        log_costs = torch.tensor(costs, dtype=torch.float64).log()
        score, score_fit = fitted(points, scores, Bend(scores), self._fits[0])
        cost, cost_fit = _CostModel.fitted(points, log_costs, self._fits[1])
        self._fits = (score_fit, cost_fit)
        success = _SuccessModel(points, self._points(self._failures)) if self._failures else None
        affordable = log_costs <= self._log_limit if bool((log_costs <= self._log_limit).any()) else log_costs.isfinite()
        front = Front(log_costs, score.predict(points).mean, affordable)
        return _Models(score, cost, success, front)

    def _points(self, observations: Sequence[Observation]) -> Tensor:
        return torch.stack([self._space.encode(one.params) for one in observations])

    def _expecting(self, models: _Models, outstanding: Tensor) -> _Models:
        """``models`` as if the results at ``outstanding`` (m, d) were a draw from what is expected of them."""
        return models._replace(score=models.score.with_more(outstanding, models.score.sample(outstanding, self._generator)))

    def _is_repeat_due(self, num_known: int, models: _Models) -> bool:
        interval = self._options.resample_interval
        return interval > 0 and num_known % interval == 0 and models.score.noise > _NOISY

    def _least_tried(self, front: Front, outstanding: Sequence[Params]) -> Params:
        """Of the front, what was tried least often, the cheapest first."""
        tried = [*(one.params for one in self._successes), *outstanding]
        return min((self._successes[row].params for row in front.rows.tolist()), key=tried.count)

    def _best_candidate(self, models: _Models) -> Tensor:
        """(d,) coordinates, among those that options can have."""
        worth = self._worth(models)
        candidates = self._space.snapped(self._candidates(models))
        with torch.no_grad():
            starts = candidates[worth(candidates).topk(_POLISHED).indices]
            finalists = torch.cat((starts, self._space.snapped(_climbed(starts, worth))))
            return finalists[worth(finalists).argmax()]

    def _candidates(self, models: _Models) -> Tensor:
        """(q, d) around the front, each at its own distance, and anywhere."""
        size, generator = self._space.size, self._generator
        centres = models.score.points[models.front.rows]
        chosen = centres[torch.randint(len(centres), (_LOCAL_CANDIDATES,), generator=generator)]
        reach = self._options.radius * torch.rand(_LOCAL_CANDIDATES, 1, generator=generator, dtype=torch.float64)
        steps = torch.randn(_LOCAL_CANDIDATES, size, generator=generator, dtype=torch.float64)
        local = (chosen + reach * self._space.radius * steps).clamp(0.0, 1.0)
        return torch.cat((local, torch.rand(_SPREAD_CANDIDATES, size, generator=generator, dtype=torch.float64)))

    def _worth(self, models: _Models) -> _Worth:
        draws = torch.rand(2, generator=self._generator, dtype=torch.float64).tolist()
        is_for_best = draws[0] < _DEAREST_SHARE
        threshold = models.front.cost_between(1.0 if is_for_best else draws[1])
        thrift = _THRIFT if is_for_best else 0.0

        def worth(candidates: Tensor) -> Tensor:
            log_costs = models.cost.predict(candidates)
            score = models.score.predict(candidates)
            value = log_expected_improvement(score.mean, score.variance, models.front.at(log_costs.clamp_min(threshold)))
            if models.success is not None:
                value = value + models.success.log_probability(candidates)
            return value - thrift * log_costs - _COST_PENALTY * (log_costs - self._log_limit).clamp_min(0.0)

        return worth


def _climbed(starts: Tensor, worth: _Worth) -> Tensor:
    """(k, d) from each of ``starts`` up the gradient of ``worth``, within the cube."""

    def loss(vector: np.ndarray) -> Tuple[float, np.ndarray]:
        points = torch.tensor(vector.reshape(starts.shape), requires_grad=True)
        with torch.enable_grad():
            value = -worth(points).sum()
        (gradient,) = torch.autograd.grad(value, points)
        return float(value.detach()), gradient.numpy().ravel()

    bounds = [(0.0, 1.0)] * starts.numel()
    found = minimize(loss, starts.numpy().ravel(), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": _POLISHING_STEPS})
    return torch.tensor(found.x.reshape(starts.shape)).nan_to_num(0.5)


class _CostModel(NamedTuple):
    """The logarithm of the cost: a plane, which reaches beyond what was seen, and a Gaussian process of what it leaves over."""

    plane: Tensor
    """(d + 1,) height in the middle of the cube, and slopes."""
    rest: GaussianProcess
    scale: Tensor

    @classmethod
    def fitted(cls, points: Tensor, log_costs: Tensor, start: Optional[Fit]) -> "Tuple[_CostModel, Fit]":
        """The model of costs (n,) at ``points`` (n, d)."""
        design = torch.cat((torch.ones_like(points[:, :1]), points - 0.5), dim=1)
        ridge = 1e-3 * torch.eye(design.shape[1], dtype=design.dtype)
        ridge[0, 0] = 0.0
        plane = torch.linalg.solve(design.T @ design + ridge, design.T @ log_costs)
        left_over = log_costs - design @ plane
        scale = left_over.std(correction=0).clamp_min(1e-3)
        rest, fit = fitted(points, left_over / scale, None, start)
        return cls(plane, rest, scale), fit

    def predict(self, points: Tensor) -> Tensor:
        """(q,) expected log cost at ``points`` (q, d)."""
        return self.plane[0] + (points - 0.5) @ self.plane[1:] + self.scale * self.rest.predict(points).mean


class _SuccessModel:
    """The chance that options do not fail.

    Its hyperparameters are fixed: fitted to a few labels on both sides of a border they say that nothing is known farther beyond it.
    """

    def __init__(self, successes: Tensor, failures: Tensor) -> None:
        points = torch.cat((successes, failures))
        labels = torch.cat((torch.ones_like(successes[:, 0]), -torch.ones_like(failures[:, 0])))
        self._mean = labels.mean()
        log_lengths = torch.full_like(points[0], math.log(_FAILURE_LENGTH) + 0.5 * math.log(points.shape[1]))
        self._process = GaussianProcess(
            points, labels - self._mean, log_lengths, points.new_zeros(()), points.new_tensor(_LABEL_NOISE).log()
        )

    def log_probability(self, points: Tensor) -> Tensor:
        """(q,) of success at ``points`` (q, d)."""
        mean, variance = self._process.predict(points)
        return log_success(self._mean + mean, variance)
