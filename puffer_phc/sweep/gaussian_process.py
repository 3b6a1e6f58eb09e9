"""Gaussian processes on torch: a prior with Matérn-5/2 kernel and one length per coordinate, fitted to at most a few hundred points.

Shapes: n observations, d coordinates (of a unit cube), q queries. Everything is float64. Hyperparameters maximise the likelihood times a
weak prior, by scipy's L-BFGS-B.
"""

import math
from typing import NamedTuple, Optional, Tuple

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

_SQRT_5 = math.sqrt(5.0)
_LENGTH_PRIOR = (math.log(0.5), 1.0)
"""Mean and deviation of ln(length / √d): distances in a cube grow with √d."""
_VARIANCE_PRIOR = (0.0, 1.5)
_NOISE_PRIOR = (math.log(1e-4), 3.0)
_BEND_PRIOR = (-1.0, 2.0)
_BOUNDS = {"length": (math.log(0.02), math.log(30.0)), "variance": (-4.0, 6.0), "noise": (math.log(1e-8), 0.0), "bend": (-5.0, 8.0)}
_FIRST_NOISES = (math.log(1e-4), math.log(0.2))
"""Where the search for hyperparameters begins: noisy data are also explained, worse, by a wild function without noise."""
_JITTER = 1e-9
_LEAST_SQUARE = 1e-20
"""Of scaled distances: their roots need a slope."""


class Prediction(NamedTuple):
    """Of the noise-free function."""

    mean: Tensor
    """(q,)"""
    variance: Tensor
    """(q,)"""


class Bend:
    """A monotone map of scores that keeps the differences between good ones apart, whatever the bad ones are.

    Of the distance g to the best score, in medians of all such distances: −ln(1 + k g) / k', which is straight for small k and
    logarithmic for large k. The result has mean 0 and deviation 1 over the scores that it was made for.
    """

    def __init__(self, scores: Tensor) -> None:
        gaps = scores.max() - scores
        positive = gaps[gaps > 0]
        self._gaps = gaps / positive.median() if len(positive) else gaps

    def bent(self, bend: Tensor) -> Tuple[Tensor, Tensor]:
        """(n,) the map of the scores with k = exp(bend), and () the log of its derivative, summed, up to a constant of the scores."""
        steepness = bend.exp()
        raw = -torch.log1p(steepness * self._gaps) / steepness
        scale = raw.std(correction=0).clamp_min(1e-12)
        log_slope = (-torch.log1p(steepness * self._gaps)).sum() - len(raw) * scale.log()
        return (raw - raw.mean()) / scale, log_slope


class GaussianProcess:
    """A posterior over functions given ``points`` (n, d) and ``targets`` (n,), which should have mean 0 and deviation 1."""

    def __init__(self, points: Tensor, targets: Tensor, log_lengths: Tensor, log_variance: Tensor, log_noise: Tensor) -> None:
        self.points, self.targets = points, targets
        self.log_lengths, self.log_variance, self.log_noise = log_lengths, log_variance, log_noise
        covariance = _covariance(points, points, log_lengths, log_variance)
        self._factor = torch.linalg.cholesky(covariance + (log_noise.exp() + _JITTER) * torch.eye(len(points), dtype=points.dtype))
        self._weights = torch.cholesky_solve(targets[:, None], self._factor)[:, 0]

    @property
    def noise(self) -> float:
        """Standard deviation of observations around the function."""
        return math.exp(0.5 * float(self.log_noise))

    def predict(self, queries: Tensor) -> Prediction:
        """What is known at ``queries`` (q, d). Differentiable."""
        cross = _covariance(queries, self.points, self.log_lengths, self.log_variance)
        solved = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
        variance = self.log_variance.exp() - solved.square().sum(0)
        return Prediction(cross @ self._weights, variance.clamp_min(1e-12))

    def sample(self, queries: Tensor, generator: torch.Generator) -> Tensor:
        """(q,) one draw of the function at ``queries`` (q, d)."""
        cross = _covariance(queries, self.points, self.log_lengths, self.log_variance)
        solved = torch.linalg.solve_triangular(self._factor, cross.T, upper=False)
        covariance = _covariance(queries, queries, self.log_lengths, self.log_variance) - solved.T @ solved
        factor = torch.linalg.cholesky(covariance + 1e-6 * self.log_variance.exp() * torch.eye(len(queries), dtype=queries.dtype))
        return cross @ self._weights + factor @ torch.randn(len(queries), generator=generator, dtype=queries.dtype)

    def with_more(self, points: Tensor, targets: Tensor) -> "GaussianProcess":
        """The posterior after further observations, with the same hyperparameters."""
        both = torch.cat((self.points, points)), torch.cat((self.targets, targets))
        return GaussianProcess(*both, self.log_lengths, self.log_variance, self.log_noise)


def _covariance(one: Tensor, other: Tensor, log_lengths: Tensor, log_variance: Tensor) -> Tensor:
    """(q, n) between points (q, d) and (n, d)."""
    one, other = one * (-log_lengths).exp(), other * (-log_lengths).exp()
    squared = one.square().sum(1)[:, None] + other.square().sum(1) - 2.0 * one @ other.T
    return log_variance.exp() * _matern(squared.clamp_min(_LEAST_SQUARE))


def _matern(squared: Tensor) -> Tensor:
    """The Matérn-5/2 correlation at scaled distances whose squares these are."""
    distance = squared.sqrt()
    return (1.0 + _SQRT_5 * distance + (5.0 / 3.0) * squared) * torch.exp(-_SQRT_5 * distance)


class Fit(NamedTuple):
    """Hyperparameters as one vector: ln lengths (d), ln variance, ln noise, and the bend where there is one."""

    vector: np.ndarray


def fitted(points: Tensor, targets: Tensor, bend: Optional[Bend] = None, start: Optional[Fit] = None) -> Tuple[GaussianProcess, Fit]:
    """The process whose hyperparameters explain ``targets`` (n,) best; with ``bend``, of the targets as they are best bent.

    ``start`` are hyperparameters to look around first, of a fit to fewer points.
    """
    dims = points.shape[1]
    starts = [_start(dims, noise, bend is not None) for noise in _FIRST_NOISES]
    if start is not None:
        starts[0] = start.vector
    bounds = [_BOUNDS["length"]] * dims + [_BOUNDS["variance"], _BOUNDS["noise"]] + ([_BOUNDS["bend"]] if bend is not None else [])
    objective = Objective(points, targets, bend)
    found = [minimize(objective, one, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60, "ftol": 1e-6}) for one in starts]
    best = min(found, key=lambda result: result.fun).x
    hyper = torch.tensor(best)
    if bend is not None:
        targets = bend.bent(hyper[-1])[0]
    return GaussianProcess(points, targets, hyper[:dims], hyper[dims], hyper[dims + 1]), Fit(best)


def _start(dims: int, noise: float, has_bend: bool) -> np.ndarray:
    return np.array([_LENGTH_PRIOR[0] + 0.5 * math.log(dims)] * dims + [0.0, noise] + [_BEND_PRIOR[0]] * has_bend)


def _prior(dims: int, has_bend: bool) -> Tuple[Tensor, Tensor]:
    pairs = [(_LENGTH_PRIOR[0] + 0.5 * math.log(dims), _LENGTH_PRIOR[1])] * dims + [_VARIANCE_PRIOR, _NOISE_PRIOR]
    pairs += [_BEND_PRIOR] * has_bend
    means, deviations = zip(*pairs)
    return torch.tensor(means, dtype=torch.float64), torch.tensor(deviations, dtype=torch.float64)


class Objective:
    """The negative logarithm of likelihood times prior, and its gradient, as functions of the vector of ``Fit``.

    The gradient is written out: autograd takes several times as long through a Cholesky factor and through distances by coordinate.
    """

    def __init__(self, points: Tensor, targets: Tensor, bend: Optional[Bend]) -> None:
        self._squares = (points.T[:, :, None] - points.T[:, None, :]).square()
        self._targets, self._bend = targets, bend
        self._means, self._deviations = _prior(points.shape[1], bend is not None)

    def __call__(self, vector: np.ndarray) -> Tuple[float, np.ndarray]:
        """Value and gradient; a large value where the covariance has no factor."""
        hyper, dims = torch.from_numpy(vector), len(self._squares)
        inverse_squares, variance, noise = (-2.0 * hyper[:dims]).exp(), hyper[dims].exp(), hyper[dims + 1].exp()
        squared = torch.einsum("dij,d->ij", self._squares, inverse_squares).clamp_min(_LEAST_SQUARE)
        correlation = _matern(squared)
        covariance = variance * correlation
        covariance.diagonal().add_(noise + _JITTER)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if failed:
            return 1e10, np.zeros_like(vector)
        targets, log_slope, bend_input = self._targets_of(hyper)
        weights = torch.cholesky_solve(targets.detach()[:, None], factor)
        by_covariance = 0.5 * (torch.cholesky_inverse(factor) - weights @ weights.T)
        distance = _SQRT_5 * squared.sqrt()
        by_squares = by_covariance * variance * (5.0 / 3.0) * (1.0 + distance) * torch.exp(-distance)
        gradient = torch.zeros_like(hyper)
        gradient[:dims] = torch.einsum("dij,ij->d", self._squares, by_squares) * inverse_squares
        gradient[dims] = (by_covariance * correlation).sum() * variance
        gradient[dims + 1] = by_covariance.trace() * noise
        if bend_input is not None:
            (gradient[-1],) = torch.autograd.grad((targets * weights[:, 0]).sum() - log_slope, bend_input)
        value = 0.5 * (targets.detach() @ weights[:, 0]) + factor.diagonal().log().sum() - log_slope.detach()
        off = (hyper - self._means) / self._deviations
        return float(value + 0.5 * off.square().sum()), (gradient + off / self._deviations).numpy()

    def _targets_of(self, hyper: Tensor) -> Tuple[Tensor, Tensor, Optional[Tensor]]:
        """Targets (n,), the logarithm of the map's slope, and the bend that both depend on, where there is one."""
        if self._bend is None:
            return self._targets, torch.zeros((), dtype=hyper.dtype), None
        bend = hyper[-1].clone().requires_grad_()
        return (*self._bend.bent(bend), bend)
