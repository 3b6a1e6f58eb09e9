"""The training loop on the real engine: reproducible, and a stop in the middle leaves no trace."""

import contextlib
import dataclasses
import random
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional

import numpy
import pytest
import torch
from faulty import BATCH, make_trainer, weights

from puffer_phc import build
from puffer_phc.learn.checkpoint import compact, load_checkpoint, load_policy, save_checkpoint
from puffer_phc.learn.run_folder import load_newest
from puffer_phc.learn.trainer import Trainer, due

pytest.importorskip("mujoco", reason="training needs the MuJoCo backend")


def test_same_seed_same_weights_and_another_seed_others(tmp_path: Path) -> None:
    runs = [make_trainer(tmp_path, 3, seed=seed) for seed in (1, 1, 2)]
    for run in runs:
        run.fit()
    assert torch.equal(weights(runs[0]), weights(runs[1]))
    assert not torch.equal(weights(runs[0]), weights(runs[2]))


def resumed(folder: Path, num_batches: int, evaluate: Optional[Any] = None, **options: Any) -> Trainer:
    """A new trainer that has taken up the checkpoint in ``folder``."""
    checkpoint = load_newest(folder / "run")[1]
    trainer = make_trainer(folder, num_batches, evaluate, **options)
    load_policy(trainer.policy, checkpoint, "latest.pt")
    assert checkpoint.trainer is not None
    trainer.load_state(checkpoint.trainer)
    return trainer


SOME_RESIDENT: Dict[str, Any] = {"env": {"max_resident_frames": 65}, "motion_resample_interval": 2}
"""One of the two clips at a time."""


@pytest.mark.parametrize("options", [{}, {"l2_reg_coef": 1.0, "target_kl": 1e-6}, SOME_RESIDENT])
def test_a_stopped_run_goes_on_bit_for_bit(tmp_path: Path, options: Dict[str, Any]) -> None:
    whole = make_trainer(tmp_path, 6, **options)
    whole.fit()
    expected = weights(whole)
    make_trainer(tmp_path, 4, **options).fit()
    second = resumed(tmp_path, 6, **options)
    second.fit()
    assert (second.iteration, second.global_step) == (whole.iteration, whole.global_step)
    assert torch.equal(weights(second), expected)


def test_a_run_that_was_killed_at_once_goes_on_from_its_first_checkpoint(tmp_path: Path) -> None:
    whole = make_trainer(tmp_path, 3)
    whole.fit()
    expected = weights(whole)
    make_trainer(tmp_path, 3).save()
    second = resumed(tmp_path, 3)
    assert second.iteration == 0
    second.fit()
    assert torch.equal(weights(second), expected)


def test_nothing_draws_from_the_generators_of_the_process(tmp_path: Path) -> None:
    """Checkpoints do not hold their state."""
    torch_state, numpy_state, python_state = torch.get_rng_state(), numpy.random.get_state()[1].copy(), random.getstate()
    make_trainer(tmp_path, 3).fit()
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert (numpy.random.get_state()[1] == numpy_state).all()
    assert random.getstate() == python_state


def test_other_numbers_of_environments_begin_new_episodes(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 2)
    trainer.fit()
    assert trainer.env.env.steps.any()
    fewer = resumed(tmp_path, 4, env={"num_envs": 2})
    assert (fewer.env.env.steps == 0).all()
    assert any("all rows begin new episodes" in line for line in fewer.reporter.messages)
    assert fewer.fit() and fewer.iteration == 3


def test_a_compact_checkpoint_carries_a_run_and_the_optimiser_warms_up(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 3, target_kl=0.0, lr_decay_rate=0.0)
    trainer.fit()
    checkpoint = trainer.checkpoint()
    save_checkpoint(tmp_path / "run" / "latest.pt", compact(checkpoint, with_critic=True))
    second = resumed(tmp_path, 20, target_kl=0.0, lr_decay_rate=0.0)
    assert (second.iteration, second.global_step) == (trainer.iteration, trainer.global_step)
    probabilities = second.env.sampler.probabilities
    torch.testing.assert_close(probabilities, trainer.env.sampler.probabilities, rtol=1e-2, atol=0.0)
    assert any("optimiser starts anew" in line for line in second.reporter.messages)
    second.fit()
    rates = [metrics["0verview/learning_rate"] for metrics in second.reporter.iterations.values()]
    assert rates[0] == pytest.approx(rates[-1] / 11, rel=1e-5)
    assert sorted(set(rates)) == rates[:11] and len(set(rates[10:])) == 1


def test_a_warm_up_under_way_goes_on(tmp_path: Path) -> None:
    options = {"target_kl": 0.0, "lr_decay_rate": 0.0}
    first = make_trainer(tmp_path, 4, **options)
    first.warm_up()
    first.fit()
    second = resumed(tmp_path, 8, **options)
    second.fit()
    rates = [metrics["0verview/learning_rate"] for metrics in (*first.reporter.iterations.values(), *second.reporter.iterations.values())]
    assert rates == sorted(set(rates))


def test_the_newest_checkpoints_are_kept(tmp_path: Path) -> None:
    make_trainer(tmp_path, 7, checkpoint_interval=1, keep_checkpoints=2).fit()
    names = sorted(path.name for path in (tmp_path / "run").iterdir())
    assert names == ["latest.pt", "model_00000005.pt", "model_00000006.pt"]
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 6


def test_a_checkpoint_says_what_made_it(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 2)
    trainer.save()
    made_by = load_checkpoint(tmp_path / "run" / "latest.pt").origin
    assert {"puffer_phc", "python", "torch", "mujoco"} <= set(made_by)
    assert made_by["torch"] == torch.__version__


def test_a_stop_in_an_evaluation_ends_it_and_it_comes_first_on_resuming(tmp_path: Path) -> None:
    def evaluate(policy: Any) -> Dict[str, float]:
        first.stop()
        policy(torch.zeros(4, first.policy.observation_size), torch.ones(4, dtype=torch.bool))
        raise AssertionError("the policy was to stop the evaluation")

    first = make_trainer(tmp_path, 6, evaluate, eval_interval=2)
    assert first.fit() is False
    assert first.iteration == 2

    seen = []

    def evaluate_after(policy: Any) -> Dict[str, float]:
        seen.append(second.iteration)
        return {}

    second = resumed(tmp_path, 6, evaluate_after, eval_interval=2)
    second.fit()
    assert seen == [2, 4, 5]


def test_evaluations_come_when_due_and_at_the_end(tmp_path: Path) -> None:
    seen = []

    def evaluate(policy: Any) -> Dict[str, float]:
        seen.append(trainer.iteration)
        return {"eval/success_rate": 0.5}

    trainer = make_trainer(tmp_path, 6, evaluate, eval_interval=2)
    trainer.fit()
    assert seen == [2, 4, 5]
    assert list(trainer.reporter.evaluations.values())[-1] == {"eval/success_rate": 0.5}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> "tuple[torch.Tensor, List[List[int]]]":
    """Weights after some changes of the clips on the device, and those clips by iteration, without evaluations."""
    residents: List[List[int]] = []

    def look(policy: Any) -> Dict[str, float]:
        residents.append(trainer.env.motions.residents.clip_ids)
        return {}

    trainer = make_trainer(tmp_path_factory.mktemp("undisturbed"), 9, look, eval_interval=1, **SOME_RESIDENT)
    trainer.fit()
    return weights(trainer), residents


def test_clips_on_the_device_change_when_due(undisturbed: Any) -> None:
    _, residents = undisturbed
    assert all(residents[index] == residents[index + 1] for index in range(1, 7, 2))
    assert {tuple(ids) for ids in residents} == {(0,), (1,)}


def test_evaluations_play_through_the_same_memory_and_training_does_not_notice(tmp_path: Path, undisturbed: Any) -> None:
    def evaluate(policy: Any) -> Dict[str, float]:
        return evaluation(policy)

    trainer = make_trainer(tmp_path, 9, evaluate, eval_interval=3, **SOME_RESIDENT)
    evaluation = build.training_evaluation(build.Evaluator(trainer.config, trainer.env.motions), trainer.env)
    trainer.fit()
    assert len(trainer.reporter.evaluations) == 3
    assert torch.equal(weights(trainer), undisturbed[0])


def test_figures_of_an_iteration(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 3)
    trainer.fit()
    metrics = trainer.reporter.iterations[BATCH * 3]
    for name in ("losses/policy_loss", "losses/approx_kl", "losses/before_clip_grad_norm", "environment/rew_body_pos", "performance/SPS"):
        assert isinstance(metrics[name], float)
    assert metrics["0verview/agent_steps"] == BATCH * 3


def test_the_pull_to_the_initial_weights_shortens_the_way(tmp_path: Path) -> None:
    distances = []
    for coefficient in (0.0, 1e4):
        trainer = make_trainer(tmp_path, 5, l2_reg_coef=coefficient)
        before = torch.cat([p.detach().flatten() for p in trainer.policy.parameters()])
        trainer.fit()
        distances.append((torch.cat([p.detach().flatten() for p in trainer.policy.parameters()]) - before).norm())
    assert distances[1] < 0.7 * distances[0]


def test_a_target_kl_moves_the_rate_and_zero_leaves_it(tmp_path: Path) -> None:
    fixed, adapted = make_trainer(tmp_path, 6, target_kl=0.0), make_trainer(tmp_path, 6, target_kl=1e-6)
    fixed.fit()
    adapted.fit()
    last = BATCH * 6
    rates = [trainer.reporter.iterations[last]["0verview/learning_rate"] for trainer in (fixed, adapted)]
    assert rates[0] == pytest.approx(fixed.updater.rate.scheduled(fixed.iteration - 1))
    assert rates[1] < 0.5 * rates[0]


def test_stop_ends_after_the_iteration(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 10)
    trainer.stop()
    assert trainer.fit() is False
    assert trainer.iteration == 1
    assert load_checkpoint(tmp_path / "run" / "latest.pt").trainer["iteration"] == 1


def test_due() -> None:
    assert [i for i in range(1, 7) if due(i, 3)] == [3, 6]
    assert not any(due(i, 0) for i in range(1, 7))


@pytest.mark.parametrize("num_threads", [1, 2])
def test_same_seed_same_weights_with_any_number_of_threads(tmp_path: Path, num_threads: int) -> None:
    """Enough rows for torch and the engine to share them out."""
    runs = []
    for _ in range(2):
        with threads(num_threads):
            trainer = make_trainer(tmp_path, 3, env={"num_envs": 64}, batch_size=64 * 16, minibatch_size=256)
            trainer.fit()
        runs.append(weights(trainer))
    assert torch.equal(*runs)


@contextlib.contextmanager
def threads(number: int) -> Iterator[None]:
    """Torch on as many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def test_exploration_falls_in_a_straight_line_and_overrules_what_weights_bring_along(tmp_path: Path) -> None:
    trainer = make_trainer(tmp_path, 4)
    trainer.config = dataclasses.replace(trainer.config, policy=dataclasses.replace(trainer.config.policy, final_log_std=-2.5))
    trainer.policy.log_std.data.fill_(7.0)
    seen = []
    collect = trainer.collector.collect
    trainer.collector.collect = lambda scale: (seen.append(trainer.policy.log_std[0].item()), collect(scale))  # type: ignore[method-assign]
    trainer.fit()
    assert seen == pytest.approx([-1.5, -1.75, -2.0, -2.25])
