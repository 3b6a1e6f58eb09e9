"""Which clips lie on a device that does not hold all of them: a draw without replacement whose bias is known and taken out.

Shape letters: C clips, K of them chosen, M frames drawn.
"""

from typing import List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
from torch import Tensor


class Residents:
    """The clips of a library that lie on its device, their places there, and for how many others each of them stands.

    Clips keep their numbers, tensors their addresses. At first nobody is there.
    """

    def __init__(self, num_frames: Tensor, capacity: int) -> None:
        device = num_frames.device
        self._num_frames = num_frames
        self.num_rows: np.ndarray = num_frames.cpu().numpy() + 1
        """(C,) rows that each clip takes: its frames and one more."""
        self.capacity = capacity
        """Rows that the device holds."""
        self.is_whole = capacity == int(self.num_rows.sum())
        """Whether there is room for all clips."""
        self.is_present = torch.zeros(len(num_frames), dtype=torch.bool, device=device)
        """(C,) whether each clip is there."""
        self.first_rows = torch.zeros(len(num_frames), dtype=torch.int64, device=device)
        """(C,) the first row of each clip that is there."""
        self.weights = torch.zeros(len(num_frames), dtype=torch.float64, device=device)
        """(C,) for how many each clip stands: 1 / (chance that it is there), where those were drawn; 0 for who is not there."""
        self._cumulative_frames = torch.zeros_like(self.weights)
        self._clip_ids: List[int] = []

    @property
    def clip_ids(self) -> List[int]:
        """Who is there, in the order of their rows."""
        return list(self._clip_ids)

    def fitting(self, clip_ids: Sequence[int]) -> List[int]:
        """As many of ``clip_ids``, from the first on, as there is room for together."""
        ids = list(clip_ids)
        fits = self.num_rows[ids].cumsum() <= self.capacity
        return ids[: int(fits.sum())]

    def replace(self, clip_ids: Sequence[int], weights: Optional[Tensor] = None) -> bool:
        """Have the clips ``clip_ids`` there instead, with ``weights`` (C,), or 1 each. Returns whether their places are others.

        Raises ValueError where there is no room for all of them.
        """
        ids = list(clip_ids)
        if len(self.fitting(ids)) < len(ids):
            raise ValueError(f"{len(ids)} clips of {self.num_rows[ids].sum()} rows do not fit into {self.capacity}")
        has_moved = ids != self._clip_ids
        if has_moved:
            self._place(ids)
        self._weigh(weights)
        return has_moved

    def _place(self, ids: List[int]) -> None:
        """One after the other from the first row on."""
        self._clip_ids, num_rows = ids, self.num_rows[ids]
        first_rows, is_present = (torch.zeros(len(self.num_rows), dtype=kind) for kind in (torch.int64, torch.bool))
        clip_ids = torch.tensor(ids, dtype=torch.int64)
        first_rows[clip_ids] = torch.from_numpy(num_rows.cumsum() - num_rows)
        is_present[clip_ids] = True
        self.first_rows.copy_(first_rows)
        self.is_present.copy_(is_present)

    def _weigh(self, weights: Optional[Tensor]) -> None:
        """Summed up on the CPU: on a GPU the order of additions is not fixed."""
        self.weights.copy_(self.is_present if weights is None else weights)
        self._cumulative_frames.copy_((self._num_frames * self.weights).cpu().cumsum(0))

    def random_frames(self, count: int, generator: torch.Generator) -> Tuple[Tensor, Tensor]:
        """Clips (M,) that are there and frames (M,) of them: over many choices, every frame of every clip is equally likely."""
        uniform = torch.rand(count, 2, generator=generator, device=self.weights.device, dtype=torch.float64)
        sought = uniform[:, 0] * self._cumulative_frames[-1]
        clip_ids = torch.searchsorted(self._cumulative_frames, sought, right=True).clamp_max(len(self.weights) - 1)
        return clip_ids, (uniform[:, 1] * self._num_frames[clip_ids]).long()


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
