"""The training loop: collect, estimate advantages, update, report, and now and then evaluate and save."""

import logging
import time
from pathlib import Path
from typing import Any, Callable, Dict, Optional

import torch
from torch import Tensor

from puffer_phc.config import Config, chosen
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.errors import CheckpointError, TrainingError
from puffer_phc.evaluate.evaluation import Policy
from puffer_phc.learn.ahead import Ahead, InTurn
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import all_tensors
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.ppo import gae
from puffer_phc.learn.recovery import Recovery, fault
from puffer_phc.learn.resume import ANEW, Resumable
from puffer_phc.learn.rollout import Collector, Deterministic, Rollout
from puffer_phc.learn.run_folder import load_own
from puffer_phc.learn.running_norm import moments
from puffer_phc.learn.saving import Saver
from puffer_phc.learn.seen import make_seen
from puffer_phc.learn.stopping import StoppedError, StopRequest
from puffer_phc.learn.style import make_style
from puffer_phc.learn.update import Updater
from puffer_phc.randomness import EnvRandom
from puffer_phc.reporter import Reporter

logger = logging.getLogger(__name__)

Evaluate = Callable[[Policy], Dict[str, float]]
"""Takes a policy without exploration and returns the summary of an evaluation."""


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
        self.reporter, self._evaluate, self._world = reporter, evaluate, world or World()
        self._options = options = config.train
        self._world.broadcast_(all_tensors(policy))
        num_envs, device, world = env.num_agents, policy.log_std.device, self._world
        self._batch_size = chosen(options.batch_size)
        random = EnvRandom(options.seed + 1, num_envs, device, world.rank * num_envs, world.size * num_envs)
        num_steps = self._batch_size // num_envs
        self.rollout = Rollout(num_steps, num_envs, options.bptt_horizon, policy, make_seen(env.style, num_steps))
        parts = (env, policy, self.rollout, random, options.precision, bool(options.compile))
        self._gathering = Ahead(*parts) if options.overlap else InTurn(Collector(*parts))
        self.collector = self._gathering.collector
        self.style = make_style(config, self.rollout, world)
        self.updater = Updater(options, policy, self.rollout, world)
        learners = {"policy": policy, "optimizer": self.updater.optimizer, **self.style.parts}
        self.recovery = Recovery(learners, options.divergence_patience, options.divergence == "rollback")
        self._resumable = Resumable(self.updater, self.style, self.recovery, env, self.collector, random, world, options.shard_clips)
        self._stop = StopRequest(world)
        self._saver = Saver(config, policy, self._resumable, world, run_dir)
        self.rescue = self._saver.rescue
        self.iteration, self.global_step, self._evaluation_due = 0, 0, False
        self._is_alone = False
        """Whether the iteration under way leaves the next one's rollout to be collected in its turn, whatever ``train.overlap`` says."""
        self._progress = 0.0
        """Share of the run that lay behind it when the iteration under way began."""

    def fit(self) -> bool:
        """Train until ``total_timesteps``, or to the end of the iteration in which ``stop`` is called; then save.

        Returns whether all was done. No checkpoint on the way is written after a bad iteration: what a kill leaves is good to go on from.
        One of several processes that ends in an error, as when another is lost, saves what they had learned before the iteration under way.

        Raises TrainingError, and leaves the last checkpoint as it is, where training went wrong and was not to go back or went back
        too often.
        """
        try:
            done = self._train()
        except TrainingError:
            raise
        except Exception:
            self.rescue.save()
            raise
        self.rescue.let_go()
        self.save()
        return done

    def _train(self) -> bool:
        """All iterations up to the end or a stop; returns whether it was the end."""
        total, eval_interval = chosen(self._options.total_timesteps), chosen(self._options.eval_interval)
        self._begin()
        done = self.iteration > 0 and self.global_step >= total
        stopped = self._evaluation_due and not self._run_evaluation()
        while not (done or stopped):
            self._saver.keep(self._counters())
            self.iterate()
            done, stopped = self.global_step >= total, self._stop.is_agreed
            self._evaluation_due = due(self.iteration, eval_interval) or (eval_interval > 0 and done)
            if due(self.iteration, self._options.motion_resample_interval) and not self.env.motions.residents.is_whole:
                self.change_residents()
            if self._evaluation_due and not stopped:
                self._saver.keep(self._counters())
                stopped = not self._run_evaluation() or self._stop.is_agreed
            if due(self.iteration, chosen(self._options.checkpoint_interval)) and self.recovery.bad_iterations == 0:
                self.recovery.keep(self.iteration)
                self.try_to_save()
        self._learn_what_is_pending()
        return done

    def stop(self) -> None:
        """End ``fit`` after the iteration under way. Safe to call from a signal handler."""
        self._stop.make()

    def warm_up(self) -> None:
        """Begin with small steps: the weights are trained, and the optimiser knows nothing about them yet."""
        self.updater.rate.warm_up()
        self._tell(ANEW)

    def _begin(self) -> None:
        """What there has to be before the first iteration: a checkpoint to go back to, and statistics of what is seen."""
        if self.iteration == 0:
            self.save()
        self.recovery.keep(self.iteration)
        if self.policy.obs_norm.count == 0 or self.style.is_new:
            self._is_alone = True
            self.collect()
            self.take_in()
        self._is_alone = False

    def iterate(self) -> None:
        """One rollout and what is learned from it, reported, and judged."""
        started = time.perf_counter()
        self.collect()
        collected = time.perf_counter()
        figures = self.update(self.advantages())
        self.take_in()
        self.iteration += 1
        metrics = self._metrics(figures)
        now = time.perf_counter()
        metrics["performance/SPS"] = self._batch_size * self._world.size / (now - started)
        metrics["performance/rollout_time"] = collected - started
        metrics["performance/update_time"] = now - collected
        if self._world.is_main:
            self.reporter.on_iteration(self.global_step, metrics)
        self._recover(fault(metrics, self._batch_size * self._world.size))

    def collect(self) -> None:
        """One rollout.

        Rewards are scaled by 1 − γ, so that their discounted sums are about as large as the unscaled rewards, whatever γ: at most about
        1 for imitation, up to 9 times its weight for style.
        """
        self._progress = min(self.global_step / chosen(self._options.total_timesteps), 1.0)
        self._set_exploration()
        self._gathering.gather(1.0 - self._options.gamma, self._goes_on())
        self.style.reward()
        self.global_step += self._batch_size * self._world.size

    def _goes_on(self) -> bool:
        """Whether another iteration follows at once, and not a checkpoint, which has no place for a rollout, an evaluation or the end."""
        options, after = self._options, self.iteration + 1
        resample_interval = 0 if self.env.motions.residents.is_whole else options.motion_resample_interval
        intervals = (chosen(options.checkpoint_interval), chosen(options.eval_interval), resample_interval)
        is_last = self.global_step + self._batch_size * self._world.size >= chosen(options.total_timesteps)
        is_interrupted = any(due(after, interval) for interval in intervals) or self.recovery.bad_iterations > 0
        return not (self._is_alone or is_last or is_interrupted)

    def _learn_what_is_pending(self) -> None:
        """At a stop: a checkpoint has no place for a rollout that nothing was learned from."""
        if self._gathering.is_pending:
            self._is_alone = True
            self.iterate()

    def advantages(self) -> Tensor:
        """(T, N) generalised advantage estimates of the rollout."""
        rollout, options = self.rollout, self._options
        return gae(rollout.rewards, rollout.values, rollout.next_values, rollout.dones, options.gamma, options.gae_lambda)

    def update(self, advantages: Tensor) -> Dict[str, Tensor]:
        """Let the policy, by ``advantages`` (T, N), and the discriminator learn from the rollout; returns figures, on the device."""
        figures = self.updater.update(advantages, self.iteration, self._progress, self.recovery.step_factor)
        return {**figures, **self.style.update(self.recovery.step_factor)}

    def take_in(self) -> None:
        """Let normalisers, memories and the sampler, which stand still in between, learn from the rollouts of all processes."""
        self._gathering.join()
        self.policy.obs_norm.update(self._world.combined(moments(self.rollout.observations.flatten(0, 1))))
        self.style.take_in()
        sampler = self.env.sampler
        for counts in () if self._options.shard_clips else sampler.shared_counts:
            self._world.sum_(counts)
        sampler.update()

    def change_residents(self) -> None:
        """Bring other clips of a limited library onto the device; rows whose clip is gone begin a new episode."""
        self.env.change_residents()
        self.collector.forget(self.env.truncations)

    def _set_exploration(self) -> None:
        """Noise by the options, unless it is trained; weights from elsewhere bring their own along."""
        options = self.config.policy
        if not options.learn_std:
            final = options.init_log_std if options.final_log_std is None else options.final_log_std
            self.policy.log_std.detach().fill_(options.init_log_std + self._progress * (final - options.init_log_std))

    def _metrics(self, figures: Dict[str, Tensor]) -> Dict[str, float]:
        """All numbers of an iteration. Nothing before this waits for the device.

        Nothing that changes weights comes after the first wait, and an exchange does: where a lost process spoils a sum, it raises.
        """
        metrics = dict(zip(figures, torch.stack(list(figures.values())).tolist()))
        metrics.update({f"environment/{name}": value for name, value in self.env.read_statistics(self._stop.summed).items()})
        metrics["0verview/agent_steps"] = float(self.global_step)
        metrics["0verview/epoch"] = float(self.iteration)
        return metrics

    def _recover(self, wrong: Optional[str]) -> None:
        """Say what was wrong with the iteration, and where that calls for it go back to good weights and begin new episodes."""
        before = self.recovery.rollbacks
        line = self.recovery.judge(wrong, self.iteration)
        if line is not None:
            self._tell(line)
        if self.recovery.rollbacks > before:
            self._gathering.drop()
            self._resumable.begin_new_episodes()

    def _run_evaluation(self) -> bool:
        """Evaluate, unless a stop comes in between: the evaluation then comes first on resuming. Returns whether it was done."""
        if self._evaluate is not None:
            try:
                summary = self._evaluate(self._stop.heeded_by(Deterministic(self.policy)))
            except StoppedError:
                return False
            if self._world.is_main:
                self.reporter.on_evaluation(self.global_step, summary)
        self._evaluation_due = False
        return True

    def _tell(self, line: str) -> None:
        if self._world.is_main:
            self.reporter.message(line)

    def _counters(self) -> Dict[str, Any]:
        return {"iteration": self.iteration, "global_step": self.global_step, "evaluation_due": self._evaluation_due}

    def load_state(self, state: Dict[str, Any]) -> None:
        """Take up all of ``Checkpoint.trainer``: with as many processes and environments, training goes on as if it had never stopped.

        Other processes than the first find what they had for themselves in the run's folder. All call it together.
        """
        self.iteration, self.global_step = state["iteration"], state["global_step"]
        self._evaluation_due = state.get("evaluation_due", False)
        for line in self._resumable.take_up(state, load_own(self.run_dir, state, self._world.rank, self._world.size)):
            self._tell(line)

    def checkpoint(self) -> Checkpoint:
        """Everything that this process needs to go on, and anybody to use the policy elsewhere."""
        return self._saver.checkpoint(self._counters())

    def save(self) -> None:
        """Write a checkpoint to the run's folder. Raises what ``Saver.save`` does."""
        self._saver.save(self._counters())

    def try_to_save(self) -> None:
        """Save; where that fails, say so and train on: the disk may have room again at the next checkpoint."""
        try:
            self.save()
        except (CheckpointError, TrainingError) as error:
            line = f"{error}; training goes on, the last whole checkpoint stays"
            if self._world.is_main:
                self.reporter.message(line)
            elif isinstance(error, CheckpointError):
                logger.warning(line)


def due(iteration: int, interval: int) -> bool:
    """Whether something that happens every ``interval`` iterations (0: never) happens after this one."""
    return interval > 0 and iteration % interval == 0
