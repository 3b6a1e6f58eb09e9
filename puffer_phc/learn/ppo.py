"""Proximal policy optimisation as functions of tensors: advantages and losses (Schulman et al. 2016, 2017).

Axes are (T, N): time steps of one rollout and environments, which never mix.
"""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor


def gae(rewards: Tensor, values: Tensor, next_values: Tensor, dones: Tensor, gamma: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (T, N).

    ``rewards`` (T, N) follow the actions taken in states of ``values`` (T, N). ``next_values`` (T, N) are those of the states that the
    actions led to: zero after a termination, the value of the final observation after a truncation, else the next row's.
    ``dones`` (T, N) is 1 where the episode ended with that action, in either way.
    """
    deltas = rewards + gamma * next_values - values
    decay = gamma * gae_lambda * (1.0 - dones)
    advantage = torch.zeros_like(values[0])
    advantages = []
    for t in range(rewards.shape[0] - 1, -1, -1):
        advantage = deltas[t] + decay[t] * advantage
        advantages.append(advantage)
    return torch.stack(advantages[::-1])


class LossWeights(NamedTuple):
    """Coefficients and clip ranges of the PPO loss."""

    clip: float
    """How far the ratio of probabilities may go from 1 and still gain."""
    value: float
    clip_value: bool
    value_clip: float
    """With ``clip_value``: how far values may go from those of the rollout, in their own unit, and still gain."""
    entropy: float
    bound: float


class Recorded(NamedTuple):
    """What was noted of samples when they were collected; fields (...,) of the same shape, whatever the axes."""

    log_prob: Tensor
    value: Tensor
    advantage: Tensor
    """Normalised."""
    target: Tensor
    """Of the value: the return that was estimated."""


class Found(NamedTuple):
    """What the policy says of the same samples now; these carry gradients."""

    log_prob: Tensor
    """(...,) of the actions that were taken."""
    value: Tensor
    """(...,)."""
    entropy: Tensor
    """() in nats."""
    bound: Tensor
    """() how far means lie beyond the bounds of actions."""


class Losses(NamedTuple):
    """Scalars of one minibatch; ``total`` carries the gradient."""

    total: Tensor
    policy: Tensor
    value: Tensor
    entropy: Tensor
    bound: Tensor
    approx_kl: Tensor
    """Mean of ratio − 1 − log ratio: non-negative, and the KL divergence to second order."""
    clip_fraction: Tensor
    old_approx_kl: Tensor
    """Mean of −log ratio: the KL divergence to first order, with more noise."""
    drift: Tensor
    """Summed mean squared distance of the parameters from their initial values; zero where it is not part of the loss."""


def policy_loss(log_ratio: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """() the clipped surrogate over ``log_ratio`` (...,) and normalised ``advantages`` (...,)."""
    ratio = log_ratio.exp()
    return torch.maximum(-advantages * ratio, -advantages * ratio.clamp(1.0 - clip, 1.0 + clip)).mean()


def value_loss(values: Tensor, old_values: Tensor, returns: Tensor, clipped: bool, clip: float) -> Tensor:
    """() mean squared error of ``values`` (...,), optionally the worse of it and of the step clipped to ±``clip``."""
    error = (values - returns).square()
    if not clipped:
        return error.mean()
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(error, (near - returns).square()).mean()


def ppo_losses(recorded: Recorded, found: Found, weights: LossWeights) -> Losses:
    """All losses of a minibatch."""
    log_ratio = found.log_prob - recorded.log_prob
    ratio = log_ratio.detach().exp()
    surrogate = policy_loss(log_ratio, recorded.advantage, weights.clip)
    regression = value_loss(found.value, recorded.value, recorded.target, weights.clip_value, weights.value_clip)
    total = surrogate + weights.value * regression - weights.entropy * found.entropy + weights.bound * found.bound
    return Losses(
        total=total,
        policy=surrogate.detach(),
        value=regression.detach(),
        entropy=found.entropy.detach(),
        bound=found.bound.detach(),
        approx_kl=(ratio - 1.0 - log_ratio.detach()).mean(),
        clip_fraction=((ratio - 1.0).abs() > weights.clip).float().mean(),
        old_approx_kl=-log_ratio.detach().mean(),
        drift=torch.zeros_like(surrogate.detach()),
    )


def explained_variance(values: Tensor, returns: Tensor) -> Tensor:
    """() share of the variance of ``returns`` that ``values`` (of the same shape) account for; 1 is perfect."""
    return 1.0 - (returns - values).var() / returns.var().clamp_min(1e-12)


def adapted_learning_rate(rate: Tensor, kl: Tensor, target: float, lowest: float, highest: float) -> Tensor:
    """The rate () after one iteration: a factor 1.5 down above twice the target KL, up below half of it."""
    rate = torch.where(kl > 2.0 * target, rate / 1.5, torch.where(kl < 0.5 * target, rate * 1.5, rate))
    return rate.clamp(lowest, highest)


def normalized(advantages: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
    """``advantages`` with the given mean and deviation () taken out."""
    return (advantages - mean) / (deviation + 1e-8)


def mean_and_deviation(count: Tensor, total: Tensor, total_of_squares: Tensor) -> Tuple[Tensor, Tensor]:
    """Mean and standard deviation () from sums, which add up over processes."""
    mean = total / count
    return mean, (total_of_squares / count - mean.square()).clamp_min(0.0).sqrt()
