"""How well the body imitates the reference, in (0, 1], less the cost of joint power. Pure functions; formulas of PHC (arXiv 2305.06456)."""

from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from puffer_phc.config import EnvConfig
from puffer_phc.state import BodyState

REWARD_TERMS = ("rew_body_pos", "rew_body_rot", "rew_lin_vel", "rew_ang_vel", "rew_power")
"""Names of the columns of the reward terms; the last is the cost of power, zero or negative."""

POWER_FREE_STEPS = 3
"""Control steps of an episode without power cost: the drives first take up the weight that a reset left hanging."""


class Reward(NamedTuple):
    """The reward and what it is made of."""

    total: Tensor
    """(N,) weighted sum of the four imitation terms, plus the power term."""
    terms: Tensor
    """(N, 5) unweighted terms in the order of ``REWARD_TERMS``; the first four lie in [0, 1]."""


def _angle_between(a: Tensor, b: Tensor) -> Tensor:
    """The angle (...,) in [0, π] of the rotation between ``a`` and ``b`` (..., 4), exact near zero where an arc cosine is not."""
    difference, total = (a - b).norm(dim=-1), (a + b).norm(dim=-1)
    return 4.0 * torch.atan2(torch.minimum(difference, total), torch.maximum(difference, total))


def _mean_square(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).square().mean(dim=(1, 2))


def imitation_errors(body: BodyState, reference: BodyState) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean squared errors, each (N,): position m², rotation rad², linear velocity m²/s², angular velocity rad²/s²; world frame.

    Vectors are averaged over bodies and components, rotation angles over bodies.
    """
    return (
        _mean_square(reference.pos, body.pos),
        _angle_between(reference.quat, body.quat).square().mean(dim=1),
        _mean_square(reference.lin_vel, body.lin_vel),
        _mean_square(reference.ang_vel, body.ang_vel),
    )


def imitation_reward(body: BodyState, reference: BodyState, power: Tensor, steps: Tensor, config: EnvConfig) -> Reward:
    """The reward of having come to ``body`` when the motion is at ``reference``.

    ``power`` (N, D) W is each joint's mean |torque · velocity| over the control step, ``steps`` (N,) counts the control steps of the
    episode, this one included. Each imitation term is exp(−scale · mean squared error).
    """
    scales = (config.reward_pos_scale, config.reward_rot_scale, config.reward_vel_scale, config.reward_ang_vel_scale)
    weights = (config.reward_pos_weight, config.reward_rot_weight, config.reward_vel_weight, config.reward_ang_vel_weight)
    terms = [torch.exp(-scale * error) for scale, error in zip(scales, imitation_errors(body, reference))]
    cost = (-config.rew_power_coef * power.sum(dim=-1)).masked_fill(steps <= POWER_FREE_STEPS, 0.0)
    total = cost
    for weight, term in zip(weights, terms):
        total = torch.add(total, term, alpha=weight)
    return Reward(total, torch.stack((*terms, cost), dim=-1))
