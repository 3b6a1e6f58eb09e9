"""A wish to stop, which may come at any moment, heeded where all processes can heed it together."""

from torch import Tensor

from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.learn.distributed import World


class StoppedError(Exception):
    """A stop was asked for in the middle of an evaluation."""


class StopRequest:
    """Whether somebody asked the processes of ``world`` to stop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._is_made = False

    def make(self) -> None:
        """Ask for it. Safe to call from a signal handler."""
        self._is_made = True

    def is_agreed(self) -> bool:
        """Whether some process was asked; the same in all, which call this together."""
        return self._world.any(self._is_made)

    def heeded_by(self, act: Policy) -> Policy:
        """``act``, which from the request on raises StoppedError; where results come together, the others learn of it."""

        def act_or_stop(observations: Tensor, starts: Tensor) -> Tensor:
            if self._is_made:
                raise StoppedError
            return act(observations, starts)

        return act_or_stop
