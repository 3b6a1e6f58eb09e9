"""The update: several passes over a rollout that make the policy better by PPO."""

from typing import Any, Dict, Iterator, List

import torch
from torch import Tensor

from puffer_phc.config import TrainConfig, chosen
from puffer_phc.learn.distributed import World
from puffer_phc.learn.learning_rate import LearningRate
from puffer_phc.learn.optimizer import FlatAdam, sound_means
from puffer_phc.learn.policy import PHCPolicy, bound_loss, entropy, log_prob
from puffer_phc.learn.ppo import Found, Losses, LossWeights, Recorded, explained_variance, mean_and_deviation, normalized, ppo_losses
from puffer_phc.learn.rollout import Rollout, autocast

_METRIC_NAMES = {
    "total": "total_loss",
    "policy": "policy_loss",
    "value": "value_loss",
    "bound": "mean_bound_loss",
    "clip_fraction": "clipfrac",
    "grad_norm": "before_clip_grad_norm",
    "drift": "l2_init_reg_loss",
}
"""The original's names of losses, where they differ from ours."""


class Updater:
    """Improves ``policy`` by what is in ``rollout``. Owns the optimiser, its rate, the order of samples, and the initial weights.

    Several processes average their gradients; each draws an order of its own. The weights that ``policy`` has at construction, which have
    to be the same in all of them, are those that ``train.l2_reg_coef`` pulls to.
    """

    def __init__(self, options: TrainConfig, policy: PHCPolicy, rollout: Rollout, world: World) -> None:
        device = policy.log_std.device
        self._options, self._policy, self._rollout, self._world = options, policy, rollout, world
        self.optimizer = FlatAdam(policy, options.adam_eps, options.max_grad_norm, world)
        self.rate = LearningRate(options, world.size, device)
        self.losses = torch.compile(self.minibatch_losses) if options.compile else self.minibatch_losses
        """``minibatch_losses``, fused where ``train.compile`` asks for it."""
        self._weights = loss_weights(options)
        self._initial = [p.detach().clone() for p in policy.parameters()] if options.l2_reg_coef > 0 else []
        self._shuffle = torch.Generator(device=device).manual_seed(options.seed + 2 + world.rank)

    def update(self, advantages: Tensor, iteration: int, progress: float, step_factor: float) -> Dict[str, Tensor]:
        """All passes, with ``advantages`` (T, N) and ``step_factor`` of the rate; returns figures () by metric name, on the device.

        ``progress`` is the share of the run that lies behind the iteration, from 0 to 1.
        """
        returns = advantages + self._rollout.values
        normed = self._normalized(advantages)
        self.optimizer.rate.copy_(self.rate.next(iteration, progress, step_factor))
        records = [self._step(segments, normed, returns) for segments in self._minibatches()]
        figures = self._means(torch.stack(records))
        self.rate.adapt(figures["losses/approx_kl"], progress)
        figures["losses/explained_variance"] = self._world.mean_(explained_variance(self._rollout.values, returns))
        figures["0verview/learning_rate"] = self.optimizer.rate.clone()
        return figures

    def _normalized(self, advantages: Tensor) -> Tensor:
        if not self._options.norm_adv:
            return advantages
        count = torch.full((), float(advantages.numel()), device=advantages.device)
        sums = self._world.sum_(torch.stack((count, advantages.sum(), advantages.square().sum())))
        return normalized(advantages, *mean_and_deviation(*sums))

    def _minibatches(self) -> Iterator[Tensor]:
        """Segments (S,) of every minibatch of every pass."""
        per_minibatch = chosen(self._options.minibatch_size) // self._options.bptt_horizon
        for _ in range(self._options.update_epochs):
            order = torch.randperm(self._rollout.num_segments, generator=self._shuffle, device=self._shuffle.device)
            yield from order.split(per_minibatch)

    def _step(self, segments: Tensor, advantages: Tensor, returns: Tensor) -> Tensor:
        """One gradient step; returns the losses and the norm of the gradient (L + 1,)."""
        losses = self.losses(segments, advantages, returns)
        self.optimizer.backward(losses.total)
        norm = self.optimizer.step()
        return torch.stack((*losses, norm)).detach()

    def _means(self, records: Tensor) -> Dict[str, Tensor]:
        """Losses and gradient norms by name, means over the rows of ``records`` (M, L + 1) of finite gradient, and how many had none."""
        means, skipped = sound_means(records)
        means = self._world.mean_(means)
        figures = {f"losses/{_METRIC_NAMES.get(name, name)}": mean for name, mean in zip((*Losses._fields, "grad_norm"), means)}
        return {**figures, "losses/skipped_steps": skipped}

    def minibatch_losses(self, segments: Tensor, advantages: Tensor, returns: Tensor) -> Losses:
        """Losses of the steps of ``segments`` (S,); ``advantages`` and ``returns`` (T, N) are of the whole rollout.

        One way for all policies: sequences (L, S), each from what the policy remembered at its first step.
        """
        rollout = self._rollout
        rows = rollout.rows(segments)

        def picked(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1)[rows]

        with autocast(self._options.precision, rows.device):
            memories = rollout.memories.flatten(0, 1)[segments]
            mean, values, _ = self._policy.unroll(picked(rollout.observations), memories, picked(rollout.starts))
        log_std = self._policy.log_std
        found = Found(log_prob(mean, log_std, picked(rollout.actions)), values, entropy(log_std), bound_loss(mean))
        recorded = Recorded(picked(rollout.log_probs), picked(rollout.values), picked(advantages), picked(returns))
        losses = ppo_losses(recorded, found, self._weights)
        if not self._initial:
            return losses
        drift = self._drift()
        return losses._replace(total=losses.total + self._options.l2_reg_coef * drift, drift=drift.detach())

    def _drift(self) -> Tensor:
        """() summed mean squared distance of the parameters from their initial values (regenerative regularisation)."""
        return torch.stack([(p - p0).square().mean() for p, p0 in zip(self._policy.parameters(), self._initial)]).sum()

    def shared_state(self) -> Dict[str, Any]:
        """What is the same in every process."""
        return {"optimizer": self.optimizer.state_dict(), "initial": self._initial, **self.rate.state_dict()}

    def own_state(self) -> Tensor:
        """What each process has for itself: the generator of the order."""
        return self._shuffle.get_state()

    def load_shared(self, state: Dict[str, Any]) -> None:
        """Take up ``shared_state``. Without an optimiser in it, as in a compact checkpoint, another begins with small steps."""
        self.rate.load_state_dict(state)
        if "optimizer" not in state:
            self.rate.warm_up()
            return
        self.optimizer.load_state_dict(state["optimizer"])
        initial: List[Tensor] = state["initial"]
        for own, value in zip(self._initial, initial):
            own.copy_(value)

    def load_own(self, state: Tensor) -> None:
        """Take up ``own_state``."""
        self._shuffle.set_state(state)


def loss_weights(options: TrainConfig) -> LossWeights:
    """The coefficients of the PPO loss from the [train] options."""
    return LossWeights(options.clip_coef, options.vf_coef, options.clip_vloss, options.vf_clip_coef, options.ent_coef, options.bound_coef)
