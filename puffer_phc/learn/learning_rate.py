"""The learning rate: a schedule, and what a warm-up, a KL target and a recovery make of it."""

import math
from typing import Any, Dict

import torch
from torch import Tensor

from puffer_phc.config import TrainConfig, chosen
from puffer_phc.learn.ppo import adapted_learning_rate

KL_RATE_RANGE = 10.0
"""A KL target may move the learning rate by this factor up or down from its schedule."""

WARM_UP_ITERATIONS = 10
"""Iterations over which the learning rate rises from a tenth where weights come without the optimiser that made them."""


class LearningRate:
    """The schedule max(exp(−decay · iteration), floor), times the factors of a warm-up, a cool-down and a KL target.

    The last lives on the device, so that the KL divergence moves it without waiting.
    """

    def __init__(self, options: TrainConfig, num_processes: int, device: torch.device) -> None:
        self._options = options
        self._base = scaled_rate(options, num_processes)
        self._kl_factor = torch.ones((), device=device)
        self._warm_up_left = 0

    def scheduled(self, iteration: int) -> float:
        """The rate of an iteration by the schedule alone."""
        return self._base * max(math.exp(-self._options.lr_decay_rate * iteration), self._options.lr_decay_floor)

    def next(self, iteration: int, progress: float, step_factor: float) -> Tensor:
        """() the rate of an iteration, ``step_factor`` included. A warm-up under way goes one iteration on.

        ``progress`` is the share of the run that lies behind it, from 0 to 1.
        """
        return self.scheduled(iteration) * self._warm_up_factor() * self.cool_down_factor(progress) * step_factor * self._kl_factor

    def cool_down_factor(self, progress: float) -> float:
        """1, and in the last ``train.lr_cooldown`` of the run in a straight line to 0."""
        return min((1.0 - progress) / self._options.lr_cooldown, 1.0) if self._options.lr_cooldown > 0 else 1.0

    def adapt(self, kl: Tensor, progress: float) -> None:
        """Let the KL divergence () of an iteration move the rate of the next ones, where there is a target for it.

        While the rate cools down it may only fall: steps that shrink on purpose are not to be made larger again.
        """
        if self._options.target_kl > 0:
            moved = adapted_learning_rate(self._kl_factor, kl, self._options.target_kl, 1.0 / KL_RATE_RANGE, KL_RATE_RANGE)
            self._kl_factor.copy_(moved if self.cool_down_factor(progress) == 1.0 else torch.minimum(moved, self._kl_factor))

    def warm_up(self) -> None:
        """Begin with small steps."""
        self._warm_up_left = WARM_UP_ITERATIONS

    def _warm_up_factor(self) -> float:
        factor = 1.0 - self._warm_up_left / (WARM_UP_ITERATIONS + 1)
        self._warm_up_left = max(self._warm_up_left - 1, 0)
        return factor

    def state_dict(self) -> Dict[str, Any]:
        """The factors."""
        return {"rate_factor": self._kl_factor.item(), "warm_up_left": self._warm_up_left}

    def load_state_dict(self, state: Dict[str, Any]) -> None:
        """Go on from ``state_dict``; a compact checkpoint has no warm-up."""
        self._kl_factor.fill_(state["rate_factor"])
        self._warm_up_left = state.get("warm_up_left", 0)


def scaled_rate(options: TrainConfig, num_processes: int) -> float:
    """The learning rate for batches of ``num_processes`` times the size, by ``train.lr_scaling``."""
    exponent = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[options.lr_scaling]
    return chosen(options.learning_rate) * num_processes**exponent
