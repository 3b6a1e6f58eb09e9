"""The trainer needs a simulator card, not an engine: two iterations on the kinematic simulator, on every Python that we support."""

import math
from dataclasses import replace

import torch
from kinematic_simulator import KinematicSimulator

from puffer_phc import build
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig
from puffer_phc.env.imitation import ImitationEnv
from puffer_phc.env.puffer import PufferImitation
from puffer_phc.evaluate.evaluation import evaluate
from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.motion.sampler import make_sampler
from puffer_phc.options import absolute, assemble, dotted
from puffer_phc.randomness import EnvRandom
from puffer_phc.resolve import resolve
from puffer_phc.resources import resource_root

CPU = torch.device("cpu")
OPTIONS = Config(
    env=EnvConfig(num_envs=4),
    policy=PolicyConfig(layer_sizes=(16,), hidden_size=16),
    train=TrainConfig(batch_size=64, total_timesteps=192, eval_interval=1),
)


class Notes:
    """A reporter that keeps what it hears."""

    def __init__(self):
        self.metrics, self.summaries = [], []

    def on_iteration(self, step, metrics):
        self.metrics.append(metrics)

    def on_evaluation(self, step, summary):
        self.summaries.append(summary)

    def message(self, text):
        pass

    def close(self):
        pass


def make_trainer(run_dir, notes):
    config = resolve(assemble(absolute(dotted(OPTIONS), resource_root())).sections(), CPU)
    motions = build.load_motions(config, CPU)
    env = imitation(config.env, motions)
    policy = build.make_policy(config, env.observation_size, env.action_size, CPU)

    def evaluation(act):
        return evaluate(act, KinematicSimulator(2), motions, config.env, [0, 1, 2]).summary()

    return Trainer(config, PufferImitation(env), policy, run_dir, notes, evaluation)


def imitation(options, motions: MotionLibrary):
    sampler = make_sampler(options, motions, EnvRandom(1, options.num_envs, CPU))
    return ImitationEnv(KinematicSimulator(options.num_envs), motions, sampler, options, options.termination_distance)


def test_it_learns_evaluates_and_saves(tmp_path):
    notes = Notes()
    trainer = make_trainer(tmp_path, notes)
    before = {name: value.clone() for name, value in trainer.policy.state_dict().items()}
    trainer.fit()
    assert len(notes.metrics) >= 2
    assert all(math.isfinite(metrics["losses/value_loss"]) for metrics in notes.metrics)
    assert all(0.0 <= summary["eval/success_rate"] <= 1.0 for summary in notes.summaries)
    saved = load_checkpoint(tmp_path / "latest.pt")
    assert saved.config["env"]["num_envs"] == 4
    assert not torch.equal(saved.policy["mean_head.weight"], before["mean_head.weight"])
    assert torch.equal(saved.policy["mean_head.weight"], trainer.policy.state_dict()["mean_head.weight"])


def test_a_reset_policy_has_the_weights_of_its_seed(tmp_path):
    config = resolve(OPTIONS, CPU)
    one, two = (build.make_policy(config, 934, 57, CPU) for _ in range(2))
    other = build.make_policy(replace(config, train=replace(config.train, seed=2)), 934, 57, CPU)
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values()))
    assert not torch.equal(one.mean_head.weight, other.mean_head.weight)
