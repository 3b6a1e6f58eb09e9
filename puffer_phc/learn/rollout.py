"""T steps of N environments as device tensors, and the loop that fills them."""

import contextlib
from typing import Callable, Iterator, Protocol, Tuple

import torch
from torch import Tensor

from puffer_phc.learn.captured import CapturedCall
from puffer_phc.learn.policy import PHCPolicy, log_prob
from puffer_phc.randomness import EnvRandom


def autocast(precision: str, device: torch.device) -> "torch.autocast":
    """The context in which networks run: bf16 matrix products where ``precision`` says so, else none.

    Weights are cast anew at each use: a cache would outlive the steps that change them when a CUDA graph is recorded.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: on a CPU the physics engine has the cores, and a step's tensors are too small to share out."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def deterministic(policy: PHCPolicy, precision: str) -> Callable[[Tensor], Tensor]:
    """The policy without exploration, raw observations (N, O) to mean actions (N, A), in the precision of training."""

    @torch.no_grad()
    def act(observations: Tensor) -> Tensor:
        with autocast(precision, observations.device):
            return policy.mean_action(observations)

    return act


class VectorEnv(Protocol):
    """The part of a PufferEnv with device buffers that a rollout needs."""

    observations: Tensor
    """(N, O) raw."""
    rewards: Tensor
    """(N,)."""
    terminals: Tensor
    """(N,) bool."""
    truncations: Tensor
    """(N,) bool."""
    final_observations: Tensor
    """(N, O) of the states before resets."""

    def step(self, actions: Tensor) -> object:
        """Act on all environments and rewrite the buffers in place."""
        ...


class Rollout:
    """Tensors of one iteration, time first, allocated once.

    observations (T, N, O), actions (T, N, A), log_probs, values, rewards, dones, bootstraps, next_values (T, N) float32.
    ``bootstraps`` are the values of final observations where an episode was truncated, else zero.
    """

    def __init__(self, num_steps: int, num_envs: int, observation_size: int, action_size: int, device: torch.device) -> None:
        def zeros(*shape: int) -> Tensor:
            return torch.zeros(num_steps, num_envs, *shape, device=device)

        self.num_steps, self.num_envs = num_steps, num_envs
        self.observations, self.actions = zeros(observation_size), zeros(action_size)
        self.log_probs, self.values, self.rewards = zeros(), zeros(), zeros()
        self.dones, self.bootstraps, self.next_values = zeros(), zeros(), zeros()


class Collector:
    """Runs a policy in an environment and records what happened."""

    def __init__(self, env: VectorEnv, policy: PHCPolicy, rollout: Rollout, random: EnvRandom, precision: str) -> None:
        self.env, self.policy, self.rollout, self._random, self._precision = env, policy, rollout, random, precision
        num_envs, self._device = rollout.num_envs, rollout.values.device
        device = self._device
        self._action = torch.zeros(num_envs, policy.action_size, device=device)
        self._log_prob, self._value = torch.zeros(num_envs, device=device), torch.zeros(num_envs, device=device)
        self._bootstrap = torch.zeros(num_envs, device=device)
        self._waits_are_free = device.type == "cpu"
        self._decide: Callable[[], None] = self._sample_actions
        self._judge: Callable[[], None] = self._value_truncated
        if device.type == "cuda":
            self._decide = CapturedCall(self._sample_actions, [random.generator])
            self._judge = CapturedCall(self._value_truncated)

    @torch.no_grad()
    def collect(self, reward_scale: float) -> None:
        """Fill the rollout; rewards are multiplied by ``reward_scale``."""
        with one_thread() if self._waits_are_free else contextlib.nullcontext():
            self._collect(reward_scale)

    def _collect(self, reward_scale: float) -> None:
        rollout, env = self.rollout, self.env
        for t in range(rollout.num_steps):
            self._decide()
            rollout.observations[t].copy_(env.observations)
            rollout.actions[t].copy_(self._action)
            rollout.log_probs[t].copy_(self._log_prob)
            rollout.values[t].copy_(self._value)
            env.step(self._action)
            self._judge()
            torch.mul(env.rewards, reward_scale, out=rollout.rewards[t])
            rollout.dones[t].copy_(env.terminals | env.truncations)
            rollout.bootstraps[t].copy_(self._bootstrap)
        self._link_values()

    def _sample_actions(self) -> None:
        with autocast(self._precision, self._device):
            mean, value = self.policy.mean_and_value(self.env.observations)
        noise = self._random.normal(self.policy.action_size)
        torch.add(mean, self.policy.log_std.exp() * noise, out=self._action)
        self._log_prob.copy_(log_prob(mean, self.policy.log_std, self._action))
        self._value.copy_(value)

    def _value_truncated(self) -> None:
        truncated = self.env.truncations
        if self._waits_are_free and not bool(truncated.any()):
            self._bootstrap.zero_()
            return
        with autocast(self._precision, self._device):
            value = self.policy.value(self.env.final_observations)
        self._bootstrap.copy_(torch.where(truncated, value, torch.zeros_like(value)))

    def _link_values(self) -> None:
        rollout = self.rollout
        with autocast(self._precision, self._device):
            last = self.policy.value(self.env.observations)
        following = torch.cat((rollout.values[1:], last.unsqueeze(0)))
        rollout.next_values.copy_(torch.where(rollout.dones > 0, rollout.bootstraps, following))


def segments(num_steps: int, num_envs: int, length: int, order: Tensor) -> Tensor:
    """Row indices (S, length) into a time-first rollout flattened to (T·N,): runs of ``length`` steps of one environment.

    ``order`` (S,) permutes the S = N · T / length segments.
    """
    starts = (order // num_envs) * length * num_envs + order % num_envs
    return starts.unsqueeze(1) + torch.arange(length, device=order.device) * num_envs


def flat(rollout: Rollout) -> Tuple[Tensor, Tensor, Tensor, Tensor]:
    """Observations (T·N, O), actions (T·N, A), log-probabilities and values (T·N,) as views."""
    return (
        rollout.observations.flatten(0, 1),
        rollout.actions.flatten(0, 1),
        rollout.log_probs.flatten(),
        rollout.values.flatten(),
    )
