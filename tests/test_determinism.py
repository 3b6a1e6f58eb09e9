"""``--train.deterministic``: two runs of one seed give the same bits on a GPU, and what that costs.

On the CPU ``tests/test_trainer.py`` holds the same without the flag.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import List, Tuple

import pytest
import torch
from differences import assert_same, logged_figures
from killing import only_run

from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.report.dashboard import Progress
from puffer_phc.report.metrics_log import METRICS, MetricsLog
from puffer_phc.report.several import Several
from puffer_phc.resources import child_environment

REPOSITORY = Path(__file__).resolve().parent.parent
NUM_ENVS, BATCH = 512, 8192


def test_training_is_possible_and_equal_with_deterministic_algorithms_only(tmp_path: Path, deterministic: None) -> None:
    """Torch raises where an operation has no such algorithm; the Warp engine takes the switch over."""
    pytest.importorskip("mujoco")
    from faulty import make_trainer, weights

    runs = [make_trainer(tmp_path, 3) for _ in range(2)]
    for run in runs:
        run.fit()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def train(folder: Path, iterations: int, *words: str) -> Path:
    """A training with the GPU's defaults but for the sizes in a process of its own; returns its folder."""
    options = ["--train.data_dir", str(folder), "--train.total_timesteps", str(BATCH * (iterations + 1)), "--train.eval_interval", "0"]
    options += ["--env.num_envs", str(NUM_ENVS), "--train.batch_size", str(BATCH)]
    command = [sys.executable, str(REPOSITORY / "scripts" / "train.py"), *options, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=child_environment(), check=False, timeout=1200)
    assert done.returncode == 0, done.stderr
    return only_run(folder)


def speed(run: Path) -> Tuple[float, List[float]]:
    """Median environment steps per second after the first five iterations, and all of them."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = sorted(line["performance/SPS"] for line in lines[5:])
    return found[len(found) // 2], found


class Runs:
    """Whole trainings on a GPU by name, each made when it is first asked for; ``plain`` is the one without the flag."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._made = folder, {}

    def __call__(self, name: str) -> Path:
        if name not in self._made:
            self._made[name] = train(self._folder / name, 10, *([] if name == "plain" else ["--train.deterministic"]))
        return self._made[name]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("runs"))


def assert_same_checkpoints(first: Path, second: Path) -> None:
    states = [load_checkpoint(run / "latest.pt") for run in (first, second)]
    assert_same(*({"policy": state.policy, "trainer": state.trainer} for state in states), "checkpoints")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_two_runs_on_a_gpu_are_equal_with_the_flag(runs: Runs) -> None:
    first, second = runs("first"), runs("second")
    assert_same(logged_figures(first), logged_figures(second), "metrics")
    assert_same_checkpoints(first, second)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_what_the_flag_costs_a_training_on_a_gpu(runs: Runs) -> None:
    slow, fast = speed(runs("first"))[0], speed(runs("plain"))[0]
    print(f"\n{NUM_ENVS} environments: {fast:,.0f} steps/s without the flag, {slow:,.0f} with it: ratio {slow / fast:.3f}")
    assert slow > 0.4 * fast  # 0.689 on an H100


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_a_resumed_run_on_a_gpu_is_equal_with_the_flag(runs: Runs, tmp_path: Path) -> None:
    train(tmp_path, 5, "--train.deterministic")
    half = only_run(tmp_path)
    train(tmp_path, 10, "--resume", str(half))
    assert_same_checkpoints(runs("first"), half)


def test_a_run_is_equal_to_itself_and_to_no_other(tmp_path: Path) -> None:
    """What the tests on a GPU compare is there, and no figure of it is the clock's: the same in other folders, at other times."""
    pytest.importorskip("mujoco")
    first, second, third = (train_here(tmp_path / name, seed) for name, seed in (("first", 1), ("second", 1), ("third", 2)))
    assert_same_checkpoints(first, second)
    assert_same(logged_figures(first), logged_figures(second), "metrics")
    with pytest.raises(AssertionError, match="policy"):
        assert_same_checkpoints(first, third)
    with pytest.raises(AssertionError, match="losses/"):
        assert_same(logged_figures(first), logged_figures(third), "metrics")


def train_here(folder: Path, seed: int) -> Path:
    """A small training in this process with a log of its figures as every run has it; returns the run's folder."""
    from faulty import make_trainer

    folder.mkdir()
    trainer = make_trainer(folder, 3, seed=seed)
    trainer.run_dir.mkdir()
    trainer.reporter = Several([MetricsLog(trainer.run_dir / METRICS)], Progress(3 * trainer.rollout.rewards.numel()))
    trainer.fit()
    trainer.reporter.close()
    return trainer.run_dir
