"""The discriminator in training: it rewards a rollout, then learns from it, from earlier ones and from demonstrations."""

from typing import Any, Dict, List, Optional, Union

import torch
from torch import Tensor

from puffer_phc.config import Config, chosen
from puffer_phc.learn.discriminator import Discriminator, DiscriminatorLosses, discriminator_losses, style_reward
from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import FlatAdam, all_finite, all_tensors, sound_means
from puffer_phc.learn.rollout import Rollout, autocast
from puffer_phc.learn.running_norm import moments
from puffer_phc.learn.seen import SeenSteps

_SEED_OFFSET = 1 << 16
"""Keeps the draws of rows and demonstrations apart from the trainer's, whatever the number of processes."""

_METRIC_NAMES = {
    "prediction": "losses/disc_loss",
    "penalty": "losses/disc_grad_penalty",
    "agent_accuracy": "losses/disc_agent_acc",
    "demo_accuracy": "losses/disc_demo_acc",
}
"""The original's names where it has them."""


class NoStyle:
    """Training without a discriminator: there is nothing to reward, to learn, to save."""

    is_new = False

    def __init__(self) -> None:
        self.parts: Dict[str, Any] = {}

    def reward(self) -> None:
        """The rollout's rewards stay what they are."""

    def update(self, step_factor: float) -> Dict[str, Tensor]:
        """No figures."""
        return {}

    def is_finite(self) -> bool:
        """There are no weights that are not."""
        return True

    def take_in(self) -> None:
        """Nothing to learn."""

    def shared_state(self) -> None:
        """Empty."""

    def own_state(self) -> None:
        """Empty."""

    def load_shared(self, state: Optional[Dict[str, Any]]) -> None:
        """Raise ValueError where a run had a discriminator: it would be lost, and the rewards would be others."""
        if state is not None:
            raise ValueError("the run had a discriminator, which would be lost without env.use_amp_obs or env.use_add_obs")

    def load_own(self, state: Optional[Dict[str, Any]]) -> None:
        """Nothing to take over."""


class Style:
    """A discriminator, its optimiser, and a memory of what earlier policies did, of a rollout whose rewards it has a part in.

    Several processes share the discriminator and average its gradients and statistics; each has draws and a memory of its own.
    """

    def __init__(self, config: Config, seen: SeenSteps, rewards: Tensor, world: World) -> None:
        self._options = options = config.discriminator
        self._seen, self._rewards, self._observer, self._world = seen, rewards, seen.observer, world
        device = rewards.device
        self.discriminator = _new_discriminator(config, seen.size, seen.observer.is_difference).to(device)
        self.optimizer = FlatAdam(self.discriminator, config.train.adam_eps, config.train.max_grad_norm, world)
        self._batch_size = chosen(options.batch_size)
        self._reward_scale = (1.0 - config.train.gamma) * options.reward_scale * chosen(options.style_weight)
        self._task_weight = chosen(options.task_weight)
        self._num_steps = config.train.update_epochs * (chosen(config.train.batch_size) // chosen(config.train.minibatch_size))
        self._rows = torch.arange(rewards.numel(), device=device).view_as(rewards)
        self._memory = torch.zeros(options.replay_size, seen.size, device=device)
        self._has_memory, self._oldest = False, 0
        self._mean_reward = torch.zeros((), device=device)
        self._generator = torch.Generator(device=device).manual_seed(config.train.seed + _SEED_OFFSET + world.rank)
        self._losses = torch.compile(discriminator_losses) if config.train.compile else discriminator_losses
        self._precision = config.train.precision
        world.broadcast_(all_tensors(self.discriminator))

    @property
    def is_new(self) -> bool:
        """Whether nothing has been seen yet, so that there are no statistics to go by."""
        return not self._has_memory

    @property
    def parts(self) -> Dict[str, Any]:
        """What has to go back together where training went wrong, by name."""
        return {"discriminator": self.discriminator, "discriminator_optimizer": self.optimizer}

    @torch.no_grad()
    def reward(self) -> None:
        """Blend the rollout's rewards (T, N), in place, with the style reward of the state that each action led to.

        Both are scaled by 1 − γ, as the rollout's are.
        """
        total = torch.zeros((), device=self._memory.device)
        for rows, rewards in zip(self._rows, self._rewards):
            seen = self._seen.windows(rows)
            with autocast(self._precision, seen.device):
                logits = self.discriminator(seen)
            style = style_reward(logits)
            rewards.mul_(self._task_weight).add_(style, alpha=self._reward_scale)
            total += style.mean()
        self._mean_reward = self._options.reward_scale * total / len(self._rewards)

    def update(self, step_factor: float) -> Dict[str, Tensor]:
        """As many gradient steps as the policy makes, with ``step_factor`` of the rate; returns figures () by metric name, on the device.

        They are means over the steps of finite gradient, the number of the others, and the mean of the last rewards.
        """
        self.optimizer.rate.fill_(chosen(self._options.learning_rate) * step_factor)
        records: List[Tensor] = []
        for _ in range(self._num_steps):
            agent = torch.cat((self._drawn_now(), self._memory[self._picks(len(self._memory), self._batch_size)]))
            demonstrations = self._observer.demonstrations(self._batch_size, self._generator)
            with autocast(self._precision, agent.device):
                losses = self._losses(self.discriminator, agent, demonstrations, self._observer.is_difference, self._options)
            self.optimizer.backward(losses.total)
            norm = self.optimizer.step()
            records.append(torch.stack((*losses[1:], norm)).detach())
        means, skipped = sound_means(torch.stack(records))
        means = self._world.mean_(torch.cat((means[:-1], self._mean_reward.unsqueeze(0))))
        names = [_METRIC_NAMES[name] for name in DiscriminatorLosses._fields[1:]]
        return {**dict(zip((*names, "environment/style_reward"), means)), "losses/disc_skipped_steps": skipped}

    def is_finite(self) -> bool:
        """Whether all weights are. Waits for the device."""
        return all_finite(self.discriminator)

    @torch.no_grad()
    def take_in(self) -> None:
        """Learn what is usual, and put rows of the rollout into the memory: all that it holds at first, then in place of the oldest."""
        sample = self._drawn_now()
        if not self._observer.is_difference:
            sample = torch.cat((sample, self._observer.demonstrations(self._batch_size, self._generator)))
        self.discriminator.norm.update(self._world.combined(moments(sample)))
        size = len(self._memory)
        count = max(1, round(self._options.replay_rate * size)) if self._has_memory else size
        places = (self._oldest + torch.arange(count, device=sample.device)) % size
        rows = self._picks(self._rows.numel(), count)
        for some_places, some_rows in zip(places.split(self._rows.shape[1]), rows.split(self._rows.shape[1])):
            self._memory[some_places] = self._seen.windows(some_rows)
        self._has_memory, self._oldest = True, (self._oldest + count) % size

    def _drawn_now(self) -> Tensor:
        """A batch (M, S) of the rollout, with replacement."""
        return self._seen.windows(self._picks(self._rows.numel(), self._batch_size))

    def _picks(self, num_rows: int, count: int) -> Tensor:
        return torch.randint(num_rows, (count,), generator=self._generator, device=self._memory.device)

    def shared_state(self) -> Dict[str, Any]:
        """What is the same in every process."""
        return {"discriminator": self.discriminator.state_dict(), "optimizer": self.optimizer.state_dict()}

    def own_state(self) -> Dict[str, Any]:
        """What each process has for itself."""
        memory = {"memory": self._memory.clone(), "has_memory": self._has_memory, "oldest": self._oldest}
        return {**memory, "carried": self._seen.carried.clone(), "random": self._generator.get_state()}

    def load_shared(self, state: Optional[Dict[str, Any]]) -> None:
        """Take up ``shared_state``. Raises ValueError where a run had none, or one of other columns or layers."""
        if state is None:
            raise ValueError("the run had no discriminator")
        sizes = [{name: tensor.shape for name, tensor in of.items()} for of in (state["discriminator"], self.discriminator.state_dict())]
        if sizes[0] != sizes[1]:
            raise ValueError("the run's discriminator sees something else or has other layers")
        self.discriminator.load_state_dict(state["discriminator"])
        self.optimizer.load_state_dict(state["optimizer"])

    def load_own(self, state: Dict[str, Any]) -> None:
        """Take up ``own_state``. Raises ValueError where its memory has another size."""
        if len(state["memory"]) != len(self._memory):
            raise ValueError(f"discriminator.replay_size is {len(self._memory)}, the run's memory has {len(state['memory'])} rows")
        self._memory.copy_(state["memory"])
        self._seen.carried.copy_(state["carried"])
        self._has_memory, self._oldest = state["has_memory"], state["oldest"]
        self._generator.set_state(state["random"])


AnyStyle = Union[Style, NoStyle]


def make_style(config: Config, rollout: Rollout, world: World) -> AnyStyle:
    """The discriminator of what is seen in ``rollout``, where anything is."""
    return NoStyle() if rollout.seen is None else Style(config, rollout.seen, rollout.rewards, world)


def _new_discriminator(config: Config, size: int, is_difference: bool) -> Discriminator:
    """Its weights drawn from ``train.seed`` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.train.seed)
        return Discriminator(size, chosen(config.discriminator.layer_sizes), is_difference)
