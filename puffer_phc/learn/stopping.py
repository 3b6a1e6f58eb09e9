"""A wish to stop, which may come at any moment, heeded where all processes can heed it together."""

import torch
from torch import Tensor

from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.learn.distributed import World


class StoppedError(Exception):
    """A stop was asked for in the middle of an evaluation."""


class StopRequest:
    """Whether somebody asked the processes of ``world`` to stop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_made = self._is_heard = False

    def make(self) -> None:
        """Ask for it. Safe to call from a signal handler."""
        self._is_made = True

    @property
    def is_agreed(self) -> bool:
        """Whether some process had been asked by the last ``summed``, the same in all; a single process need not have summed."""
        return self._is_heard or (self._is_made and self._world.size == 1)

    def summed(self, tensor: Tensor) -> Tensor:
        """``tensor`` (K,) summed over processes, which learn by the same exchange whether one was asked. Waits for the device."""
        sums = self._world.sum_(torch.cat((tensor, tensor.new_full((1,), float(self._is_made)))))
        self._is_heard = self._is_heard or bool(sums[-1] > 0)
        return sums[:-1]

    def heeded_by(self, act: Policy) -> Policy:
        """``act``, which from the request on raises StoppedError; where results come together, the others learn of it."""

        def act_or_stop(observations: Tensor, starts: Tensor) -> Tensor:
            if self._is_made:
                raise StoppedError
            return act(observations, starts)

        return act_or_stop
