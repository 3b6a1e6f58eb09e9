"""Segments, what a policy remembers while it collects them, and the optimiser's flat gradient."""

from typing import Tuple, Type

import pytest
import torch

from puffer_phc.config import TrainConfig
from puffer_phc.learn.distributed import World
from puffer_phc.learn.learning_rate import LearningRate
from puffer_phc.learn.optimizer import FlatAdam
from puffer_phc.learn.policy import LSTMActorPolicy, LSTMCriticPolicy, PHCPolicy, log_prob
from puffer_phc.learn.recurrent import forgotten
from puffer_phc.learn.rollout import Collector, Deterministic, Rollout, set_products
from puffer_phc.randomness import EnvRandom

POLICIES = [PHCPolicy, LSTMActorPolicy, LSTMCriticPolicy]
NUM_ENVS, NUM_STEPS, LENGTH = 4, 12, 3


def make_policy(kind: Type[PHCPolicy]) -> PHCPolicy:
    """One whose actions, values and memory matter."""
    torch.manual_seed(0)
    policy = kind(5, 2, layer_sizes=(16,), hidden_size=8, recurrent_size=6)
    with torch.no_grad():
        policy.mean_head.weight.mul_(100.0)
        policy.value_head.weight.mul_(100.0)
    return policy


class EndingEpisodes:
    """Random observations; row n ends an episode every n + 2 steps, rows 0 and 2 by truncation, the others by termination."""

    def __init__(self) -> None:
        self._generator = torch.Generator().manual_seed(3)
        self._steps = 0
        self.observations, self.final_observations = torch.zeros(NUM_ENVS, 5), torch.zeros(NUM_ENVS, 5)
        self.rewards = torch.zeros(NUM_ENVS)
        self.terminals, self.truncations = torch.zeros(2, NUM_ENVS, dtype=torch.bool).unbind(0)
        self._see()

    def _see(self) -> None:
        self.observations.normal_(generator=self._generator)

    def step(self, actions: torch.Tensor) -> None:
        self._steps += 1
        rows = torch.arange(NUM_ENVS)
        done = self._steps % (rows + 2) == 0
        self.truncations.copy_(done & (rows % 2 == 0))
        self.terminals.copy_(done & (rows % 2 == 1))
        self._see()
        self.final_observations.copy_(self.observations)
        self.observations.copy_(torch.where(done.unsqueeze(-1), 3.0 - self.observations, self.observations))


def collected(kind: Type[PHCPolicy]) -> Tuple[PHCPolicy, Rollout, Collector]:
    """The second rollout of a policy: it begins with memories of the first."""
    policy = make_policy(kind)
    rollout = Rollout(NUM_STEPS, NUM_ENVS, LENGTH, policy)
    collector = Collector(EndingEpisodes(), policy, rollout, EnvRandom(1, NUM_ENVS, torch.device("cpu")), "float32")
    collector.collect(1.0)
    collector.collect(1.0)
    return policy, rollout, collector


def test_segments_are_runs_of_one_environment_from_what_it_remembered() -> None:
    rollout = Rollout(NUM_STEPS, NUM_ENVS, LENGTH, make_policy(LSTMActorPolicy))
    order = torch.randperm(rollout.num_segments)
    rows = rollout.rows(order)
    steps, envs = rows // NUM_ENVS, rows % NUM_ENVS
    assert rows.shape == (LENGTH, NUM_STEPS * NUM_ENVS // LENGTH)
    assert (envs == envs[:1]).all()
    assert (steps[1:] - steps[:-1] == 1).all()
    assert (steps[0] % LENGTH == 0).all()
    assert rows.flatten().sort().values.tolist() == list(range(NUM_STEPS * NUM_ENVS))
    numbers = torch.arange(len(rollout.memories))[:, None] * 100 + torch.arange(NUM_ENVS)
    assert torch.equal(numbers.flatten()[order], steps[0] // LENGTH * 100 + envs[0])


@pytest.mark.parametrize("kind", POLICIES)
def test_segments_give_again_what_the_rollout_recorded(kind: Type[PHCPolicy]) -> None:
    policy, rollout, _ = collected(kind)
    segments = torch.randperm(rollout.num_segments)
    rows = rollout.rows(segments)

    def picked(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.flatten(0, 1)[rows]

    assert picked(rollout.starts)[1:].any(), "episodes begin inside segments"
    mean, value, _ = policy.unroll(picked(rollout.observations), rollout.memories.flatten(0, 1)[segments], picked(rollout.starts))
    torch.testing.assert_close(value, picked(rollout.values))
    torch.testing.assert_close(log_prob(mean, policy.log_std, picked(rollout.actions)), picked(rollout.log_probs), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", [LSTMActorPolicy, LSTMCriticPolicy])
def test_the_memory_is_carried_through_the_rollout_and_dropped_at_episode_ends(kind: Type[PHCPolicy]) -> None:
    policy, rollout, collector = collected(kind)
    memory = rollout.memories[0].clone()
    assert memory[3].abs().max() > 0.0, "row 3 is in the middle of an episode"
    for step in range(NUM_STEPS):
        if step % LENGTH == 0:
            torch.testing.assert_close(rollout.memories[step // LENGTH], memory)
        _, _, memory = policy.act(rollout.observations[step], memory)
        memory = forgotten(memory, rollout.dones[step] > 0)
    torch.testing.assert_close(collector.memory, memory)


@pytest.mark.parametrize("kind", POLICIES)
@torch.no_grad()
def test_a_truncated_episode_is_bootstrapped_with_what_it_remembers(kind: Type[PHCPolicy]) -> None:
    policy, env = make_policy(kind), EndingEpisodes()
    rollout = Rollout(1, NUM_ENVS, 1, policy)
    collector = Collector(env, policy, rollout, EnvRandom(1, NUM_ENVS, torch.device("cpu")), "float32")
    for _ in range(2 * NUM_STEPS):
        collector.collect(1.0)
    _, _, before = policy.act(rollout.observations[0], rollout.memories[0])
    expected = torch.where(env.truncations, policy.value(env.final_observations, before), torch.zeros(NUM_ENVS))
    assert expected.abs().max() > 0.0
    torch.testing.assert_close(rollout.bootstraps[0], expected)
    done = env.truncations | env.terminals
    assert torch.equal(collector.memory[done], torch.zeros_like(before[done]))
    assert torch.equal(collector.memory[~done], before[~done])


@pytest.mark.parametrize("kind", POLICIES)
def test_deterministic_play_forgets_where_an_episode_begins(kind: Type[PHCPolicy]) -> None:
    policy = make_policy(kind)
    observations = torch.randn(4, 3, 5)
    play, alone = Deterministic(policy), Deterministic(policy)
    everyone, nobody = torch.ones(3, dtype=torch.bool), torch.zeros(3, dtype=torch.bool)
    play(observations[0], everyone)
    play(observations[1], nobody)
    third = play(observations[2], torch.tensor([False, True, False]))
    fresh = alone(observations[2], everyone)
    torch.testing.assert_close(third[1], fresh[1])
    assert torch.allclose(third[0], fresh[0]) == (kind is not LSTMActorPolicy)


def quadratic(module: torch.nn.Module) -> torch.Tensor:
    return sum((p - 3.0).square().sum() for p in module.parameters())  # type: ignore[return-value]


def test_flat_adam_steps_like_torch_adam_with_clipping() -> None:
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    theirs.load_state_dict(ours.state_dict())
    flat = FlatAdam(ours, eps=1e-5, max_grad_norm=1.0, world=World())
    flat.rate.fill_(0.01)
    adam = torch.optim.Adam(theirs.parameters(), lr=0.01, eps=1e-5)
    for _ in range(5):
        flat.backward(quadratic(ours))
        norm = flat.step()
        adam.zero_grad()
        quadratic(theirs).backward()
        expected = torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        adam.step()
        torch.testing.assert_close(norm, expected)
    for a, b in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_flat_adam_goes_on_exactly_from_its_state() -> None:
    torch.manual_seed(0)
    module = torch.nn.Linear(3, 2)
    first = FlatAdam(module, eps=1e-5, max_grad_norm=10.0, world=World())
    first.rate.fill_(0.05)
    for _ in range(3):
        first.backward(quadratic(module))
        first.step()
    twin = torch.nn.Linear(3, 2)
    twin.load_state_dict(module.state_dict())
    second = FlatAdam(twin, eps=1e-5, max_grad_norm=10.0, world=World())
    second.load_state_dict(first.state_dict())
    for optimizer, net in ((first, module), (second, twin)):
        optimizer.backward(quadratic(net))
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(module.parameters(), twin.parameters()))
    assert second.rate.item() == first.rate.item()


def test_learning_rate_decays_to_its_floor() -> None:
    rate = LearningRate(TrainConfig(learning_rate=1e-4, lr_decay_rate=1.5e-4, lr_decay_floor=0.2), 1, torch.device("cpu"))
    assert rate.scheduled(0) == 1e-4
    assert abs(rate.scheduled(3815) / 1e-4 - 0.56428) < 1e-4
    assert rate.scheduled(20_000) == 0.2e-4
    assert rate.next(20_000, progress=1.0, step_factor=0.5) == pytest.approx(0.1e-4)


def test_the_learning_rate_cools_down_at_the_end_whatever_the_divergence() -> None:
    options = TrainConfig(learning_rate=1e-4, lr_decay_rate=0.0, lr_cooldown=0.25, target_kl=0.02)
    rate = LearningRate(options, 1, torch.device("cpu"))
    found = [rate.next(0, progress, step_factor=1.0).item() for progress in (0.0, 0.75, 0.8, 0.9, 1.0)]
    assert found == pytest.approx([1e-4, 1e-4, 0.8e-4, 0.4e-4, 0.0], abs=1e-10)
    rate.adapt(torch.tensor(0.001), progress=0.5)
    assert rate.next(0, 0.5, step_factor=1.0).item() == pytest.approx(1.5e-4)
    rate.adapt(torch.tensor(0.001), progress=0.8)
    assert rate.next(0, 0.8, step_factor=1.0).item() == pytest.approx(1.2e-4)
    rate.adapt(torch.tensor(0.1), progress=0.8)
    assert rate.next(0, 0.8, step_factor=1.0).item() == pytest.approx(0.8e-4)


def test_without_a_cool_down_the_last_iteration_learns_like_the_others() -> None:
    rate = LearningRate(TrainConfig(learning_rate=1e-4, lr_decay_rate=0.0), 1, torch.device("cpu"))
    assert rate.next(0, progress=1.0, step_factor=1.0).item() == pytest.approx(1e-4)


def test_policies_are_judged_without_rounding_whatever_training_allows(monkeypatch):
    seen = []
    policy = PHCPolicy(5, 3, (8,), 4)
    monkeypatch.setattr(policy, "mean_action", lambda observations, memory: (seen.append(torch.get_float32_matmul_precision()), memory))
    before = torch.get_float32_matmul_precision()
    try:
        set_products("tf32")
        Deterministic(policy)(torch.zeros(2, policy.observation_size), torch.ones(2, dtype=torch.bool))
        assert seen == ["highest"]
        assert torch.get_float32_matmul_precision() == "high"
    finally:
        torch.set_float32_matmul_precision(before)
