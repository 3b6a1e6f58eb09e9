"""Where two trainings of one seed part, stage by stage in one process: physics, environment, rollout, update.

On the CPU they never do: there this holds the stages themselves, and that a difference would be found. ``pytest -m gpu`` asks a GPU.
"""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List

import pytest
import torch
from differences import assert_same, differences
from synthetic_motion import swaying_clip

from puffer_phc import build
from puffer_phc.config import Config
from puffer_phc.humanoid.mjcf import PhysicsOptions
from puffer_phc.learn.trainer import Trainer
from puffer_phc.motion.file import save_motion_file
from puffer_phc.resolve import resolve
from puffer_phc.state import Pose

ON_GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")]
pytestmark = pytest.mark.usefixtures("deterministic")
DEVICES = ["cpu", pytest.param("cuda", marks=ON_GPU)]
SPEED_ENVS, SPEED_STEPS = 512, 100


class Draws:
    """The same random numbers on every device."""

    def __init__(self, num_envs: int, device: str) -> None:
        self._generator, self._num_envs, self._device = torch.Generator().manual_seed(3), num_envs, device

    def normal(self, size: int, scale: float = 1.0) -> torch.Tensor:
        return (scale * torch.randn(self._num_envs, size, generator=self._generator)).to(self._device)

    def pose(self) -> Pose:
        """Any way up, from halfway in the floor to falling on it."""
        pos = torch.cat((self.normal(2), 0.5 + 0.2 * self.normal(1)), -1)
        quat = torch.nn.functional.normalize(self.normal(4), dim=-1)
        return Pose(pos, quat, self.normal(3), self.normal(3), self.normal(69, 0.3), self.normal(69))


def make_simulator(num_envs: int, device: str) -> Any:
    pytest.importorskip("mujoco_warp")
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    return MujocoWarpSimulator(num_envs, PhysicsOptions(), torch.device(device))


def physical_state(simulator: Any) -> Dict[str, Any]:
    return {**simulator.integration_state(), "body": simulator.body, "dof": simulator.dof}


@pytest.mark.parametrize("device", DEVICES)
def test_two_simulators_move_alike(device: str) -> None:
    num_envs, num_steps = (512, 100) if device == "cuda" else (6, 20)
    pair = [make_simulator(num_envs, device) for _ in range(2)]
    draws = Draws(num_envs, device)
    pose = draws.pose()
    for simulator in pair:
        simulator.set_state(torch.ones(num_envs, dtype=torch.bool, device=device), pose)
    for step in range(num_steps):
        targets = draws.normal(69, 0.5)
        for simulator in pair:
            simulator.step(targets)
        assert_same(*map(physical_state, pair), f"{num_envs} humanoids, control step {step}")
    assert pair[0].demand()["contacts_per_env"] > 2.0
    for simulator in pair:
        simulator.close()


def test_a_humanoid_that_moves_otherwise_is_named() -> None:
    pair, draws = [make_simulator(3, "cpu") for _ in range(2)], Draws(3, "cpu")
    targets = draws.normal(69)
    pair[0].step(targets)
    targets[1, 5] += 0.1
    pair[1].step(targets)
    found = differences(*map(physical_state, pair))
    assert found["qpos"].startswith("1 of 3 rows") and "body.pos" in found and "diverged" not in found
    assert next(iter(found)) == "qpos"


def make_config(folder: Path, device: str, **options: Any) -> Config:
    num_envs, batch = (512, 8192) if device == "cuda" else (4, 64)
    motion_file = folder / "motion.npz"
    if not motion_file.exists():
        save_motion_file(motion_file, [swaying_clip(40), swaying_clip(60, seed=1)])
    config = Config()
    return resolve(
        replace(
            config,
            env=replace(config.env, num_envs=num_envs, motion_file=str(motion_file)),
            policy=replace(config.policy, layer_sizes=(256, 64), hidden_size=64),
            train=replace(
                config.train, device=device, batch_size=batch, total_timesteps=8 * batch, eval_interval=0, checkpoint_interval=0, **options
            ),
        ),
        torch.device(device),
    )


@pytest.mark.parametrize("device", DEVICES)
def test_two_environments_restart_alike(device: str, tmp_path: Path) -> None:
    config = make_config(tmp_path, device)
    pair = [build.make_environment(config, build.load_motions(config, torch.device(device))) for _ in range(2)]
    for env in pair:
        env.reset()
    draws, restarts = Draws(pair[0].num_agents, device), 0
    for step in range(60 if device == "cuda" else 30):
        actions = draws.normal(pair[0].env.action_size)
        for env in pair:
            env.step(actions)
        names = ("observations", "rewards", "terminals", "truncations")
        assert_same(*({name: getattr(env, name) for name in names} for env in pair), f"step {step}")
        assert_same(*(env.snapshot() for env in pair), f"state after step {step}")
        restarts += int((pair[0].terminals | pair[0].truncations).sum())
    assert restarts > 0
    for env in pair:
        env.close()


class Silent:
    """A reporter of nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: None


def make_trainer(folder: Path, device: str, name: str) -> Trainer:
    config = make_config(folder, device)
    adapter = build.make_environment(config, build.load_motions(config, torch.device(device)))
    policy = build.make_policy(config, adapter.env.observation_size, adapter.env.action_size, torch.device(device))
    return Trainer(config, adapter, policy, folder / name, Silent(), None)


@pytest.mark.parametrize("device", DEVICES)
def test_two_trainers_collect_and_learn_alike(device: str, tmp_path: Path) -> None:
    """The second iteration is the one with statistics of what is seen, and with recorded graphs."""
    pair: List[Trainer] = [make_trainer(tmp_path, device, name) for name in ("first", "second")]
    for iteration in range(3):
        for trainer in pair:
            trainer.collect()
        assert_same(*(vars(trainer.rollout) for trainer in pair), f"rollout {iteration}")
        figures = [trainer.update(trainer.advantages()) for trainer in pair]
        assert_same(*figures, f"losses {iteration}")
        assert_same(*(trainer.policy.state_dict() for trainer in pair), f"weights after update {iteration}")
        assert_same(*(trainer.updater.shared_state() for trainer in pair), f"optimiser after update {iteration}")
        for trainer in pair:
            trainer.take_in()
        assert_same(*(trainer.policy.state_dict() for trainer in pair), f"normaliser {iteration}")
        assert_same(*(trainer.env.sampler.state_dict() for trainer in pair), f"sampler {iteration}")
    states = [trainer.checkpoint() for trainer in pair]
    assert_same(*(state.trainer for state in states), "what a checkpoint holds")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="a CUDA device")
def test_what_order_costs_the_physics_of_a_gpu() -> None:
    seconds = {}
    for is_ordered in (True, False):
        torch.use_deterministic_algorithms(is_ordered)
        seconds[is_ordered] = seconds_a_step(make_simulator(SPEED_ENVS, "cuda"))
    rates = {is_ordered: SPEED_ENVS / spent for is_ordered, spent in seconds.items()}
    print(f"\nphysics of {SPEED_ENVS}: {rates[False]:,.0f} steps/s, in order {rates[True]:,.0f}: ratio {rates[True] / rates[False]:.3f}")
    assert rates[True] > 0.4 * rates[False]  # 0.726 on an H100


def seconds_a_step(simulator: Any) -> float:
    """Of control steps among contacts."""
    draws = Draws(simulator.num_envs, "cuda")
    simulator.set_state(torch.ones(simulator.num_envs, dtype=torch.bool, device="cuda"), draws.pose())
    targets = draws.normal(69, 0.3)
    for _ in range(10):
        simulator.step(targets)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(SPEED_STEPS):
        simulator.step(targets)
    torch.cuda.synchronize()
    simulator.close()
    return (time.perf_counter() - started) / SPEED_STEPS
