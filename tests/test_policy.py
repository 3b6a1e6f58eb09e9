"""The policy network: size, heads, PufferLib's conventions, normaliser."""

from typing import Type

import pytest
import torch

from puffer_phc.config import BaseConfig, Config
from puffer_phc.learn.policy import AlignedLinear, LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy
from puffer_phc.learn.running_norm import RunningNorm, combine, moments
from puffer_phc.resolve import resolve

POLICIES = [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy]


def small_policy(kind: Type[PHCPolicy] = PHCPolicy, **options: object) -> PHCPolicy:
    torch.manual_seed(0)
    return kind(20, 7, layer_sizes=(16, 12), hidden_size=8, recurrent_size=10, **options)  # type: ignore[arg-type]


def test_original_dimensions_have_the_original_number_of_parameters() -> None:
    policy = PHCPolicy(934, 69)
    assert sum(p.numel() for p in policy.parameters() if p.requires_grad) == 16_984_134
    assert policy.log_std.shape == (69,) and not policy.log_std.requires_grad
    assert policy.log_std.exp()[0].item() == pytest.approx(0.0550232, abs=1e-6)


@pytest.mark.parametrize("kind,parameters", [(LSTMActorPolicy, 13_534_278), (LSTMCriticPolicy, 16_197_702)])
def test_recurrent_policies_have_the_original_number_of_parameters(kind: Type[PHCPolicy], parameters: int) -> None:
    config = resolve(Config(base=BaseConfig(policy_name=kind.__name__)), torch.device("cuda"))
    sizes, width = config.policy, config.rnn.hidden_size
    policy = kind(934, 69, sizes.layer_sizes, sizes.hidden_size, sizes.critic_layer_sizes, width)
    assert sum(p.numel() for p in policy.parameters() if p.requires_grad) == parameters


def test_learned_noise_is_a_parameter() -> None:
    assert small_policy(learn_std=True).log_std.requires_grad


def test_pufferlib_methods_agree_with_the_direct_ones_without_memory() -> None:
    policy, observations = small_policy(), torch.randn(5, 20)
    distribution, value = policy.decode_actions(policy.encode_observations(observations))
    mean, flat_value, _ = policy.act(observations, policy.no_memory(5))
    torch.testing.assert_close(distribution.mean, mean)
    torch.testing.assert_close(value.squeeze(-1), flat_value)
    torch.testing.assert_close(policy(observations)[0].mean, mean)
    assert distribution.stddev.shape == (5, 7) and value.shape == (5, 1)


@pytest.mark.parametrize("kind", POLICIES)
def test_parts_of_a_step_agree_with_the_whole(kind: Type[PHCPolicy]) -> None:
    policy, observations = small_policy(kind), torch.randn(5, 20)
    memory = torch.randn(5, policy.memory_size)
    mean, value, after = policy.act(observations, memory)
    acted, actors = policy.mean_action(observations, memory)
    torch.testing.assert_close(acted, mean)
    torch.testing.assert_close(policy.value(observations, memory), value)
    torch.testing.assert_close(actors, memory if kind is LSTMCriticPolicy else after)


@pytest.mark.parametrize("kind", POLICIES)
def test_untrained_means_are_near_zero(kind: Type[PHCPolicy]) -> None:
    policy = small_policy(kind)
    mean, _, _ = policy.act(torch.randn(50, 20), policy.no_memory(50))
    assert mean.abs().max() < 0.1


@pytest.mark.parametrize("kind", POLICIES)
def test_actor_and_critic_share_no_gradient(kind: Type[PHCPolicy]) -> None:
    policy = small_policy(kind)
    _, values, _ = policy.act(torch.randn(5, 20), policy.no_memory(5))
    values.sum().backward()
    for name, parameter in policy.named_parameters():
        if parameter.requires_grad:
            assert (parameter.grad is not None) == name.startswith(("critic", "value_head")), name


def test_moments_combine_exactly() -> None:
    rows = torch.randn(100, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([0.0, 100.0, -3.0])
    combined = combine(moments(rows[:30]), moments(rows[30:]))
    torch.testing.assert_close(combined.mean.float(), rows.mean(0))
    torch.testing.assert_close((combined.deviation / combined.count).float(), rows.var(0, correction=0), rtol=1e-4, atol=1e-6)


def test_running_norm_counts_the_variance_between_batches() -> None:
    norm = RunningNorm(1)
    norm.update(moments(torch.zeros(10, 1)))
    norm.update(moments(torch.full((10, 1), 2.0)))
    assert norm.mean.item() == pytest.approx(1.0)
    assert norm.variance.item() == pytest.approx(1.0)
    torch.testing.assert_close(norm(torch.tensor([[2.0], [1e6]])), torch.tensor([[1.0], [10.0]]), rtol=1e-4, atol=1e-4)


def test_running_norm_forgets_beyond_its_memory() -> None:
    norm = RunningNorm(1, memory=100)
    for _ in range(50):
        norm.update(moments(torch.zeros(100, 1)))
    for _ in range(10):
        norm.update(moments(torch.ones(100, 1)))
    assert norm.mean.item() > 0.99


def test_running_norm_stands_still_in_forward() -> None:
    norm = RunningNorm(4)
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    norm(torch.randn(100, 4))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())


@pytest.mark.parametrize("columns", [13, 934])
def test_padding_changes_neither_results_nor_gradients(columns):
    torch.manual_seed(0)
    layer, plain = AlignedLinear(columns, 5), torch.nn.Linear(columns, 5)
    plain.load_state_dict(layer.state_dict())
    inputs = torch.randn(3, 2, columns)
    for one in (layer, plain):
        one(inputs).square().sum().backward()
    assert torch.allclose(layer(inputs), plain(inputs), atol=1e-6)
    assert torch.allclose(layer.weight.grad, plain.weight.grad, atol=1e-4)
