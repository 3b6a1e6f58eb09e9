"""Checkpoints of a training under way: the first process writes what is shared, each its own, and nobody waits for another."""

from dataclasses import asdict
from pathlib import Path
from typing import Any, Dict

from torch import Tensor

from puffer_phc.config import Config
from puffer_phc.errors import TrainingError
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import all_finite
from puffer_phc.learn.origin import origin
from puffer_phc.learn.policy import PHCPolicy
from puffer_phc.learn.rescue import Rescue
from puffer_phc.learn.resume import Resumable
from puffer_phc.learn.run_folder import moment, save_in_run, save_own


class Saver:
    """Saves ``policy`` and what ``resumable`` gets from the others, to ``run_dir``.

    What it is asked to save comes with the trainer's ``counters``, ``iteration`` among them.
    """

    def __init__(self, config: Config, policy: PHCPolicy, resumable: Resumable, world: World, run_dir: Path) -> None:
        self._config, self._policy, self._resumable, self._world, self._run_dir = config, policy, resumable, world, run_dir
        self._origin = origin()
        self.rescue = Rescue(run_dir, self._made_of, world.rank, config.train.keep_checkpoints, policy.log_std.device)

    def checkpoint(self, counters: Dict[str, Any]) -> Checkpoint:
        """Everything that this process needs to go on, and anybody to use the policy elsewhere."""
        own = {"moment": self._moment(counters), "ranks": [self._resumable.own_state()]}
        return self._made_of(self._policy.state_dict(), {**counters, **self._resumable.shared_state(), **own})

    def save(self, counters: Dict[str, Any]) -> None:
        """Write a checkpoint.

        Raises CheckpointError in the process that cannot write; TrainingError in all, and leaves the last checkpoint as it is, where the
        weights are not finite.
        """
        if not (all_finite(self._policy) and self._resumable.style.is_finite()):
            raise TrainingError(f"the weights are not finite after iteration {counters['iteration']} and are not saved")
        if self._world.is_main:
            save_in_run(self._run_dir, self.checkpoint(counters), counters["iteration"], self._config.train.keep_checkpoints)
        else:
            save_own(self._run_dir, self._resumable.own_state(), self._moment(counters), self._world.rank)

    def keep(self, counters: Dict[str, Any]) -> None:
        """Let ``rescue`` remember what all have learned, if they are several and it is good."""
        if self._world.size > 1 and self._resumable.recovery.bad_iterations == 0:
            ranks = [{"sampler": self._resumable.env.sampler.state_dict()}]
            state = {**counters, **self._resumable.shared_state(), "ranks": ranks}
            self.rescue.keep(counters["iteration"], self._policy.state_dict(), state)

    def _moment(self, counters: Dict[str, Any]) -> Dict[str, int]:
        return moment(counters["iteration"], self._world.size, self._policy)

    def _made_of(self, policy: Dict[str, Tensor], trainer: Dict[str, Any]) -> Checkpoint:
        return Checkpoint(asdict(self._config), policy, self._policy.observation_size, self._policy.action_size, trainer, self._origin)
