"""Collecting the next rollout while an update is under way (``train.overlap``). The first batch of a run only sets the normaliser."""

import copy
from dataclasses import replace
from pathlib import Path
from typing import Dict

import pytest
import torch
from torch import Tensor

pytest.importorskip("mujoco.batch", reason="training needs the MuJoCo backend")
from faulty import Recorder, make_trainer, spoil_losses, weights

from puffer_phc.config import Config
from puffer_phc.errors import ConfigError
from puffer_phc.learn.checkpoint import load_checkpoint, load_policy
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resolve import resolve


def contents(trainer: Trainer) -> Dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in vars(trainer.rollout).items() if isinstance(tensor, Tensor)}


def learn_from(trainer: Trainer, rollout: Dict[str, Tensor]) -> None:
    for name, tensor in rollout.items():
        getattr(trainer.rollout, name).copy_(tensor)
    trainer.update(trainer.advantages())
    trainer.take_in()
    trainer.iteration += 1


def test_one_batch_is_learned_from_as_without_it(tmp_path: Path) -> None:
    plain, overlapped = make_trainer(tmp_path, 2), make_trainer(tmp_path, 2, overlap=True)
    assert plain.fit() and overlapped.fit()
    assert torch.equal(weights(plain), weights(overlapped))


def test_the_second_batch_is_by_the_weights_from_before_the_first_update(tmp_path: Path) -> None:
    plain, overlapped = make_trainer(tmp_path, 3), make_trainer(tmp_path, 3, overlap=True)
    overlapped.fit()
    plain._begin()
    plain.collect()
    first = contents(plain)
    plain.collect()
    second = contents(plain)
    learn_from(plain, first)
    learn_from(plain, second)
    assert torch.equal(weights(plain), weights(overlapped))
    assert overlapped.global_step == plain.global_step


def test_more_than_two_batches_are_each_one_update_behind(tmp_path: Path) -> None:
    seen = []
    trainer = make_trainer(tmp_path, 5, overlap=True)
    begin = trainer._gathering.begin

    def note(scale: float) -> None:
        seen.append((trainer.iteration, trainer._gathering.is_pending))
        begin(scale)

    trainer._gathering.begin = note
    trainer.fit()
    assert seen == [(0, False), (0, False), (0, False), (1, False), (2, False)]
    assert not trainer._gathering.is_pending


def test_checkpoints_and_evaluations_have_nothing_pending_and_runs_go_on_from_them_exactly(tmp_path: Path) -> None:
    options = {"overlap": True, "checkpoint_interval": 3, "eval_interval": 4, "target_kl": 0.0}
    pending = []
    (tmp_path / "whole").mkdir()
    (tmp_path / "half").mkdir()
    whole = make_trainer(tmp_path / "whole", 8, **options)
    save = whole.save
    whole.save = lambda: (pending.append(whole._gathering.is_pending), save())[1]
    whole.fit()
    assert pending == [False, False, False, False]
    half = make_trainer(tmp_path / "half", 8, **options)
    checkpoint = load_checkpoint(tmp_path / "whole" / "run" / "model_00000003.pt")
    load_policy(half.policy, checkpoint, "model_00000003.pt")
    half.load_state(checkpoint.trainer)
    half.fit()
    assert half.iteration == 7 and torch.equal(weights(whole), weights(half))


def test_a_stop_learns_from_what_is_pending_before_it_saves(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 20, overlap=True)
    reporter = trainer.reporter
    assert isinstance(reporter, Recorder)
    told = reporter.on_iteration

    def stop_at_third(step: int, metrics: Dict[str, float]) -> None:
        told(step, metrics)
        if trainer.iteration == 3:
            trainer.stop()

    reporter.on_iteration = stop_at_third
    assert not trainer.fit()
    assert trainer.iteration == 4 and not trainer._gathering.is_pending
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 4


def test_a_rollback_forgets_what_bad_weights_collected(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 12, overlap=True, checkpoint_interval=2, divergence_patience=2, target_kl=0.0)
    spoil_losses(trainer, lambda count: 8 * 3 <= count < 8 * 5)
    trainer.fit()
    assert trainer.recovery.rollbacks == 1
    assert weights(trainer).isfinite().all()


def test_the_copy_that_acts_is_never_trained(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 3, overlap=True)
    trainer._begin()
    before = copy.deepcopy(trainer.policy.state_dict())
    trainer.collect()
    trainer.update(trainer.advantages())
    assert all(torch.equal(value, before[name]) for name, value in trainer._gathering._actor.state_dict().items())
    assert not all(torch.equal(value, before[name]) for name, value in trainer.policy.state_dict().items())


@pytest.mark.parametrize("option", ["use_amp_obs", "use_add_obs"])
def test_discriminators_do_not_go_with_it(option: str) -> None:
    config = Config()
    config = replace(config, train=replace(config.train, overlap=True), env=replace(config.env, **{option: True}))
    with pytest.raises(ConfigError, match=r"train\.overlap"):
        resolve(config, torch.device("cpu"))
