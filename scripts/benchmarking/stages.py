"""The stages of training: the environment, the policy, the update, and whole iterations."""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict

import torch

from benchmarking.clock import Stopwatch, TimeIsUpError, seconds_per_call
from benchmarking.physics import BareBatch, time_physics
from benchmarking.setting import Row, Setting
from puffer_phc import build
from puffer_phc.env.captured import CapturedCall
from puffer_phc.learn.rollout import autocast
from puffer_phc.learn.trainer import Trainer


def time_environment(setting: Setting) -> Row:
    """``ImitationEnv.step`` with random actions: observation, reward, termination and resets included."""
    env = build.make_environment(setting.config, setting.motions).env
    actions = [2.0 * torch.rand(setting.num_envs, env.action_size, device=setting.device) - 1.0 for _ in range(4)]
    turn = iter(range(sys.maxsize))

    def step() -> None:
        env.step(actions[next(turn) % len(actions)])

    seconds = seconds_per_call(step, setting.device, setting.seconds)
    figures: Row = {"steps_per_second": setting.num_envs / seconds, "ms_per_call": 1000.0 * seconds}
    if setting.config.env.backend == "mujoco_cpu":
        physics = build.physics_options(setting.config.env)
        figures["share_of_bare"] = BareBatch(env.simulator, physics).share(step, setting.seconds)
    figures.update(env.simulator.read_counters()._asdict())
    env.close()
    return figures


def time_policy(setting: Setting) -> Row:
    """Mean action and value for one observation of every environment, as in a rollout."""
    config = setting.config
    sizes = build.make_environment(replace(config, env=replace(config.env, num_envs=1)), setting.motions).env
    policy = build.make_policy(config, sizes.observation_size, sizes.action_size, setting.device)
    sizes.close()
    observations = torch.randn(setting.num_envs, sizes.observation_size, device=setting.device)
    memory = policy.no_memory(setting.num_envs)

    @torch.no_grad()
    def infer() -> None:
        with autocast(config.train.precision, setting.device):
            policy.act(observations, memory)

    call = CapturedCall(infer) if setting.device.type == "cuda" else infer
    seconds = seconds_per_call(call, setting.device, setting.seconds)
    parameters = sum(p.numel() for p in policy.parameters())
    return {"steps_per_second": setting.num_envs / seconds, "ms_per_call": 1000.0 * seconds, "parameters": parameters}


def time_update(setting: Setting) -> Row:
    """Advantages and all epochs over one batch."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(setting, Path(folder), Stopwatch(setting.device, 0.0))
        trainer.collect()
        trainer.take_in()
        seconds = seconds_per_call(lambda: trainer.update(trainer.advantages()), setting.device, setting.seconds)
        trainer.env.close()
    return batch_row(setting, seconds)


def time_training(setting: Setting) -> Row:
    """Whole iterations of ``Trainer.fit``: rollout, update and report."""
    stopwatch = Stopwatch(setting.device, setting.seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(setting, Path(folder), stopwatch)
        try:
            trainer.fit()
        except TimeIsUpError:
            pass
        finally:
            counters = trainer.env.env.simulator.read_counters()
            trainer.env.close()
    return {**batch_row(setting, stopwatch.seconds_per_iteration()), **counters._asdict()}


def batch_row(setting: Setting, seconds: float) -> Row:
    """The figures of something that deals with one batch in ``seconds``."""
    batch = setting.batch_size
    return {"steps_per_second": batch / seconds, "ms_per_call": 1000.0 * seconds, "batch_size": batch}


def make_trainer(setting: Setting, folder: Path, stopwatch: Stopwatch) -> Trainer:
    """A trainer that neither evaluates nor saves on the way."""
    config = setting.config
    train = replace(config.train, eval_interval=0, checkpoint_interval=0)
    env = build.make_environment(config, setting.motions)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, setting.device)
    return Trainer(replace(config, train=train), env, policy, folder, stopwatch)


STAGES: Dict[str, Callable[[Setting], Row]] = {
    "physics": time_physics,
    "environment": time_environment,
    "policy": time_policy,
    "update": time_update,
    "train": time_training,
}
