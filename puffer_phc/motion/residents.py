"""Which clips lie on a device that does not hold all of them: a draw without replacement whose bias is known and taken out."""

from typing import NamedTuple

import torch
from torch import Tensor


class Chosen(NamedTuple):
    """A draw of clips."""

    clip_ids: Tensor
    """(K,) int64, ascending."""
    weights: Tensor
    """(C,) float64: 1 / (chance that a clip was among the chosen), 0 for the others. Times a clip's share of all draws, it is what to
    draw the chosen ones by: on the average over many choices every clip then gets its share."""


def choose_residents(shares: Tensor, num_rows: Tensor, capacity: int, uniform: Tensor) -> Chosen:
    """Clips that together take at most ``capacity`` rows, those with more draws per row sooner.

    ``shares`` (C,) float64 are the clips' shares of all draws, ``num_rows`` (C,) what they take, at most ``capacity`` each, and ``uniform``
    (C,) numbers drawn from [0, 1). Clips are taken in the order in which they would arrive in a race of exponential clocks with rates
    shares / rows, until the next one does not fit. Given the time of that one, every other clip was there before it with the chance
    1 − exp(−rate · time), independently of the others (Efraimidis and Spirakis 2006; Cohen and Kaplan 2007, rank conditioning).
    """
    rates = (shares / num_rows).clamp_min(1e-30)
    arrivals = -torch.log1p(-uniform.double()) / rates
    order = arrivals.argsort(stable=True)
    fits = num_rows[order].cumsum(0) <= capacity
    chosen = torch.zeros_like(fits).scatter_(0, order, fits)
    first_left_out = torch.where(chosen, torch.inf, arrivals).min()
    chances = -torch.expm1(-rates * first_left_out)
    return Chosen(chosen.nonzero().squeeze(1), torch.where(chosen, 1.0 / chances, 0.0))
