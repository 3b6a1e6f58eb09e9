"""The training loop: collect, estimate advantages, update, report, and now and then evaluate and save."""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from torch import Tensor

from puffer_phc.config import Config, TrainConfig, chosen
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.errors import CheckpointError, TrainingError
from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.learn.checkpoint import Checkpoint, save_in_run
from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import FlatAdam, LearningRate
from puffer_phc.learn.origin import origin
from puffer_phc.learn.policy import PHCPolicy, bound_loss, entropy, log_prob
from puffer_phc.learn.ppo import (
    Losses,
    LossWeights,
    adapted_learning_rate,
    explained_variance,
    gae,
    mean_and_deviation,
    normalized,
    ppo_losses,
)
from puffer_phc.learn.recovery import Recovery, fault
from puffer_phc.learn.rollout import Collector, Deterministic, Rollout, autocast
from puffer_phc.learn.running_norm import moments
from puffer_phc.learn.style import Style
from puffer_phc.randomness import EnvRandom
from puffer_phc.reporter import Reporter

logger = logging.getLogger(__name__)

Evaluate = Callable[[Policy], Dict[str, float]]
"""Takes a policy without exploration and returns the summary of an evaluation."""

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

_KL_RATE_RANGE = 10.0
"""A KL target may move the learning rate by this factor up or down from its schedule."""

_WARM_UP_ITERATIONS = 10
"""Iterations over which the learning rate rises from a tenth where weights come without the optimiser that made them."""


class Trainer:
    """Trains one policy in one environment with PPO.

    ``config`` is resolved: no option is None that has an automatic value. Checkpoints go to ``run_dir``. ``evaluate`` is called every
    ``train.eval_interval`` iterations. Under several processes every one runs the same code on its own environments.
    """

    def __init__(
        self,
        config: Config,
        env: PufferImitation,
        policy: PHCPolicy,
        run_dir: Path,
        reporter: Reporter,
        evaluate: Optional[Evaluate] = None,
        world: Optional[World] = None,
    ) -> None:
        self.config, self.env, self.policy, self.run_dir = config, env, policy, run_dir
        self._reporter, self._evaluate, self._world = reporter, evaluate, world or World()
        self._options = options = config.train
        num_envs, device = env.num_agents, policy.log_std.device
        self._batch_size = chosen(options.batch_size)
        horizon = self._batch_size // num_envs
        total_envs = num_envs * self._world.size
        self.random = EnvRandom(options.seed + 1, num_envs, device, self._world.rank * num_envs, total_envs)
        self._shuffle = torch.Generator(device=device).manual_seed(options.seed + 2 + self._world.rank)
        self._rollout = Rollout(horizon, num_envs, options.bptt_horizon, policy, env.style_observations.shape[-1])
        observer = env.env.style
        self._style = None if observer is None else Style(config, observer, self._rollout, self._world)
        self._collector = Collector(env, policy, self._rollout, self.random, options.precision, bool(options.compile))
        self._optimizer = FlatAdam(policy, options.adam_eps, options.max_grad_norm, self._world)
        self._schedule = LearningRate(scaled_rate(options, self._world.size), options.lr_decay_rate, options.lr_decay_floor)
        self._rate_factor = torch.ones((), device=device)
        self._weights = loss_weights(options)
        self._initial = [p.detach().clone() for p in policy.parameters()] if options.l2_reg_coef > 0 else []
        self._losses = torch.compile(self._minibatch_losses) if options.compile else self._minibatch_losses
        parts = {"policy": policy, "optimizer": self._optimizer, **(self._style.parts if self._style is not None else {})}
        self._recovery = Recovery(parts, options.divergence_patience, options.divergence == "rollback")
        self.iteration, self.global_step = 0, 0
        self._warm_up_left = 0
        self._evaluation_due = False
        self._origin = origin()
        self._stop_requested = False
        self._world.broadcast_([tensor.detach() for tensor in (*policy.parameters(), *policy.buffers())])

    def fit(self) -> bool:
        """Train until ``total_timesteps``, or to the end of the iteration in which ``stop`` is called; then save.

        Returns whether all was done.

        Raises TrainingError, and leaves the last checkpoint as it is, where training went wrong and was not to go back or went back
        too often.
        """
        total, eval_interval = chosen(self._options.total_timesteps), chosen(self._options.eval_interval)
        if self.iteration == 0:
            self.save()
        self._recovery.keep(self.iteration)
        if self.policy.obs_norm.count == 0 or (self._style is not None and self._style.is_new):
            self.collect()
            self.take_in_observations()
        done, stopped = self.iteration > 0 and self.global_step >= total, False
        if self._evaluation_due:
            self._run_evaluation()
        while not (done or stopped):
            self._iterate()
            done = self.global_step >= total
            self._evaluation_due = due(self.iteration, eval_interval) or (eval_interval > 0 and done)
            stopped = self._world.any(self._stop_requested)
            if due(self.iteration, self._options.motion_resample_interval) and not self.env.env.motions.is_whole:
                self.change_residents()
            if self._evaluation_due and not stopped:
                self._run_evaluation()
                stopped = self._world.any(self._stop_requested)
            if due(self.iteration, chosen(self._options.checkpoint_interval)):
                self._recovery.keep(self.iteration)
                self._try_to_save()
        self.save()
        return done

    def stop(self) -> None:
        """End ``fit`` after the iteration under way. Safe to call from a signal handler."""
        self._stop_requested = True

    def _iterate(self) -> None:
        started = time.perf_counter()
        self.collect()
        collected = time.perf_counter()
        advantages = self.advantages()
        figures = self.update(advantages)
        self.take_in_observations()
        self.iteration += 1
        metrics = self._metrics(figures)
        now = time.perf_counter()
        metrics["performance/SPS"] = self._batch_size * self._world.size / (now - started)
        metrics["performance/rollout_time"] = collected - started
        metrics["performance/update_time"] = now - collected
        if self._world.is_main:
            self._reporter.on_iteration(self.global_step, metrics)
        self._recover(fault(metrics, self._batch_size * self._world.size))

    def _recover(self, wrong: Optional[str]) -> None:
        """Say what was wrong with the iteration, and where that calls for it go back to good weights and begin new episodes."""
        before = self._recovery.rollbacks
        line = self._recovery.judge(wrong, self.iteration)
        if line is not None:
            self._tell(line)
        if self._recovery.rollbacks > before:
            self._begin_new_episodes()

    def collect(self) -> None:
        """One rollout. Rewards are at most about 1: scaled by 1 − γ, so are their discounted sums, whatever γ."""
        self._set_exploration()
        self._collector.collect(1.0 - self._options.gamma)
        if self._style is not None:
            self._style.reward()
        self.global_step += self._batch_size * self._world.size

    def change_residents(self) -> None:
        """Bring other clips of a limited library onto the device; rows whose clip is gone begin a new episode."""
        self.env.change_residents()
        self._collector.forget(self.env.truncations)

    def take_in_observations(self) -> None:
        """Let the normaliser and the sampler, which stand still in between, learn from the rollout of all processes."""
        observations = self._rollout.observations.flatten(0, 1)
        self.policy.obs_norm.update(self._world.combined(moments(observations)))
        if self._style is not None:
            self._style.take_in()
        sampler = self.env.env.sampler
        for counts in () if self._options.shard_clips else sampler.shared_counts:
            self._world.sum_(counts)
        sampler.update()

    def _set_exploration(self) -> None:
        """Noise by the options, unless it is trained; weights from elsewhere bring their own along."""
        options = self.config.policy
        if not options.learn_std:
            done = min(self.global_step / chosen(self._options.total_timesteps), 1.0)
            final = options.init_log_std if options.final_log_std is None else options.final_log_std
            self.policy.log_std.detach().fill_(options.init_log_std + done * (final - options.init_log_std))

    def advantages(self) -> Tensor:
        """(T, N) generalised advantage estimates of the rollout."""
        rollout, options = self._rollout, self._options
        return gae(rollout.rewards, rollout.values, rollout.next_values, rollout.dones, options.gamma, options.gae_lambda)

    def _normalized(self, advantages: Tensor) -> Tensor:
        if not self._options.norm_adv:
            return advantages
        count = torch.full((), float(advantages.numel()), device=advantages.device)
        sums = self._world.sum_(torch.stack((count, advantages.sum(), advantages.square().sum())))
        return normalized(advantages, *mean_and_deviation(*sums))

    def update(self, advantages: Tensor) -> Dict[str, Tensor]:
        """Several passes over the rollout with ``advantages`` (T, N); returns the means of the losses, on the device."""
        options, rollout = self._options, self._rollout
        returns = advantages + rollout.values
        normed = self._normalized(advantages)
        rate = self._schedule.at(self.iteration) * self._warm_up_factor() * self._recovery.step_factor
        self._optimizer.rate.copy_(rate * self._rate_factor)
        per_minibatch = chosen(options.minibatch_size) // options.bptt_horizon
        records: List[Tensor] = []
        for _ in range(options.update_epochs):
            order = torch.randperm(rollout.num_segments, generator=self._shuffle, device=normed.device)
            for segments in order.split(per_minibatch):
                losses = self._losses(segments, normed, returns)
                self._optimizer.backward(losses.total)
                norm = self._optimizer.step()
                records.append(torch.stack((*losses, norm)).detach())
        figures = self._means(torch.stack(records))
        figures["explained_variance"] = explained_variance(rollout.values, returns)
        self._adapt_rate(figures["approx_kl"])
        return figures if self._style is None else {**figures, **self._style.update()}

    def _means(self, records: Tensor) -> Dict[str, Tensor]:
        """Losses and gradient norms by name, means over the rows of ``records`` (M, L + 1) of finite gradient, and how many had none."""
        is_sound = records[:, -1:].isfinite()
        means = self._world.mean_(torch.where(is_sound, records, torch.zeros_like(records)).sum(0) / is_sound.sum())
        return {**dict(zip((*Losses._fields, "grad_norm"), means)), "skipped_steps": (~is_sound).sum().float()}

    def _minibatch_losses(self, segments: Tensor, advantages: Tensor, returns: Tensor) -> Losses:
        """Losses of the steps of ``segments`` (S,); ``advantages`` and ``returns`` (T, N) are of the whole rollout.

        One way for all policies: sequences (L, S), each from what the policy remembered at its first step.
        """
        rollout = self._rollout
        rows = rollout.rows(segments)

        def picked(tensor: Tensor) -> Tensor:
            return tensor.flatten(0, 1)[rows]

        with autocast(self._options.precision, rows.device):
            memories = rollout.memories.flatten(0, 1)[segments]
            mean, values, _ = self.policy.unroll(picked(rollout.observations), memories, picked(rollout.starts))
        log_std = self.policy.log_std
        losses = ppo_losses(
            log_prob(mean, log_std, picked(rollout.actions)),
            picked(rollout.log_probs),
            picked(advantages),
            values,
            picked(rollout.values),
            picked(returns),
            entropy(log_std),
            bound_loss(mean),
            self._weights,
        )
        if not self._initial:
            return losses
        drift = self._drift()
        return losses._replace(total=losses.total + self._options.l2_reg_coef * drift, drift=drift.detach())

    def _drift(self) -> Tensor:
        """() summed mean squared distance of the parameters from their initial values (regenerative regularisation)."""
        return torch.stack([(p - p0).square().mean() for p, p0 in zip(self.policy.parameters(), self._initial)]).sum()

    def _adapt_rate(self, kl: Tensor) -> None:
        if self._options.target_kl > 0:
            self._rate_factor.copy_(
                adapted_learning_rate(self._rate_factor, kl, self._options.target_kl, 1.0 / _KL_RATE_RANGE, _KL_RATE_RANGE)
            )

    def _metrics(self, figures: Dict[str, Tensor]) -> Dict[str, float]:
        """The only wait for the device in an iteration."""
        values = torch.stack(list(figures.values())).tolist()
        metrics = {name if "/" in name else f"losses/{_METRIC_NAMES.get(name, name)}": value for name, value in zip(figures, values)}
        metrics.update({f"environment/{name}": value for name, value in self.env.read_statistics(self._world.sum_).items()})
        metrics["0verview/agent_steps"] = float(self.global_step)
        metrics["0verview/epoch"] = float(self.iteration)
        metrics["0verview/learning_rate"] = self._optimizer.rate.item()
        return metrics

    def _run_evaluation(self) -> None:
        """Evaluate, unless a stop comes in between, which one process may heed at once: the evaluation then comes first on resuming."""
        if self._evaluate is not None:
            act = Deterministic(self.policy)
            try:
                summary = self._evaluate(self._interrupted(act) if self._world.size == 1 else act)
            except _StoppedError:
                return
            if self._world.is_main:
                self._reporter.on_evaluation(self.global_step, summary)
        self._evaluation_due = False

    def _interrupted(self, act: Policy) -> Policy:
        def act_or_stop(observations: Tensor, starts: Tensor) -> Tensor:
            if self._stop_requested:
                raise _StoppedError
            return act(observations, starts)

        return act_or_stop

    def warm_up(self) -> None:
        """Begin with small steps: the weights are trained, and the optimiser knows nothing about them yet."""
        self._warm_up_left = _WARM_UP_ITERATIONS
        self._tell(f"the optimiser starts anew: the learning rate rises over the next {_WARM_UP_ITERATIONS} iterations")

    def _warm_up_factor(self) -> float:
        factor = 1.0 - self._warm_up_left / (_WARM_UP_ITERATIONS + 1)
        self._warm_up_left = max(self._warm_up_left - 1, 0)
        return factor

    def _tell(self, line: str) -> None:
        if self._world.is_main:
            self._reporter.message(line)

    def checkpoint(self) -> Checkpoint:
        """Everything needed to go on, and to use the policy elsewhere. All processes have to call it together."""
        policy, trainer = self.policy, {**self._shared_state(), "ranks": self._world.gather(on_cpu(self._own_state()))}
        return Checkpoint(asdict(self.config), policy.state_dict(), policy.observation_size, policy.action_size, trainer, self._origin)

    def save(self) -> None:
        """Write a checkpoint to the run's folder. All processes call it together; the first writes, and raises CheckpointError.

        Raises TrainingError, and leaves the last checkpoint as it is, where the weights are not finite.
        """
        if not all(bool(parameter.isfinite().all()) for parameter in self.policy.parameters()):
            raise TrainingError(f"the weights are not finite after iteration {self.iteration} and are not saved")
        checkpoint = self.checkpoint()
        if self._world.is_main:
            save_in_run(self.run_dir, checkpoint, self.iteration, self._options.keep_checkpoints)

    def _try_to_save(self) -> None:
        """Save; where that fails, say so and train on: the disk may have room again at the next checkpoint."""
        try:
            self.save()
        except (CheckpointError, TrainingError) as error:
            self._tell(f"{error}; training goes on, the last whole checkpoint stays")

    def _shared_state(self) -> Dict[str, Any]:
        """What is the same in every process."""
        return {
            "iteration": self.iteration,
            "global_step": self.global_step,
            "optimizer": self._optimizer.state_dict(),
            "rate_factor": self._rate_factor.item(),
            "warm_up_left": self._warm_up_left,
            "evaluation_due": self._evaluation_due,
            "recovery": self._recovery.state_dict(),
            "initial": self._initial,
            "style": None if self._style is None else self._style.shared_state(),
        }

    def _own_state(self) -> Dict[str, Any]:
        """What each process has for itself."""
        return {
            "sampler": self.env.env.sampler.state_dict(),
            "env": self.env.snapshot(),
            "memory": self._collector.memory.clone(),
            "style": None if self._style is None else self._style.own_state(),
            "random": self.random.generator.get_state(),
            "shuffle": self._shuffle.get_state(),
        }

    def load_state(self, state: Dict[str, Any]) -> None:
        """Take up all of ``Checkpoint.trainer``: with as many processes and environments, training goes on as if it had never stopped.

        Other numbers of them, and a compact checkpoint, begin new episodes; after a compact checkpoint the optimiser warms up.
        """
        self.iteration, self.global_step = state["iteration"], state["global_step"]
        self._rate_factor.fill_(state["rate_factor"])
        if "optimizer" in state:
            self._optimizer.load_state_dict(state["optimizer"])
            self._warm_up_left, self._evaluation_due = state["warm_up_left"], state["evaluation_due"]
            self._recovery.load_state_dict(state["recovery"])
            for tensor, initial in zip(self._initial, state["initial"]):
                tensor.copy_(initial)
            if self._style is not None:
                self._style.load_shared(state["style"])
        else:
            self.warm_up()
        ranks = state["ranks"]
        same_processes = len(ranks) == self._world.size
        self._take_up_own(ranks[self._world.rank if same_processes else 0], same_processes)

    def _take_up_own(self, own: Dict[str, Any], same_processes: bool) -> None:
        self.env.env.sampler.load_state_dict(own["sampler"])
        if same_processes and "env" in own and len(own["env"]["env"]["clip_ids"]) == self.env.num_agents:
            self.random.generator.set_state(own["random"])
            self._shuffle.set_state(own["shuffle"])
            self.env.restore(own["env"])
            self._collector.memory.copy_(own["memory"])
            if self._style is not None:
                self._style.load_own(own["style"])
        else:
            self._begin_new_episodes()
            self._tell("other processes or environments than the checkpoint's, or a compact one: all rows begin new episodes")

    def _begin_new_episodes(self) -> None:
        self.env.reset()
        self._collector.memory.zero_()


class _StoppedError(Exception):
    """A stop was asked for in the middle of an evaluation."""


def on_cpu(state: Any) -> Any:
    """``state`` (dictionaries, lists, tensors, plain values) with its tensors on the CPU, where they can be sent and saved."""
    if isinstance(state, dict):
        return {name: on_cpu(value) for name, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [on_cpu(value) for value in state]
    return state.cpu() if isinstance(state, Tensor) else state


def due(iteration: int, interval: int) -> bool:
    """Whether something that happens every ``interval`` iterations (0: never) happens after this one."""
    return interval > 0 and iteration % interval == 0


def scaled_rate(options: TrainConfig, num_processes: int) -> float:
    """The learning rate for batches of ``num_processes`` times the size, by ``train.lr_scaling``."""
    exponent = {"none": 0.0, "sqrt": 0.5, "linear": 1.0}[options.lr_scaling]
    return chosen(options.learning_rate) * num_processes**exponent


def loss_weights(options: TrainConfig) -> LossWeights:
    """The coefficients of the PPO loss from the [train] options."""
    return LossWeights(options.clip_coef, options.vf_coef, options.clip_vloss, options.vf_clip_coef, options.ent_coef, options.bound_coef)
