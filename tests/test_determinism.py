"""``--train.deterministic``: two runs of one seed give the same bits on a GPU, and what that costs.

On the CPU ``tests/test_trainer.py`` holds the same without the flag.
"""

import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import pytest
import torch
from killing import is_equal, only_run

from puffer_phc.learn.checkpoint import load_checkpoint
from puffer_phc.learn.determinism import be_deterministic
from puffer_phc.resources import child_environment

REPOSITORY = Path(__file__).resolve().parent.parent
NUM_ENVS, BATCH = 512, 8192


@pytest.fixture
def deterministic():
    """The switch, which belongs to the process, back at its place afterwards."""
    workspace = os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    be_deterministic()
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = True
    os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
    if workspace is not None:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


def test_training_is_possible_and_equal_with_deterministic_algorithms_only(tmp_path: Path, deterministic: None) -> None:
    """Torch raises where an operation has no such algorithm; the Warp engine takes the switch over."""
    pytest.importorskip("mujoco")
    from faulty import make_trainer, weights

    runs = [make_trainer(tmp_path, 3) for _ in range(2)]
    for run in runs:
        run.fit()
    assert torch.equal(weights(runs[0]), weights(runs[1]))


def test_the_warp_backend_follows_the_switch(deterministic: None) -> None:
    mujoco_warp = pytest.importorskip("mujoco_warp")
    from puffer_phc.humanoid.mjcf import PhysicsOptions
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    simulator = MujocoWarpSimulator(2, PhysicsOptions(), torch.device("cpu"))
    assert simulator.warp_model.opt.deterministic == mujoco_warp.DeterminismType.ALL
    targets = torch.zeros(2, 69)
    start = simulator.snapshot()
    simulator.step(targets)
    first = simulator.body.pos.clone()
    simulator.restore(start)
    simulator.step(targets)
    assert first.isfinite().all() and torch.equal(simulator.body.pos, first)
    simulator.close()


def test_what_the_warp_backend_sorts_fits_for_thousands_of_environments(deterministic: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine refuses to sum more records at once than a 32-bit number counts."""
    warp = pytest.importorskip("warp")
    from puffer_phc.humanoid.mjcf import PhysicsOptions
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    num_envs, records, launch = 2, {}, warp.launch

    def spy(kernel: Any, dim: Any, *arguments: Any, **named: Any) -> None:
        launch(kernel, dim, *arguments, **named)
        room = kernel.module.options.get("deterministic_max_records") or 1
        records[kernel.key] = max(
            records.get(kernel.key, 0), math.prod(dim if isinstance(dim, (tuple, list)) else (dim,)) * room / num_envs
        )

    monkeypatch.setattr(warp, "launch", spy)
    MujocoWarpSimulator(num_envs, PhysicsOptions(), torch.device("cpu")).close()
    assert len(records) > 50
    assert max(records.values()) * 16384 < 2**31


def test_an_engine_of_other_parts_keeps_its_own_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left out of a call has to be what it was: an argument that is lost on the way would go unnoticed."""
    pytest.importorskip("mujoco_warp")
    from mujoco_warp._src import solver

    from puffer_phc.sim import warp_order

    def renamed(nv: int, records: int, deterministic: bool = False) -> None: ...

    monkeypatch.setattr(warp_order, "_is_ordered", False)
    monkeypatch.setattr(solver, "_add_actuator_metric_dense", renamed)
    names = (*warp_order._ARGUMENTS, warp_order._GROUPS)
    before = [getattr(solver, name) for name in names]
    for name, part in zip(names, before):
        monkeypatch.setattr(solver, name, part)
    warp_order.order_sums()
    assert [getattr(solver, name) for name in names] == before and not warp_order._is_ordered


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


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_two_runs_on_a_gpu_are_equal_with_the_flag_and_this_is_the_price(tmp_path: Path) -> None:
    runs = [train(tmp_path / name, 10, "--train.deterministic") for name in ("first", "second")]
    plain = train(tmp_path / "plain", 10)
    fast, slow = speed(plain)[0], speed(runs[0])[0]
    print(f"\nsteps/s {fast:,.0f} without the flag, {slow:,.0f} with it: ratio {slow / fast:.3f}")
    first, second = (load_checkpoint(run / "latest.pt") for run in runs)
    assert is_equal(first.policy, second.policy)
    assert is_equal(first.trainer, second.trainer)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_a_resumed_run_on_a_gpu_is_equal_with_the_flag(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", 8, "--train.deterministic")
    train(tmp_path / "half", 4, "--train.deterministic")
    half = only_run(tmp_path / "half")
    train(tmp_path / "half", 8, "--resume", str(half))
    assert is_equal(load_checkpoint(whole / "latest.pt").policy, load_checkpoint(half / "latest.pt").policy)
