"""T steps of N environments as device tensors, and the loop that fills them."""

import contextlib
from typing import Callable, Iterator, Optional, Protocol

import torch
from torch import Tensor

from puffer_phc import looking
from puffer_phc.env.captured import CapturedCall
from puffer_phc.env.imitation import Episodes
from puffer_phc.learn.policy import PHCPolicy, log_prob
from puffer_phc.learn.recurrent import forgotten
from puffer_phc.learn.seen import SeenSteps
from puffer_phc.randomness import EnvRandom
from puffer_phc.threads import one_thread_on


def autocast(precision: str, device: torch.device) -> "torch.autocast":
    """The context in which networks run: bf16 matrix products where ``precision`` says so, else none.

    Weights are cast anew at each use: a cache would outlive the steps that change them when a CUDA graph is recorded.
    """
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def set_products(precision: str) -> None:
    """Let float32 matrix products of this process round as ``train.precision`` allows: TF32 unless it is float32."""
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")


@contextlib.contextmanager
def exact_products() -> Iterator[None]:
    """Float32 matrix products without TF32's rounding."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class Deterministic:
    """A policy without exploration, and what it remembers of each row.

    In float32 whatever training's precision: figures are then of the weights, and those of two backends can be compared.
    """

    def __init__(self, policy: PHCPolicy) -> None:
        self._policy = policy
        self.memory: Optional[Tensor] = None
        """(N, W) of the rows of the last call."""

    @torch.no_grad()
    def __call__(self, observations: Tensor, starts: Tensor) -> Tensor:
        """Mean actions (N, A) for raw observations (N, O); rows where ``starts`` (N,) bool is true begin an episode and forget the last."""
        if self.memory is None or len(self.memory) != len(starts):
            self.memory = self._policy.no_memory(len(starts))
        with exact_products():
            mean, self.memory = self._policy.mean_action(observations, forgotten(self.memory, starts))
        return mean


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
    episodes: Episodes
    """Those under way."""

    def step(self, actions: Tensor) -> object:
        """Act on all environments and rewrite the buffers in place."""
        ...


class Rollout:
    """Tensors of one iteration, time first, allocated once.

    observations (T, N, O), actions (T, N, A), log_probs, values, rewards, dones, bootstraps, next_values (T, N) float32.
    ``bootstraps`` are the values of final observations where an episode was truncated, else zero. ``starts`` (T, N) bool says which steps
    are an episode's first. ``memories`` (T / L, N, W) is what the policy remembered at the first step of each segment of L steps; it knows
    of the episodes that ended before, so that ``starts`` matters inside segments only. ``seen`` is what a discriminator is shown of it.
    """

    def __init__(self, num_steps: int, num_envs: int, segment_length: int, policy: PHCPolicy, seen: Optional[SeenSteps] = None) -> None:
        device = policy.log_std.device

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(num_steps, num_envs, *shape, device=device)

        self.num_steps, self.num_envs, self.segment_length, self.seen = num_steps, num_envs, segment_length, seen
        self.observations, self.actions = zeros(policy.observation_size), zeros(policy.action_size)
        self.log_probs, self.values, self.rewards = zeros(), zeros(), zeros()
        self.dones, self.bootstraps, self.next_values = zeros(), zeros(), zeros()
        self.starts = zeros().bool()
        self.memories = torch.zeros(num_steps // segment_length, num_envs, policy.memory_size, device=device)

    @property
    def num_segments(self) -> int:
        """S, those of all environments."""
        return self.num_steps // self.segment_length * self.num_envs

    def copy_(self, other: "Rollout") -> None:
        """Take over all that ``other``, of the same sizes, holds, but for what a discriminator is shown."""
        for name, tensor in vars(self).items():
            if isinstance(tensor, Tensor):
                tensor.copy_(getattr(other, name))

    def rows(self, segments: Tensor) -> Tensor:
        """Row indices (L, S) into tensors (T, N, ...) flattened to (T·N, ...): the steps of each of ``segments`` (S,), time first.

        A segment is L steps of one environment. Segments are numbered as the rows of ``memories`` flattened to (T/L·N, W).
        """
        first = (segments // self.num_envs) * self.segment_length * self.num_envs + segments % self.num_envs
        return first + torch.arange(self.segment_length, device=segments.device).unsqueeze(1) * self.num_envs


class Collector:
    """Runs a policy in an environment and records what happened; ``compiled`` fuses the policy's networks with ``torch.compile``."""

    def __init__(
        self, env: VectorEnv, policy: PHCPolicy, rollout: Rollout, random: EnvRandom, precision: str, compiled: bool = False
    ) -> None:
        self.env, self.policy, self.rollout, self._random, self._precision = env, policy, rollout, random, precision
        self._act = torch.compile(policy.act, dynamic=False) if compiled else policy.act
        self._value_of = torch.compile(policy.value, dynamic=False) if compiled else policy.value
        num_envs, self._device = rollout.num_envs, rollout.values.device
        device = self._device
        self._action = torch.zeros(num_envs, policy.action_size, device=device)
        self._log_prob, self._value = torch.zeros(num_envs, device=device), torch.zeros(num_envs, device=device)
        self._bootstrap = torch.zeros(num_envs, device=device)
        self.memory = policy.no_memory(num_envs)
        """(N, W) what the policy remembers of each row's episode so far."""
        self._decide: Callable[[], None] = self._sample_actions
        self._conclude: Callable[[], None] = self._close_episodes
        if device.type == "cuda":
            self._decide = CapturedCall(self._sample_actions, [random.generator])
            self._conclude = CapturedCall(self._close_episodes)

    @torch.no_grad()
    def collect(self, reward_scale: float) -> None:
        """Fill the rollout; rewards are multiplied by ``reward_scale``."""
        with one_thread_on(self._device):
            self._collect(reward_scale)

    def forget(self, rows: Tensor) -> None:
        """Drop what is remembered of ``rows`` (N,) bool, whose episodes ended since the last rollout."""
        self.memory.copy_(forgotten(self.memory, rows))

    def _collect(self, reward_scale: float) -> None:
        rollout, env = self.rollout, self.env
        for t in range(rollout.num_steps):
            if t % rollout.segment_length == 0:
                rollout.memories[t // rollout.segment_length].copy_(self.memory)
            self._decide()
            rollout.observations[t].copy_(env.observations)
            rollout.actions[t].copy_(self._action)
            rollout.log_probs[t].copy_(self._log_prob)
            rollout.values[t].copy_(self._value)
            if rollout.seen is not None:
                rollout.seen.before(t, env.episodes)
            env.step(self._action)
            self._conclude()
            torch.mul(env.rewards, reward_scale, out=rollout.rewards[t])
            rollout.dones[t].copy_(env.terminals | env.truncations)
            rollout.bootstraps[t].copy_(self._bootstrap)
            if rollout.seen is not None:
                rollout.seen.after(t)
        self._link_values()

    def _sample_actions(self) -> None:
        with autocast(self._precision, self._device):
            mean, value, memory = self._act(self.env.observations, self.memory)
        noise = self._random.normal(self.policy.action_size)
        torch.add(mean, self.policy.log_std.exp() * noise, out=self._action)
        self._log_prob.copy_(log_prob(mean, self.policy.log_std, self._action))
        self._value.copy_(value)
        self.memory.copy_(memory)

    def _close_episodes(self) -> None:
        """Value the final observations of truncated episodes, then forget what belongs to episodes that ended."""
        truncated = self.env.truncations
        if looking.finds_none(truncated):
            self._bootstrap.zero_()
        else:
            with autocast(self._precision, self._device):
                value = self._value_of(self.env.final_observations, self.memory)
            self._bootstrap.copy_(torch.where(truncated, value, torch.zeros_like(value)))
        self.forget(self.env.terminals | truncated)

    def _link_values(self) -> None:
        rollout = self.rollout
        rollout.starts[1:].copy_(rollout.dones[:-1])
        with autocast(self._precision, self._device):
            last = self._value_of(self.env.observations, self.memory)
        following = torch.cat((rollout.values[1:], last.unsqueeze(0)))
        rollout.next_values.copy_(torch.where(rollout.dones > 0, rollout.bootstraps, following))
