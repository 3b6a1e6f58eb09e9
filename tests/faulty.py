"""Small trainings, and faults to put into them."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.file import save_motion_file
from puffer_phc.resolve import resolve

BATCH = 4 * 16
NUM_MINIBATCHES = 4 * 2
"""In one iteration."""


class Recorder:
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        self.iterations: Dict[int, Dict[str, float]] = {}
        self.evaluations: Dict[int, Dict[str, float]] = {}
        self.messages: List[str] = []

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        self.iterations[step] = metrics

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        self.evaluations[step] = summary

    def message(self, text: str) -> None:
        self.messages.append(text)

    def close(self) -> None: ...


def make_trainer(
    folder: Path, num_batches: int, evaluate: Optional[Any] = None, env: Optional[Dict[str, Any]] = None, **options: Any
) -> Trainer:
    """Four humanoids, two clips, a network of two small layers; ``env`` and ``options`` are those of [env] and [train]."""
    if not (folder / "motion.npz").exists():
        save_motion_file(folder / "motion.npz", [swaying_clip(40), swaying_clip(60, seed=1)])
    config = Config()
    train: Dict[str, Any] = {"batch_size": BATCH, "minibatch_size": 16, **options}
    train = {"eval_interval": 0, "checkpoint_interval": 0, "total_timesteps": train["batch_size"] * num_batches, **train}
    config = replace(
        config,
        env=replace(config.env, **{"num_envs": 4, "motion_file": str(folder / "motion.npz"), **(env or {})}),
        policy=replace(config.policy, layer_sizes=(16,), hidden_size=8),
        train=replace(config.train, device="cpu", **train),
    )
    config = resolve(config, torch.device("cpu"))
    adapter = build.make_environment(config, build.load_motions(config, torch.device("cpu")))
    policy = build.make_policy(config, adapter.env.observation_size, adapter.env.action_size, torch.device("cpu"))
    return Trainer(config, adapter, policy, folder / "run", Recorder(), evaluate)


def weights(trainer: Trainer) -> torch.Tensor:
    """All weights and normaliser statistics of a trainer's policy as one vector."""
    return torch.cat([value.double().flatten() for value in trainer.policy.state_dict().values()])


def spoil_losses(trainer: Trainer, is_bad: Callable[[int], bool]) -> None:
    """Make the gradients of the minibatches ``is_bad`` (counted from 0) not a number."""
    compute, calls = trainer.updater.losses, []

    def losses(*arguments: Any) -> Any:
        found = compute(*arguments)
        calls.append(None)
        return found._replace(total=found.total * math.nan) if is_bad(len(calls) - 1) else found

    trainer.updater.losses = losses


def spoil_states(trainer: Trainer, row: int, value: float, is_bad: Callable[[int], bool]) -> None:
    """Put ``value`` into a velocity of humanoid ``row`` before the control steps ``is_bad`` (counted from 0)."""
    simulator, calls = trainer.env.env.simulator, []
    step = simulator.step

    def spoiled(target: torch.Tensor) -> None:
        if is_bad(len(calls)):
            simulator.batch.bind("qvel")[row, 10] = value
        calls.append(None)
        step(target)

    simulator.step = spoiled
