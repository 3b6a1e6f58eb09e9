"""What a control step is worth, and whether the episode ends with it: reward and termination in one pure function."""

from typing import NamedTuple, Optional

from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.env.rewards import imitation_reward
from puffer_phc.env.terminations import GRACE_STEPS, is_finite, is_lost, tracking_error
from puffer_phc.state import BodyState


class Progress(NamedTuple):
    """How far the rows have come."""

    steps: Tensor
    """(N,) int64, the control steps of the episode."""
    is_over: Tensor
    """(N,) bool: the clip has ended."""
    given_up: Tensor
    """(N,) bool: the simulator calls the row diverged."""


class Verdict(NamedTuple):
    """What a control step is worth and whether it ends the episode."""

    reward: Tensor
    """(N,), zero where the state is not finite."""
    reward_terms: Tensor
    """(N, 5), likewise."""
    terminated: Tensor
    """(N,) bool."""
    truncated: Tensor
    """(N,) bool."""
    diverged: Tensor
    """(N,) bool: the simulator gave the row up, or its state is not finite."""


def verdict(
    body: BodyState,
    reference: BodyState,
    power: Tensor,
    progress: Progress,
    config: EnvConfig,
    termination_distance: Optional[float],
) -> Verdict:
    """Reward and end of episode in the state ``body`` when the motion is at ``reference``, with the drives' ``power`` (N, D) W. Pure.

    A row is lost where a body is farther than ``termination_distance`` m from its reference; with None nothing is ever lost.
    """
    reward = imitation_reward(body, reference, power, progress.steps, config)
    diverged = progress.given_up | ~is_finite(body, power)
    terminated = diverged
    if termination_distance is not None:
        terminated = terminated | (is_lost(tracking_error(body, reference), termination_distance) & (progress.steps > GRACE_STEPS))
    return Verdict(
        reward.total.masked_fill(diverged, 0.0),
        reward.terms.masked_fill(diverged.unsqueeze(-1), 0.0),
        terminated,
        progress.is_over & ~terminated,
        diverged,
    )
