"""A small playing session on the real engine, for tests of play and its front ends."""

import dataclasses

import torch
from synthetic_motion import swaying_library

from puffer_phc import build
from puffer_phc.commands.play import make_play_session
from puffer_phc.config import Config, EnvConfig, PlayConfig, PolicyConfig, TrainConfig, VideoConfig
from puffer_phc.learn.checkpoint import Checkpoint, save_checkpoint
from puffer_phc.resolve import resolve

NUM_HUMANOIDS = 3
CPU = torch.device("cpu")


def small_config(**play):
    config = Config(
        env=EnvConfig(backend="mujoco_cpu"),
        policy=PolicyConfig(layer_sizes=(16,), hidden_size=16),
        train=TrainConfig(device="cpu"),
        play=PlayConfig(**{"num_envs": NUM_HUMANOIDS, **play}),
        video=VideoConfig(width=160, height=120, seconds=0.5),
    )
    return resolve(config, CPU)


def save_policy(path, seed=0, observation_size=934, action_size=57):
    """A checkpoint of an untrained policy, with actions large enough to be seen."""
    config = dataclasses.replace(small_config(), train=TrainConfig(device="cpu", seed=seed))
    policy = build.make_policy(config, observation_size, action_size, CPU)
    with torch.no_grad():
        policy.mean_head.weight.mul_(30.0)
    save_checkpoint(path, Checkpoint(dataclasses.asdict(config), policy.state_dict(), observation_size, action_size, None))
    return path


def small_session(folder, viewer="web", **play):
    """A session of three humanoids over three clips of 1.3, 2 and 1.6 s; its checkpoint and recordings are in ``folder``."""
    checkpoint = folder / "model_000001.pt"
    if not checkpoint.exists():
        save_policy(checkpoint)
    return make_play_session(small_config(**play), swaying_library(40, 60, 50), checkpoint, folder, viewer)
