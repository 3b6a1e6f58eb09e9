"""Frames of one or several takes one after the other, and what looks along time: nothing here ever looks across a cut.

Takes are worked on together because most clips are short: a hundred frames cost hardly more than one.
"""

import math
from typing import List, NamedTuple, Tuple

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor


def _smooth(values: Tensor, sigma: float) -> Tensor:
    """``values`` (F, ...) of one take with a Gaussian of ``sigma`` frames along time; the ends are held."""
    return torch.from_numpy(gaussian_filter1d(values.numpy(), sigma, axis=0, mode="nearest"))


def _smooth_moving(values: Tensor, sigma: float) -> Tensor:
    """The same, continued by point reflections."""
    reach = min(math.ceil(4.0 * sigma), len(values) - 1)
    if sigma <= 0 or reach < 1:
        return values
    before = 2.0 * values[:1] - values[1 : reach + 1].flip(0)
    after = 2.0 * values[-1:] - values[-reach - 1 : -1].flip(0)
    return _smooth(torch.cat((before, values, after)), sigma)[reach:-reach]


class Timeline(NamedTuple):
    """How many frames each take has and how fast they follow each other."""

    lengths: Tuple[int, ...]
    fps: float

    def spans(self) -> List[slice]:
        """The frames of each take."""
        ends = torch.tensor(self.lengths).cumsum(0).tolist()
        return [slice(end - length, end) for end, length in zip(ends, self.lengths)]

    def smooth(self, values: Tensor, sigma: float) -> Tensor:
        """``values`` (F, ...) with a Gaussian of ``sigma`` frames along time; the ends of takes are held."""
        if sigma <= 0:
            return values
        return torch.cat([_smooth(values[span], sigma) for span in self.spans()])

    def smooth_moving(self, values: Tensor, sigma: float) -> Tensor:
        """``values`` (F, ...) with a Gaussian of ``sigma`` frames along time; motion goes on beyond the ends of takes.

        The values are continued by their point reflections about the first and the last. Were the ends held, a filtered runner would set
        out and arrive more slowly than he runs: held ends pull what moves at constant speed inwards by 0.4 ``sigma`` frames.
        """
        return torch.cat([_smooth_moving(values[span], sigma) for span in self.spans()])

    def steps(self, values: Tensor) -> Tensor:
        """(F − 1, ...) differences of neighbours in time; 0 from the last frame of a take to the first of the next."""
        steps = values.diff(dim=0)
        for span in self.spans()[1:]:
            steps[span.start - 1] = 0.0
        return steps

    def velocity(self, values: Tensor) -> Tensor:
        """(F, ...) change of ``values`` per second by central differences, one-sided at the ends of takes; 0 for a take of one frame."""
        steps = values.diff(dim=0) * self.fps
        velocity = torch.zeros_like(values)
        velocity[1:-1] = 0.5 * (steps[1:] + steps[:-1])
        for span in self.spans():
            if span.stop - span.start > 1:
                velocity[span.start], velocity[span.stop - 1] = steps[span.start], steps[span.stop - 2]
            else:
                velocity[span] = 0.0
        return velocity
