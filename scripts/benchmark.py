"""How fast each stage of training is here: physics, environment, policy, update and the whole, for several numbers of environments.

    python scripts/benchmark.py --num-envs 4096 8192 16384 --json benchmark.json
    python scripts/benchmark.py --stages physics --compare-physics --num-envs 4096
    python scripts/benchmark.py --backend mujoco_cpu --num-envs 256 --stages physics environment

Rates are environment steps (control steps of one humanoid) a second. On mujoco_cpu the first two stages are timed in turn with a bare
``mujoco.batch.Batch.step`` of the same model from the same states, and the share of its speed is shown.
"""

import dataclasses
import json
import logging
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import Tensor
from typing_extensions import Literal

from puffer_phc import build
from puffer_phc.command_line import run_main
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig
from puffer_phc.humanoid.mjcf import PhysicsOptions, build_mjcf
from puffer_phc.learn.captured import CapturedCall
from puffer_phc.learn.trainer import Trainer, autocast
from puffer_phc.motion.library import MotionLibrary
from puffer_phc.resolve import choose_device, resolve
from puffer_phc.resources import resource_root
from puffer_phc.sim.simulator import Simulator
from puffer_phc.state import Pose

Stage = Literal["physics", "environment", "policy", "update", "train"]
Row = Dict[str, Any]

EPISODE_STEPS = 30
"""Physics is timed in episodes of one second, each of which starts on the reference, so that the humanoids are mostly on their feet."""
DRIFT_STEPS = 10
"""The drift from the reference is shown after this many control steps."""
TABLE_WIDTH = 120
WARM_UP_CALLS = 5
CALLS_PER_CHUNK = 10
"""Between two looks at the clock, which wait for the device."""


@dataclass(frozen=True)
class Options:
    """Time the stages of training."""

    backend: Literal["auto", "mujoco_cpu", "mujoco_warp"] = "auto"
    """Physics engine; auto takes mujoco_warp where there is a CUDA device."""
    num_envs: Tuple[int, ...] = ()
    """Numbers of environments; default: 4096 on a GPU, 256 on a CPU."""
    stages: Tuple[Stage, ...] = ("physics", "environment", "policy", "update", "train")
    """What to time."""
    seconds: float = 10.0
    """Time spent on each measurement."""
    compare_physics: bool = False
    """Also time physics with other integrators, rates, iterations and contact options."""
    clear_cache: bool = False
    """Throw away Warp's compiled kernels first, to see the cold start."""
    json: Optional[Path] = None
    """Write all figures to this file."""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(motion_file=str(resource_root() / EnvConfig.motion_file)))
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Bench:
    """The resolved options, the motions, and the measurements of one run."""

    def __init__(self, options: Options) -> None:
        self.options = options
        config = Config(env=replace(options.env, backend=options.backend), policy=options.policy, train=options.train)
        self.device = choose_device(config)
        self.config = resolve(config, self.device)
        torch.set_float32_matmul_precision("highest" if self.config.train.precision == "float32" else "high")
        self.motions = build.load_motions(self.config, self.device)
        self.rows: List[Row] = []

    def sized(self, num_envs: int) -> Config:
        """The options for this number of environments; sizes that were automatic are so again."""
        env = replace(self.config.env, num_envs=num_envs)
        return resolve(replace(self.config, env=env, train=replace(self.options.train, device=str(self.device))), self.device)

    def run(self) -> None:
        """All measurements, shown as they come."""
        for num_envs in self.options.num_envs or (self.config.env.num_envs or 1,):
            for stage in self.options.stages:
                self.record(stage, num_envs, STAGES[stage](self, self.sized(num_envs)))
            if self.options.compare_physics:
                for name, physics in physics_candidates(build.physics_options(self.config.env)):
                    self.record(name, num_envs, time_physics(self, self.sized(num_envs), physics))

    def record(self, stage: str, num_envs: int, figures: Row) -> None:
        """Keep one measurement, and say that it is there."""
        row = {"stage": stage, "num_envs": num_envs, **figures, "device_memory_gb": device_memory_gb(self.device)}
        self.rows.append(row)
        print(json.dumps({name: rounded(value) for name, value in row.items()}), flush=True)

    def seconds_per_call(self, function: Callable[[], object]) -> float:
        """Mean time of a call in the steady state, over chunks of calls."""
        for _ in range(WARM_UP_CALLS):
            function()
        wait(self.device)
        started, calls = time.perf_counter(), 0
        while time.perf_counter() - started < self.options.seconds:
            for _ in range(CALLS_PER_CHUNK):
                function()
            calls += CALLS_PER_CHUNK
            wait(self.device)
        return (time.perf_counter() - started) / calls


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
        self._batch = batch.Batch(model, simulator.num_envs, simulator._batch.nthread)
        self._simulator, self._substeps = simulator, physics.substeps

    def share(self, step: Callable[[], object], seconds: float, prepare: Optional[Callable[[], None]] = None) -> float:
        """How many times as many calls of ``step`` as bare steps fit into a second; the median over turns, each after ``prepare``."""
        shares, end = [], time.perf_counter() + 2.0 * seconds
        while time.perf_counter() < end or not shares:
            if prepare is not None:
                prepare()
            self._batch.state[:] = self._simulator.snapshot()["rows"].numpy()
            bare = timed(self.step)
            shares.append(bare / timed(step))
        return statistics.median(shares)

    def step(self) -> None:
        """One control step with the controls that the states came with."""
        self._batch.step(nstep=self._substeps)


def time_physics(bench: Bench, config: Config, physics: Optional[PhysicsOptions] = None) -> Row:
    """``Simulator.step`` along the reference, with a ``set_state`` of all rows every second of simulated time."""
    options = physics or build.physics_options(config.env)
    num_envs = config.env.num_envs or 1
    started = time.perf_counter()
    simulator = make_simulator(config, options, bench.device)
    wait(bench.device)
    start_up = time.perf_counter() - started
    episodes = ReferenceEpisodes(simulator, bench.motions)
    seconds = bench.seconds_per_call(episodes.step)
    figures = {"steps_per_second": num_envs / seconds, "ms_per_call": 1000.0 * seconds, "start_up_seconds": start_up}
    figures["drift_mm"] = episodes.drift()
    if config.env.backend == "mujoco_cpu":
        figures["share_of_bare"] = BareBatch(simulator, options).share(episodes.step, bench.options.seconds, episodes.begin)
    else:
        figures.update(simulator.demand())  # type: ignore[attr-defined]
    figures.update(simulator.read_counters()._asdict())
    simulator.close()
    return figures


def time_environment(bench: Bench, config: Config) -> Row:
    """``ImitationEnv.step`` with random actions: observation, reward, termination and resets included."""
    env = build.make_environment(config, bench.motions).env
    num_envs = env.num_envs
    actions = [2.0 * torch.rand(num_envs, env.action_size, device=bench.device) - 1.0 for _ in range(4)]
    turn = iter(range(sys.maxsize))

    def step() -> None:
        env.step(actions[next(turn) % len(actions)])

    seconds = bench.seconds_per_call(step)
    figures: Row = {"steps_per_second": num_envs / seconds, "ms_per_call": 1000.0 * seconds}
    if config.env.backend == "mujoco_cpu":
        figures["share_of_bare"] = BareBatch(env.simulator, build.physics_options(config.env)).share(step, bench.options.seconds)
    figures.update(env.simulator.read_counters()._asdict())
    env.close()
    return figures


def time_policy(bench: Bench, config: Config) -> Row:
    """Mean action and value for one observation of every environment, as in a rollout."""
    num_envs = config.env.num_envs or 1
    sizes = build.make_environment(replace(config, env=replace(config.env, num_envs=1)), bench.motions).env
    policy = build.make_policy(config, sizes.observation_size, sizes.action_size, bench.device)
    sizes.close()
    observations, memory = torch.randn(num_envs, sizes.observation_size, device=bench.device), policy.no_memory(num_envs)

    @torch.no_grad()
    def infer() -> None:
        with autocast(config.train.precision, bench.device):
            policy.act(observations, memory)

    seconds = bench.seconds_per_call(CapturedCall(infer) if bench.device.type == "cuda" else infer)
    parameters = sum(p.numel() for p in policy.parameters())
    return {"steps_per_second": num_envs / seconds, "ms_per_call": 1000.0 * seconds, "parameters": parameters}


def time_update(bench: Bench, config: Config) -> Row:
    """Advantages and all epochs over one batch."""
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(bench, config, Path(folder), Stopwatch(bench, 0.0))
        trainer.collect()
        trainer.take_in_observations()
        seconds = bench.seconds_per_call(lambda: trainer.update(trainer.advantages()))
        trainer.env.close()
    batch = config.train.batch_size or 1
    return {"steps_per_second": batch / seconds, "ms_per_call": 1000.0 * seconds, "batch_size": batch}


def time_training(bench: Bench, config: Config) -> Row:
    """Whole iterations of ``Trainer.fit``: rollout, update and report."""
    stopwatch = Stopwatch(bench, bench.options.seconds)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(bench, config, Path(folder), stopwatch)
        try:
            trainer.fit()
        except TimeIsUpError:
            pass
        finally:
            counters = trainer.env.env.simulator.read_counters()
            trainer.env.close()
    seconds = stopwatch.seconds_per_iteration()
    batch = config.train.batch_size or 1
    return {"steps_per_second": batch / seconds, "ms_per_call": 1000.0 * seconds, "batch_size": batch, **counters._asdict()}


STAGES: Dict[str, Callable[[Bench, Config], Row]] = {
    "physics": time_physics,
    "environment": time_environment,
    "policy": time_policy,
    "update": time_update,
    "train": time_training,
}


class TimeIsUpError(Exception):
    """Ends ``Trainer.fit`` from its reporter."""


class Stopwatch:
    """A reporter that times iterations, the first two aside, in which kernels are compiled, for ``seconds``."""

    def __init__(self, bench: Bench, seconds: float) -> None:
        self._bench, self._seconds = bench, seconds
        self._ends: List[float] = []

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Note the time of an iteration's end."""
        wait(self._bench.device)
        self._ends.append(time.perf_counter())
        if len(self._ends) > 3 and self._ends[-1] - self._ends[1] > self._seconds:
            raise TimeIsUpError

    def seconds_per_iteration(self) -> float:
        """The mean over the iterations that count."""
        return (self._ends[-1] - self._ends[1]) / (len(self._ends) - 2)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Nothing is evaluated here."""

    def message(self, text: str) -> None:
        """Nothing to say."""

    def close(self) -> None:
        """Nothing to close."""


def make_trainer(bench: Bench, config: Config, folder: Path, stopwatch: Stopwatch) -> Trainer:
    """A trainer that neither evaluates nor saves on the way."""
    train = replace(config.train, eval_interval=0, checkpoint_interval=0)
    env = build.make_environment(config, bench.motions)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, bench.device)
    return Trainer(replace(config, train=train), env, policy, folder, stopwatch)


def make_simulator(config: Config, physics: PhysicsOptions, device: torch.device) -> Simulator:
    """A simulator with settings that [env] may not have options for."""
    num_envs = config.env.num_envs or 1
    if config.env.backend == "mujoco_cpu":
        from puffer_phc.sim.mujoco_cpu import MujocoCpuSimulator

        return MujocoCpuSimulator(num_envs, physics)
    from puffer_phc.sim.mujoco_warp import MujocoWarpSimulator

    return MujocoWarpSimulator(num_envs, physics, device)


def physics_candidates(base: PhysicsOptions) -> List[Tuple[str, PhysicsOptions]]:
    """Settings around ``base`` that differ in one thing, and the fall-backs, by name."""
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
    return [(describe(candidate), candidate) for candidate in candidates if candidate != base]


def describe(physics: PhysicsOptions) -> str:
    """The settings in a few words: rate × substeps, iterations of the solver / of its line search."""
    words = [physics.integrator, f"{physics.rate:g}×{physics.substeps}", f"{physics.iterations}/{physics.ls_iterations}"]
    words += [physics.cone] if physics.cone != "pyramidal" else []
    words += [] if physics.has_self_collision else ["no self-collision"]
    return " ".join(words)


def timed(function: Callable[[], object]) -> float:
    """Seconds of a chunk of calls."""
    started = time.perf_counter()
    for _ in range(CALLS_PER_CHUNK):
        function()
    return time.perf_counter() - started


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_memory_gb(device: torch.device) -> float:
    """What is taken of the GPU's memory by all that runs on it, pools included; on a CPU the largest size this process ever had."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return (total - free) / 1e9
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def machine(device: torch.device) -> Row:
    """What the figures were measured on and with."""
    versions = {name: metadata.version(name) for name in ("torch", "mujoco", "mujoco-warp", "warp-lang", "numpy") if is_installed(name)}
    described = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "device": described.name if described else platform.processor() or platform.machine(),
        "memory_gb": described.total_memory / 1e9 if described else None,
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "cuda": torch.version.cuda,
        **versions,
    }


def is_installed(package: str) -> bool:
    """Whether pip knows the package here."""
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True


def rounded(value: Any) -> Any:
    """Five digits are enough for a figure."""
    return float(f"{value:.5g}") if isinstance(value, float) else value


def show(rows: List[Row], about: Row, config: Config) -> None:
    """The table on the terminal."""
    env = config.env
    title = (
        f"{about['device']} · {env.backend} · {env.integrator} {env.physics_rate:g} Hz × {env.substeps}, {env.solver_iterations} iterations"
    )
    table = Table(title=title)
    columns = {"stage": "stage", "num_envs": "envs", "steps_per_second": "steps/s", "ms_per_call": "ms", "share_of_bare": "of bare"}
    columns.update({"drift_mm": "drift mm", "device_memory_gb": "GB", "start_up_seconds": "start s", "diverged": "diverged"})
    for title in columns.values():
        table.add_column(title, justify="left" if title == "stage" else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(figure(row.get(name)) for name in columns))
    Console(width=max(Console().width, TABLE_WIDTH)).print(table)


def figure(value: Any) -> str:
    """A table's entry."""
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000.0 else f"{value:.3g}"
    return "" if value is None else str(value)


def run(options: Options) -> int:
    """Measure, show, write."""
    if options.clear_cache:
        import warp

        warp.init()
        warp.clear_kernel_cache()
    bench = Bench(options)
    bench.run()
    about = machine(bench.device)
    show(bench.rows, about, bench.config)
    if options.json:
        settings = dataclasses.asdict(bench.config)
        options.json.write_text(json.dumps({"machine": about, "settings": settings, "rows": bench.rows}, indent=2) + "\n", encoding="utf-8")
    return 0


def main() -> int:
    """Parse the command line and measure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = tyro.cli(Options, description=__doc__)
    return run_main(lambda: run(options))


if __name__ == "__main__":
    sys.exit(main())
