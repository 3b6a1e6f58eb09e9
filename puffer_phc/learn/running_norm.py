"""Observation statistics that grow between iterations and stand still within one."""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Moments(NamedTuple):
    """Count, mean and summed squared deviation of a set of rows; sets combine exactly."""

    count: Tensor
    """() float64."""
    mean: Tensor
    """(O,) float64."""
    deviation: Tensor
    """(O,) float64, sum of squared deviations from the mean."""


def moments(rows: Tensor) -> Moments:
    """The moments of ``rows`` (R, O), accumulated in float64 from float32 column statistics."""
    variance, mean = torch.var_mean(rows, dim=0, correction=0)
    count = torch.full((), rows.shape[0], dtype=torch.float64, device=rows.device)
    return Moments(count, mean.double(), variance.double() * count)


def combine(a: Moments, b: Moments) -> Moments:
    """The moments of the union of two sets (Chan, Golub and LeVeque 1979)."""
    count = a.count + b.count
    shift = b.mean - a.mean
    weight = b.count / count
    return Moments(count, a.mean + shift * weight, a.deviation + b.deviation + shift.square() * a.count * weight)


class RunningNorm(nn.Module):
    """Standardises observations with statistics that only ``update`` changes.

    ``forward`` maps (..., O) to clamp((x − mean)/√(variance + 1e-5), ±10). Before the first update it passes values through, clamped.
    ``memory`` bounds the weight of the past: statistics follow a policy whose state distribution moves.
    """

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, size: int, memory: float = 5e7, limit: float = 10.0) -> None:
        super().__init__()
        self.memory = memory
        self.limit = limit
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("variance", torch.ones(size))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        """Standardised observations of the shape of ``x`` (..., O), float32."""
        return ((x - self.mean) * (self.variance + 1e-5).rsqrt()).clamp(-self.limit, self.limit)

    @torch.no_grad()
    def update(self, batch: Moments) -> None:
        """Take in the moments of one iteration's observations (already combined over processes), if all of them are finite."""
        past = Moments(self.count, self.mean.double(), self.variance.double() * self.count)
        total = combine(past, batch)
        is_sound = total.mean.isfinite().all() & total.deviation.isfinite().all()
        self.mean.copy_(torch.where(is_sound, total.mean.float(), self.mean))
        self.variance.copy_(torch.where(is_sound, (total.deviation / total.count).float(), self.variance))
        self.count.copy_(torch.where(is_sound, total.count.clamp_max(self.memory), self.count))


class RunningScale(RunningNorm):
    """As ``RunningNorm``, but zero stays zero: columns are divided by the root of their mean square."""

    def forward(self, x: Tensor) -> Tensor:
        """``x`` (..., O) in units of what is usual in each column, float32."""
        return (x * (self.mean.square() + self.variance + 1e-8).rsqrt()).clamp(-self.limit, self.limit)
