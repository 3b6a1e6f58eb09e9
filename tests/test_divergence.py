"""Faults put into a training are counted, shown and contained; what does not pass ends it, or takes it back to good weights."""

import math
from pathlib import Path

import pytest
import torch
from faulty import BATCH, NUM_MINIBATCHES, make_trainer, spoil_losses, spoil_states, weights

from puffer_phc.errors import TrainingError
from puffer_phc.learn.checkpoint import load_checkpoint, load_policy
from puffer_phc.learn.distributed import World
from puffer_phc.learn.optimizer import FlatAdam
from puffer_phc.learn.recovery import MAX_ROLLBACKS, STEP_FACTOR, fault
from puffer_phc.learn.running_norm import RunningNorm, moments

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    layer = torch.nn.Linear(3, 2)
    adam = FlatAdam(layer, eps=1e-5, max_grad_norm=1.0, world=World())
    adam.rate.fill_(0.1)
    adam.backward(layer(torch.ones(3)).sum())
    adam.step()
    before, moments_before = layer.weight.clone(), [value.clone() for value in adam.state_dict()["adam"][0].values()]
    for bad in (math.nan, math.inf):
        adam.backward(layer(torch.ones(3)).sum() * bad)
        assert not adam.step().isfinite()
        assert torch.equal(layer.weight, before)
        assert all(torch.equal(value, old) for value, old in zip(adam.state_dict()["adam"][0].values(), moments_before))
    adam.backward(layer(torch.ones(3)).sum())
    adam.step()
    assert layer.weight.isfinite().all() and not torch.equal(layer.weight, before)


def test_the_normaliser_leaves_out_what_is_not_finite() -> None:
    norm = RunningNorm(2)
    norm.update(moments(torch.tensor([[0.0, 1.0], [2.0, 3.0]])))
    norm.update(moments(torch.tensor([[math.nan, 1.0], [2.0, math.inf]])))
    assert norm.mean.tolist() == [1.0, 2.0] and norm.count == 2
    norm.update(moments(torch.tensor([[4.0, 4.0]])))
    assert norm.mean.tolist() == pytest.approx([2.0, 8.0 / 3.0])


def test_bad_gradients_are_left_out_counted_and_shown(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 5)
    spoil_losses(trainer, lambda call: call in (NUM_MINIBATCHES, NUM_MINIBATCHES + 3))
    assert trainer.fit()
    skipped = [metrics["losses/skipped_steps"] for metrics in trainer.reporter.iterations.values()]
    assert skipped == [0, 2, 0, 0]
    assert all(math.isfinite(metrics["losses/total_loss"]) for metrics in trainer.reporter.iterations.values())
    assert trainer.reporter.messages == ["iteration 2: 2 gradients were not finite and left out"]
    assert weights(trainer).isfinite().all()


@pytest.mark.parametrize("value", [math.nan, math.inf, 1e7])
def test_an_exploding_humanoid_is_reset_and_its_neighbours_notice_nothing(tmp_path: Path, value: float) -> None:
    sound, faulty = make_trainer(tmp_path, 4), make_trainer(tmp_path, 4)
    spoil_states(faulty, row=1, value=value, is_bad=lambda call: call == 6)
    sound.collect()
    faulty.collect()
    others = [0, 2, 3]
    for name in ("observations", "rewards", "values"):  # but for rounding, which depends on how many rows are computed together
        one, other = (getattr(trainer.rollout, name)[:, others] for trainer in (sound, faulty))
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)
    assert faulty.rollout.dones[6, 1] == 1 and faulty.rollout.rewards[6, 1] == 0
    assert faulty.rollout.observations.isfinite().all()
    assert faulty.env.read_statistics()["diverged"] == 1 and sound.env.read_statistics()["diverged"] == 0
    assert faulty.fit()
    assert weights(faulty).isfinite().all()


def test_many_exploding_humanoids_make_an_iteration_bad() -> None:
    metrics = {"losses/total_loss": 1.0, "losses/skipped_steps": 0.0, "environment/diverged": 5.0}
    assert fault(metrics, 100) is None
    assert fault({**metrics, "environment/diverged": 6.0}, 100) == "6 of 100 environment steps diverged"


def test_bad_iterations_in_a_row_take_the_weights_back_with_half_the_step(tmp_path: Path) -> None:
    options = {"target_kl": 0.0, "lr_decay_rate": 0.0, "checkpoint_interval": 2, "divergence_patience": 2}
    trainer = make_trainer(tmp_path, 9, **options)
    spoil_losses(trainer, lambda call: 3 * NUM_MINIBATCHES <= call < 5 * NUM_MINIBATCHES or call == 6 * NUM_MINIBATCHES)
    found = []
    reset = trainer.env.reset
    trainer.env.reset = lambda: (found.append(weights(trainer)), reset())
    assert trainer.fit()
    good = make_trainer(tmp_path, 3, **options)
    good.fit()
    assert good.iteration == 2
    assert len(found) == 1 and torch.equal(found[0][: len(found[0])], weights(good))
    rates = [metrics["0verview/learning_rate"] for metrics in trainer.reporter.iterations.values()]
    assert rates[5] == pytest.approx(rates[0] * STEP_FACTOR) and len(set(rates[:5])) == 1
    assert trainer.reporter.messages[1] == (
        "iteration 5: 8 gradients were not finite and left out; back to the weights of iteration 2 with 0.5 of the learning rate"
    )
    assert trainer.global_step == 9 * BATCH


def test_a_run_that_goes_back_goes_on_exactly_after_a_kill(tmp_path: Path) -> None:
    options = {"checkpoint_interval": 2, "divergence_patience": 1}
    whole = make_trainer(tmp_path, 9, **options)
    spoil_losses(whole, lambda call: call == 2 * NUM_MINIBATCHES)
    whole.fit()
    expected = weights(whole)
    make_and_stop = make_trainer(tmp_path, 5, **options)
    spoil_losses(make_and_stop, lambda call: call == 2 * NUM_MINIBATCHES)
    make_and_stop.fit()
    second = make_trainer(tmp_path, 9, **options)
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    load_policy(second.policy, checkpoint, "latest.pt")
    second.load_state(checkpoint.trainer)
    second.fit()
    assert torch.equal(weights(second), expected)


def test_a_kill_among_bad_iterations_goes_on_from_before_them(tmp_path: Path) -> None:
    options = {"checkpoint_interval": 1, "divergence_patience": 5}
    whole = make_trainer(tmp_path, 6, **options)
    whole.fit()
    killed = make_trainer(tmp_path, 9, **options)
    spoil_losses(killed, lambda call: call >= 2 * NUM_MINIBATCHES)
    iterate = killed.iterate

    def iterate_and_die() -> None:
        iterate()
        if killed.iteration == 5:
            raise KeyboardInterrupt

    killed.iterate = iterate_and_die
    with pytest.raises(KeyboardInterrupt):
        killed.fit()
    assert killed.recovery.bad_iterations == 3
    second = make_trainer(tmp_path, 6, **options)
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    load_policy(second.policy, checkpoint, "latest.pt")
    second.load_state(checkpoint.trainer)
    assert second.iteration == 2
    second.fit()
    assert torch.equal(weights(second), weights(whole))


def test_a_run_that_is_to_stop_stops_and_keeps_its_last_checkpoint(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 20, divergence="stop", checkpoint_interval=2)
    spoil_losses(trainer, lambda call: call >= 4 * NUM_MINIBATCHES)
    with pytest.raises(TrainingError, match=r"iteration 7: 8 gradients were not finite.*3 bad iterations in a row after 0 rollbacks"):
        trainer.fit()
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    assert checkpoint.trainer["iteration"] == 4
    assert all(value.isfinite().all() for value in checkpoint.policy.values())


def test_a_run_that_never_mends_ends(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 100, divergence_patience=1)
    spoil_losses(trainer, lambda call: True)
    with pytest.raises(TrainingError, match=f"after {MAX_ROLLBACKS} rollbacks"):
        trainer.fit()
    assert trainer.iteration == MAX_ROLLBACKS + 1
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 0


def test_weights_that_are_not_finite_are_never_saved(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 4, divergence="stop", checkpoint_interval=1)
    trainer.fit()
    before = (tmp_path / "run" / "latest.pt").read_bytes()
    with torch.no_grad():
        trainer.policy.value_head.bias.fill_(math.nan)
    with pytest.raises(TrainingError, match="weights are not finite"):
        trainer.save()
    assert (tmp_path / "run" / "latest.pt").read_bytes() == before


def test_weights_that_the_last_step_before_a_checkpoint_spoilt_are_not_kept_as_good(tmp_path: Path) -> None:
    """No figure of that iteration tells: they are of the steps before."""
    trainer = make_trainer(tmp_path, 12, checkpoint_interval=3, divergence_patience=1)
    take_in = trainer.take_in

    def take_in_and_spoil() -> None:
        take_in()
        if trainer.iteration == 5:
            trainer.policy.mean_head.bias.data[3] = math.nan

    trainer.take_in = take_in_and_spoil
    assert trainer.fit()
    assert weights(trainer).isfinite().all() and trainer.recovery.rollbacks == 1
    first, second = trainer.reporter.messages
    assert "the weights are not finite after iteration 6 and are not saved; training goes on" in first
    assert "back to the weights of iteration 3" in second


def test_spoilt_weights_are_taken_back_too(tmp_path: Path) -> None:
    """A fault of the memory: every later gradient is not a number, and only a copy helps."""
    trainer = make_trainer(tmp_path, 10, checkpoint_interval=1)
    trainer.fit()
    more = make_trainer(tmp_path, 20, checkpoint_interval=3)
    checkpoint = load_checkpoint(tmp_path / "run" / "latest.pt")
    load_policy(more.policy, checkpoint, "latest.pt")
    more.load_state(checkpoint.trainer)
    collect, calls = more.collect, []

    def spoil_once() -> None:
        if not calls:
            more.policy.mean_head.bias.data[3] = math.nan
        calls.append(None)
        collect()

    more.collect = spoil_once
    assert more.fit()
    assert weights(more).isfinite().all()
    assert more.recovery.rollbacks == 1
