"""When rollouts are collected: each in its turn, or the next one while the update from the last one is under way."""

import contextlib
import copy
from typing import ContextManager

import torch

from puffer_phc.env.puffer import PufferImitation
from puffer_phc.learn.optimizer import all_tensors
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.rollout import Collector, Rollout
from puffer_phc.randomness import EnvRandom


class InTurn:
    """A rollout is collected when it is asked for, with the weights of then."""

    is_pending = False

    def __init__(self, collector: Collector) -> None:
        self.collector = collector

    def gather(self, reward_scale: float, goes_on: bool) -> None:
        """Fill the rollout; rewards are multiplied by ``reward_scale``. What comes next makes no difference."""
        self.collector.collect(reward_scale)

    def join(self) -> None:
        """Nothing is under way."""

    def drop(self) -> None:
        """Nothing is pending."""


class Ahead:
    """A collector whose policy is a copy of the trained one, so that both can be at work at once.

    What it collects is by the weights of the moment when it began, one update older than those that learn from it: PPO's ratio takes care
    of that as of the passes over a batch. Physics is many small launches that wait for each other and an update is large matrix products,
    so that a GPU has room for both: the collection has a stream of its own, and goes first where both want the same processor. On a CPU
    the same happens one after the other, with the same result.
    """

    def __init__(
        self, env: PufferImitation, policy: PHCPolicy, rollout: Rollout, random: EnvRandom, precision: str, compiled: bool
    ) -> None:
        """``rollout`` is the one that is learned from."""
        self._policy, self._actor = policy, copy.deepcopy(policy)
        self._rollout, self._gathered = rollout, Rollout(rollout.num_steps, rollout.num_envs, rollout.segment_length, policy)
        self.collector = Collector(env, self._actor, self._gathered, random, precision, compiled)
        device = policy.log_std.device
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self.is_pending = False
        """Whether a rollout is under way or done that nobody has taken."""

    def gather(self, reward_scale: float, goes_on: bool) -> None:
        """Fill the rollout that is learned from with what was collected ahead, or is now; where it ``goes_on``, begin the next.

        Rewards are multiplied by ``reward_scale``.
        """
        if not self.is_pending:
            self.begin(reward_scale)
        self.join()
        self._rollout.copy_(self._gathered)
        self.is_pending = False
        if goes_on:
            self.begin(reward_scale)

    def begin(self, reward_scale: float) -> None:
        """Collect with the weights as they are now; rewards are multiplied by ``reward_scale``."""
        for own, source in zip(all_tensors(self._actor), all_tensors(self._policy)):
            own.copy_(source)
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream())
        with self._on_stream():
            self.collector.collect(reward_scale)
        self.is_pending = True

    def join(self) -> None:
        """Let all that is asked of the device from now on come after the collection. The host does not wait."""
        if self._stream is not None:
            torch.cuda.current_stream().wait_stream(self._stream)

    def drop(self) -> None:
        """Forget what was collected."""
        self.join()
        self.is_pending = False

    def _on_stream(self) -> ContextManager[object]:
        return contextlib.nullcontext() if self._stream is None else torch.cuda.stream(self._stream)
