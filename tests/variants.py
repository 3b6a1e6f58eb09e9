"""Every policy and reward option as a small trainer on the real engine, for tests that all of them have to pass."""

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import torch
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.learn.distributed import World
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.file import save_motion_file
from puffer_phc.resolve import resolve

CPU = torch.device("cpu")
NUM_ENVS, HORIZON = 4, 16

VARIANTS: Dict[str, Tuple[str, Dict[str, bool]]] = {
    "PHCPolicy": ("PHCPolicy", {}),
    "LSTMActorPolicy": ("LSTMActorPolicy", {}),
    "LSTMCriticPolicy": ("LSTMCriticPolicy", {}),
    "AMP": ("LSTMActorPolicy", {"use_amp_obs": True}),
    "ADD": ("PHCPolicy", {"use_add_obs": True}),
}
"""The policy of each, and its [env] options. AMP comes with a memory, to see both at once."""


def command_line(variant: str) -> List[str]:
    """What a user types for the variant."""
    policy, env = VARIANTS[variant]
    words = ["--policy-name", policy, "--discriminator.layer_sizes", "16"]
    return words + [word for name in env for word in (f"--env.{name}", "True")]


class Notes:
    """A reporter that keeps the figures of the last iteration, and all messages."""

    def __init__(self) -> None:
        self.metrics: Dict[str, float] = {}
        self.messages: List[str] = []

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        self.metrics = metrics

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None: ...

    def message(self, text: str) -> None:
        self.messages.append(text)

    def close(self) -> None: ...


def motion_file(folder: Path) -> str:
    path = folder / "motion.npz"
    if not path.exists():
        save_motion_file(path, [swaying_clip(40), swaying_clip(60, seed=1)])
    return str(path)


def small_config(folder: Path, variant: str, num_batches: int, num_envs: int = NUM_ENVS, **train: Any) -> Config:
    batch = num_envs * HORIZON
    sizes = {"batch_size": batch, "minibatch_size": batch // 4, "total_timesteps": NUM_ENVS * HORIZON * num_batches}
    policy, env = VARIANTS[variant]
    config = Config()
    config = replace(
        config,
        base=replace(config.base, policy_name=policy),
        env=replace(config.env, num_envs=num_envs, backend="mujoco_cpu", motion_file=motion_file(folder), **env),
        discriminator=replace(config.discriminator, layer_sizes=(16,), replay_size=40, replay_rate=0.25),
        policy=replace(config.policy, layer_sizes=(16,), hidden_size=8),
        rnn=replace(config.rnn, hidden_size=8),
        train=replace(config.train, device="cpu", eval_interval=0, checkpoint_interval=0, **{**sizes, **train}),
    )
    return resolve(config, CPU)


def make_trainer(folder: Path, config: Config, world: Optional[World] = None) -> Trainer:
    motions = build.load_motions(config, CPU, world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, CPU)
    return Trainer(config, env, policy, folder / "run", Notes(), None, world)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([value.double().flatten() for value in trainer.policy.state_dict().values()])
