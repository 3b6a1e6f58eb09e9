"""PPO's pure functions against hand-computed numbers."""

import math

import pytest
import torch

from puffer_phc.learn.policy import bound_loss, entropy, log_prob
from puffer_phc.learn.ppo import (
    Found,
    LossWeights,
    Recorded,
    adapted_learning_rate,
    explained_variance,
    gae,
    mean_and_deviation,
    normalized,
    policy_loss,
    ppo_losses,
    value_loss,
)


def test_gae_by_hand_with_two_environments() -> None:
    # Environment 0 runs on; environment 1 is truncated after its first step with a final value of 2 and starts anew.
    rewards = torch.tensor([[1.0, 10.0], [2.0, 20.0]])
    values = torch.tensor([[0.5, 5.0], [1.0, 7.0]])
    next_values = torch.tensor([[1.0, 2.0], [4.0, 8.0]])
    dones = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    advantages = gae(rewards, values, next_values, dones, gamma=0.5, gae_lambda=0.5)
    # delta_1 = (2 + 0.5·4 − 1, 20 + 0.5·8 − 7) = (3, 17)
    # delta_0 = (1 + 0.5·1 − 0.5, 10 + 0.5·2 − 5) = (1, 6); environment 0 adds 0.25·3, environment 1 nothing across its end.
    torch.testing.assert_close(advantages, torch.tensor([[1.75, 6.0], [3.0, 17.0]]))


def test_gae_never_mixes_environments() -> None:
    torch.manual_seed(0)
    rewards, values, next_values = torch.randn(3, 8, 5)[:, :, :].unbind(0)
    dones = (torch.rand(8, 5) < 0.2).float()
    whole = gae(rewards, values, next_values, dones, 0.98, 0.95)
    alone = gae(rewards[:, 2:3], values[:, 2:3], next_values[:, 2:3], dones[:, 2:3], 0.98, 0.95)
    torch.testing.assert_close(whole[:, 2:3], alone)


def test_gae_with_lambda_one_is_the_discounted_return_less_the_value() -> None:
    rewards = torch.ones(5, 1)
    values = torch.zeros(5, 1)
    next_values = torch.cat((values[1:], torch.tensor([[10.0]])))
    dones = torch.zeros(5, 1)
    expected = sum(0.9**k for k in range(5)) + 0.9**5 * 10.0
    assert gae(rewards, values, next_values, dones, 0.9, 1.0)[0].item() == pytest.approx(expected, rel=1e-6)


def test_policy_loss_stops_rewarding_beyond_the_clip() -> None:
    log_ratio = torch.tensor([math.log(1.5)], requires_grad=True)
    loss = policy_loss(log_ratio, torch.tensor([1.0]), clip=0.2)
    assert loss.item() == pytest.approx(-1.2)
    (gradient,) = torch.autograd.grad(loss, log_ratio)
    assert gradient.item() == 0.0
    assert policy_loss(torch.tensor([math.log(1.5)]), torch.tensor([-1.0]), clip=0.2).item() == pytest.approx(1.5)


def test_value_loss_takes_the_worse_of_free_and_clipped() -> None:
    values, old, returns = torch.tensor([1.0]), torch.tensor([0.0]), torch.tensor([1.0])
    assert value_loss(values, old, returns, clipped=False, clip=0.2).item() == 0.0
    assert value_loss(values, old, returns, clipped=True, clip=0.2).item() == pytest.approx(0.64)


def test_losses_at_an_unmoved_policy() -> None:
    zeros, advantages = torch.zeros(4), torch.tensor([1.0, -1.0, 2.0, -2.0])
    weights = LossWeights(clip=0.2, value=2.0, clip_value=False, value_clip=0.2, entropy=0.1, bound=3.0)
    recorded = Recorded(log_prob=zeros, value=zeros, advantage=advantages, target=zeros)
    losses = ppo_losses(recorded, Found(zeros, zeros + 1, torch.tensor(5.0), torch.tensor(0.5)), weights)
    assert losses.approx_kl == 0.0 and losses.clip_fraction == 0.0
    assert losses.total.item() == pytest.approx(0.0 + 2.0 * 1.0 - 0.1 * 5.0 + 3.0 * 0.5)


def test_bound_loss_has_a_gradient_only_outside_the_soft_bound() -> None:
    mean = torch.tensor([[0.5, 1.4, -1.9]], requires_grad=True)
    loss = bound_loss(mean)
    loss.backward()
    assert loss.item() == pytest.approx((0.5**2 + 1.0**2) / 3)
    torch.testing.assert_close(mean.grad, torch.tensor([[0.0, 2 * 0.5 / 3, -2 * 1.0 / 3]]))


def test_log_prob_and_entropy_are_those_of_torch() -> None:
    mean, log_std, action = torch.randn(6, 5), torch.randn(5), torch.randn(6, 5)
    normal = torch.distributions.Normal(mean, log_std.exp())
    torch.testing.assert_close(log_prob(mean, log_std, action), normal.log_prob(action).sum(-1))
    torch.testing.assert_close(entropy(log_std), normal.entropy()[0].sum())


def test_entropy_of_the_original_noise() -> None:
    assert entropy(torch.full((69,), -2.9)).item() == pytest.approx(-102.19324, abs=1e-4)


def test_explained_variance() -> None:
    returns = torch.tensor([1.0, 2.0, 3.0])
    assert explained_variance(returns, returns) == 1.0
    assert explained_variance(torch.full((3,), 2.0), returns) == 0.0


def test_rate_follows_the_kl_target() -> None:
    rate = torch.tensor(1.0)
    assert adapted_learning_rate(rate, torch.tensor(0.05), 0.02, 0.1, 10.0).item() == pytest.approx(1 / 1.5)
    assert adapted_learning_rate(rate, torch.tensor(0.005), 0.02, 0.1, 10.0).item() == pytest.approx(1.5)
    assert adapted_learning_rate(rate, torch.tensor(0.02), 0.02, 0.1, 10.0).item() == 1.0
    assert adapted_learning_rate(torch.tensor(9.0), torch.tensor(0.0), 0.02, 0.1, 10.0).item() == 10.0


def test_normalised_advantages_from_sums_of_two_halves() -> None:
    advantages = torch.randn(100, dtype=torch.float64) * 3 + 2
    sums = sum(torch.stack((torch.tensor(50.0).double(), half.sum(), half.square().sum())) for half in advantages.split(50))
    result = normalized(advantages, *mean_and_deviation(*sums))
    assert result.mean().abs() < 1e-9
    assert result.std(correction=0).item() == pytest.approx(1.0, abs=1e-6)
