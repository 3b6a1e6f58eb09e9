"""Every policy and reward option with compiled and recorded parts on a GPU: the same as without, and nothing waits for the device."""

from dataclasses import replace
from pathlib import Path
from typing import Dict

import pytest
import torch
import torch._dynamo
from variants import VARIANTS, Notes, motion_file

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resolve import resolve

pytest.importorskip("mujoco_warp", reason="training on a GPU needs mujoco_warp")
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]

NUM_ENVS, HORIZON = 64, 16


@pytest.fixture(autouse=True)
def fresh_compiler() -> None:
    """Torch compiles a function for so many variants in a process, and no more."""
    torch._dynamo.reset()


def make_trainer(folder: Path, variant: str, compiled: bool) -> Trainer:
    policy, env = VARIANTS[variant]
    config = Config()
    config = replace(
        config,
        base=replace(config.base, policy_name=policy),
        env=replace(config.env, num_envs=NUM_ENVS, backend="mujoco_warp", motion_file=motion_file(folder), **env),
        policy=replace(config.policy, layer_sizes=(64,), hidden_size=32),
        rnn=replace(config.rnn, hidden_size=32),
        discriminator=replace(config.discriminator, layer_sizes=(64,), replay_size=256),
        train=replace(
            config.train, batch_size=NUM_ENVS * HORIZON, compile=compiled, precision="float32", eval_interval=0, checkpoint_interval=0
        ),
    )
    device = torch.device("cuda")
    config = resolve(config, device)
    motions = build.load_motions(config, device)
    adapter = build.make_environment(config, motions)
    made = build.make_policy(config, adapter.env.observation_size, adapter.env.action_size, device)
    return Trainer(config, adapter, made, folder / "run", Notes())


def iterate(trainer: Trainer, count: int) -> Dict[str, torch.Tensor]:
    figures: Dict[str, torch.Tensor] = {}
    for _ in range(count):
        trainer.collect()
        figures = trainer.update(trainer.advantages())
        trainer.take_in()
    return figures


@pytest.mark.parametrize("variant", VARIANTS)
def test_iterations_that_are_compiled_and_recorded_are_sound(tmp_path: Path, variant: str, caplog: pytest.LogCaptureFixture) -> None:
    trainer = make_trainer(tmp_path, variant, compiled=True)
    figures = iterate(trainer, 4)
    assert all(bool(value.isfinite()) for value in figures.values())
    trainer.collect()
    rollout = trainer.rollout
    assert rollout.dones.any(), "episodes ended on the way"
    losses = trainer.updater.minibatch_losses(torch.arange(rollout.num_segments, device="cuda"), rollout.rewards, rollout.values)
    assert losses.approx_kl.abs() < 1e-4, "segments give again what the recorded graph of the rollout did"
    assert losses.value < 1e-6
    assert "goes on uncompiled" not in caplog.text
    trainer.env.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_compiled_losses_are_those_of_the_plain_code(tmp_path: Path, variant: str) -> None:
    trainer = make_trainer(tmp_path, variant, compiled=True)
    iterate(trainer, 1)
    trainer.collect()
    advantages = trainer.advantages()
    segments = torch.arange(trainer.rollout.num_segments, device="cuda")
    gradients = []
    for function in (trainer.updater.losses, trainer.updater.minibatch_losses):
        trainer.updater.optimizer.backward(function(segments, advantages, advantages + trainer.rollout.values).total)
        gradients.append(trainer.updater.optimizer.gradient.clone())
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-3, atol=1e-4 * float(gradients[1].abs().max()))
    trainer.env.close()


@pytest.mark.parametrize("variant", VARIANTS)
def test_neither_rollout_nor_update_waits_for_the_device(tmp_path: Path, variant: str) -> None:
    trainer = make_trainer(tmp_path, variant, compiled=False)
    iterate(trainer, 5)
    torch.cuda.set_sync_debug_mode("error")
    try:
        iterate(trainer, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    trainer.env.close()
