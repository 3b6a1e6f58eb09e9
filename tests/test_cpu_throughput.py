"""What the CPU backend costs beside the bare engine: run with ``python -m pytest -m slow -s tests/test_cpu_throughput.py``."""

import os
import statistics
import time

import pytest
import torch

from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

mujoco = pytest.importorskip("mujoco")
batch = pytest.importorskip("mujoco.batch")

WARM_UP, STEPS, ROUNDS = 20, 40, 6
LOWEST_SHARE = 0.8
"""The bar is 0.9; a machine with other work on it must not fail for noise."""


def seconds(call, argument) -> float:
    start = time.perf_counter()
    call(argument)
    return time.perf_counter() - start


@pytest.mark.slow
@pytest.mark.parametrize("num_envs", [64, 256])
def test_steps_per_second_against_the_bare_engine(num_envs):
    """The same model, targets, substeps, threads and states; the two step in turn, so that other work hits both alike."""
    options = PhysicsOptions()
    num_threads = os.cpu_count() or 1
    simulator = MujocoCpuSimulator(num_envs, options, num_threads)
    bare = batch.Batch(mujoco.MjModel.from_xml_string(build_mjcf(options)), num_envs, num_threads)
    bare.reset()
    controls, control_rows = bare.bind("ctrl"), bare.state
    targets = 0.3 * torch.randn(STEPS, num_envs, 69, generator=torch.Generator().manual_seed(0))
    numpy_targets = targets.numpy()

    def step_bare(target):
        controls[:] = target
        bare.step(nstep=options.substeps)

    for index in range(WARM_UP):
        simulator.step(targets[index])
    start = simulator.snapshot()
    bare_times, times = [], []
    for _ in range(ROUNDS):
        simulator.restore(start)
        control_rows[:] = start["rows"].numpy()
        for index in range(STEPS):
            bare_times.append(seconds(step_bare, numpy_targets[index]))
            times.append(seconds(simulator.step, targets[index]))
        assert (control_rows == simulator.snapshot()["rows"].numpy()).all()
    share = statistics.median(bare_times) / statistics.median(times)
    print(
        f"\n{num_envs} environments, {num_threads} threads: bare Batch.step {num_envs / statistics.median(bare_times):,.0f} env-steps/s, "
        f"MujocoCpuSimulator.step {num_envs / statistics.median(times):,.0f}: {share:.1%} (medians), "
        f"{sum(bare_times) / sum(times):.1%} (totals); load {os.getloadavg()[0] if hasattr(os, 'getloadavg') else float('nan'):.1f}"
    )
    assert share > LOWEST_SHARE
