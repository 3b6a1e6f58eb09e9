"""Physics alone: a simulator that follows clips open loop, beside the bare engine on a CPU, and other settings of the engine."""

import statistics
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
from torch import Tensor

from benchmarking.clock import seconds_of_a_chunk, seconds_per_call, wait
from benchmarking.setting import Row, Setting
from puffer_phc import build
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.sim.simulator import Simulator
from puffer_phc.state import Pose

EPISODE_STEPS = 30
"""Physics is timed in episodes of one second, each of which starts on the reference, so that the humanoids are mostly on their feet."""
DRIFT_STEPS = 10
"""The drift from the reference is shown after this many control steps."""


def time_physics(setting: Setting, physics: Optional[PhysicsOptions] = None) -> Row:
    """``Simulator.step`` along the reference, with a ``set_state`` of all rows every second of simulated time."""
    config = setting.config
    options = physics or build.physics_options(config.env)
    started = time.perf_counter()
    simulator = make_simulator(setting, options)
    wait(setting.device)
    start_up = time.perf_counter() - started
    episodes = ReferenceEpisodes(simulator, setting.motions)
    seconds = seconds_per_call(episodes.step, setting.device, setting.seconds)
    figures = {"steps_per_second": setting.num_envs / seconds, "ms_per_call": 1000.0 * seconds, "start_up_seconds": start_up}
    figures["drift_mm"] = episodes.drift()
    if config.env.backend == "mujoco_cpu":
        figures["share_of_bare"] = BareBatch(simulator, options).share(episodes.step, setting.seconds, episodes.begin)
    else:
        figures.update(simulator.demand())  # type: ignore[attr-defined]
    figures.update(simulator.read_counters()._asdict())
    simulator.close()
    return figures


class ReferenceEpisodes:
    """A simulator that follows clips open loop: targets are the reference led by kd/kp times its velocity."""

    def __init__(self, simulator: Simulator, motions: MotionLibrary) -> None:
        self.simulator, self._step = simulator, 0
        n, device = simulator.num_envs, simulator.device
        generator = torch.Generator().manual_seed(0)
        clip_ids = torch.randint(motions.num_clips, (n,), generator=generator).to(device)
        room = (motions.durations[clip_ids] - EPISODE_STEPS * simulator.control_dt).clamp_min(0.0)
        starts = torch.rand(n, generator=generator).to(device) * room
        frames = [motions.at(clip_ids, starts + step * simulator.control_dt) for step in range(EPISODE_STEPS + 1)]
        lead = simulator.gains.damping / simulator.gains.stiffness
        self.start, self._everybody = lifted(frames[0].pose(), motions.clearance(clip_ids, starts)), torch.ones_like(room, dtype=torch.bool)
        self._targets = [frame.dof_pos + lead * frame.dof_vel for frame in frames[1:]]
        self._positions_after = frames[DRIFT_STEPS].body.pos

    def step(self) -> None:
        """One control step; every ``EPISODE_STEPS`` of them begin on the reference."""
        if self._step % EPISODE_STEPS == 0:
            self.simulator.set_state(self._everybody, self.start)
        self.simulator.step(self._targets[self._step % EPISODE_STEPS])
        self._step += 1

    def begin(self) -> None:
        """Start on the reference and take one step, so that the next ``EPISODE_STEPS`` − 1 need no ``set_state``."""
        self._step = 0
        self.step()

    def drift(self) -> float:
        """Mean distance in mm of the bodies from the reference after ``DRIFT_STEPS``."""
        self._step = 0
        for _ in range(DRIFT_STEPS):
            self.step()
        return 1000.0 * (self.simulator.body.pos - self._positions_after).norm(dim=-1).mean().item()


def lifted(pose: Pose, clearance: Tensor) -> Pose:
    """``pose`` out of the floor by the penetration that the clip has there, as the environment's resets do it."""
    up = torch.zeros_like(pose.root_pos)
    up[:, 2] = (-clearance).clamp_min(0.0)
    return pose._replace(root_pos=pose.root_pos + up)


class BareBatch:
    """``mujoco.batch.Batch.step`` and nothing else, from the states of a CPU simulator."""

    def __init__(self, simulator: Any, physics: PhysicsOptions) -> None:
        import mujoco
        from mujoco import batch

        engine: Any = mujoco
        model = engine.MjModel.from_xml_string(build_mjcf(physics))
        model.opt.disableflags |= int(engine.mjtDisableBit.mjDSBL_AUTORESET)
        self._batch = batch.Batch(model, simulator.num_envs, simulator.num_threads)
        self._simulator, self._substeps = simulator, physics.substeps

    def share(self, step: Callable[[], object], seconds: float, prepare: Optional[Callable[[], None]] = None) -> float:
        """How many times as many calls of ``step`` as bare steps fit into a second; the median over turns, each after ``prepare``."""
        shares, end = [], time.perf_counter() + 2.0 * seconds
        while time.perf_counter() < end or not shares:
            if prepare is not None:
                prepare()
            self._batch.state[:] = self._simulator.snapshot()["rows"].numpy()
            bare = seconds_of_a_chunk(self.step)
            shares.append(bare / seconds_of_a_chunk(step))
        return statistics.median(shares)

    def step(self) -> None:
        """One control step with the controls that the states came with."""
        self._batch.step(nstep=self._substeps)


def make_simulator(setting: Setting, physics: PhysicsOptions) -> Simulator:
    """A simulator with settings that [env] may not have options for."""
    if setting.config.env.backend == "mujoco_cpu":
        from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

        return MujocoCpuSimulator(setting.num_envs, physics)
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    return MujocoWarpSimulator(setting.num_envs, physics, setting.device)


def physics_candidates(base: PhysicsOptions) -> List[Tuple[str, PhysicsOptions]]:
    """Settings around ``base`` that differ in one thing, and the fall-backs, by name and each of them once."""
    changes: List[Dict[str, Any]] = [
        *({"iterations": iterations} for iterations in (3, 5, 10, 20)),
        *({"ls_iterations": iterations} for iterations in (5, 10, 50)),
        {"iterations": 5, "ls_iterations": 10},
        {"cone": "elliptic"},
        {"has_self_collision": not base.has_self_collision},
        *({"integrator": "discrete", "rate": 30.0 * substeps, "substeps": substeps} for substeps in (1, 2, 3, 4)),
        *({"integrator": "implicitfast", "rate": 30.0 * substeps, "substeps": substeps} for substeps in (4, 6)),
        {"integrator": "implicitfast", "rate": 120.0, "substeps": 4, "iterations": 5},
    ]
    candidates = [replace(base, **change) for change in changes]
    return list({describe(candidate): candidate for candidate in candidates if candidate != base}.items())


def describe(physics: PhysicsOptions) -> str:
    """The settings in a few words: rate × substeps, iterations of the solver / of its line search."""
    words = [physics.integrator, f"{physics.rate:g}×{physics.substeps}", f"{physics.iterations}/{physics.ls_iterations}"]
    words += [physics.cone] if physics.cone != "pyramidal" else []
    words += [] if physics.has_self_collision else ["no self-collision"]
    return " ".join(words)
