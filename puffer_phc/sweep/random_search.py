"""Independent draws from the ranges: what a search has to beat."""

from typing import Sequence

import torch

from puffer_phc.sweep.protocol import Params
from puffer_phc.sweep.space import Space


class RandomSearch:
    """Draws every option from its distribution. What a number of suggestions were is a function of ``seed`` alone."""

    def __init__(self, space: Space, seed: int = 0) -> None:
        self._space = space
        self._generator = torch.Generator().manual_seed(seed)

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        """The next draw."""
        return self._space.draw(torch.rand(self._space.size, generator=self._generator, dtype=torch.float64))

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        """Results change nothing."""
