"""Training throughput over several processes, and the share of it that communication takes.

    torchrun --nproc_per_node 2 scripts/measure_scaling.py --json scaling.json
    python scripts/measure_scaling.py --json scaling.json
    python scripts/measure_scaling.py --table scaling.json

Whole iterations of ``Trainer.fit`` with the default options per process, start-up left out. Each run adds one line to the file; ``--table``
shows the lines beside each other. Communication is the time that the first process's device spends in reductions during some more
iterations under the profiler: waiting for slower processes counts as communication.
"""

import json
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Dict, List, Optional

import torch
import tyro
from benchmarking.clock import SilentReporter, wait
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from puffer_phc import build
from puffer_phc.command_line import run_main
from puffer_phc.commands.session import settled
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig
from puffer_phc.errors import ConfigError
from puffer_phc.learn.distributed import World
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resources import resource_root

WARM_UP_ITERATIONS = 6
"""Iterations in which kernels are compiled and graphs recorded."""
PROFILED_ITERATIONS = 5
REDUCTIONS = ("nccl", "gloo")
"""What the profiler's names of reductions contain."""

Row = Dict[str, Any]


@dataclass(frozen=True)
class Options:
    """Time training over the processes that torchrun started, or in this one."""

    iterations: int = 60
    """Iterations that are timed."""
    json: Optional[Path] = None
    """Add the figures to this file, one line a run."""
    table: Optional[Path] = None
    """Only show what stands in this file."""
    env: EnvConfig = field(default_factory=lambda: EnvConfig(motion_file=str(resource_root() / EnvConfig.motion_file)))
    policy: PolicyConfig = field(default_factory=PolicyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)


class Timer(SilentReporter):
    """A reporter that notes when iterations end, and profiles the last ones."""

    def __init__(self, device: torch.device, iterations: int) -> None:
        self._device, self._first, self._last = device, WARM_UP_ITERATIONS, WARM_UP_ITERATIONS + iterations
        activities = [ProfilerActivity.CUDA] if device.type == "cuda" else [ProfilerActivity.CPU]
        self.profiler = profile(activities=activities)
        self._count = 0
        self._ends: Dict[int, float] = {}

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Note the time; start the profiler where its turn has come."""
        wait(self._device)
        self._count += 1
        self._ends[self._count] = time.perf_counter()
        if self._count == self._last:
            self.profiler.start()
            self._ends[self._count] = time.perf_counter()
        if self._count == self._last + PROFILED_ITERATIONS:
            self.profiler.stop()

    def seconds_per_iteration(self) -> float:
        """The mean over the iterations without profiler."""
        return (self._ends[self._last - 1] - self._ends[self._first]) / (self._last - 1 - self._first)

    def communication_share(self) -> float:
        """Time in reductions over time of the profiled iterations."""
        spans = [event for event in self.profiler.events() or () if any(name in event.name.lower() for name in REDUCTIONS)]
        microseconds = sum(event.device_time_total if self._device.type == "cuda" else event.cpu_time_total for event in spans)
        return 1e-6 * microseconds / (self._ends[self._last + PROFILED_ITERATIONS] - self._ends[self._last])


def measure(options: Options) -> Optional[Row]:
    """Figures of one run in the first process, None in the others."""
    with settled(Config(env=options.env, policy=options.policy, train=options.train)) as (config, device, world, _):
        batch = (config.train.batch_size or 1) * world.size
        total = batch * (WARM_UP_ITERATIONS + options.iterations + PROFILED_ITERATIONS + 1)
        config = replace(config, train=replace(config.train, total_timesteps=total, eval_interval=0, checkpoint_interval=0))
        timer = Timer(device, options.iterations)
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(config, device, world, Path(folder), timer)
            trainer.fit()
            trainer.env.close()
    if not world.is_main:
        return None
    seconds = timer.seconds_per_iteration()
    return {
        "processes": world.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "environments_per_process": config.env.num_envs,
        "batch_per_process": config.train.batch_size,
        "steps_per_second": batch / seconds,
        "seconds_per_iteration": seconds,
        "communication_share": timer.communication_share() if world.size > 1 else 0.0,
    }


def make_trainer(config: Config, device: torch.device, world: World, folder: Path, timer: Timer) -> Trainer:
    """A trainer that only the first process's ``timer`` listens to."""
    motions = build.load_motions(config, device, world)
    env = build.make_environment(config, motions, world)
    policy = build.make_policy(config, env.env.observation_size, env.env.action_size, device)
    return Trainer(config, env, policy, folder, timer, None, world)


def show(rows: List[Row], console: Console) -> None:
    """The rows by number of processes, each beside the one process among them."""
    table = Table("processes", "steps/s", "speed-up", "ms an iteration", "communication", "device")
    alone = next((row["steps_per_second"] for row in rows if row["processes"] == 1), None)
    for row in sorted(rows, key=lambda row: row["processes"]):
        table.add_row(
            str(row["processes"]),
            f"{row['steps_per_second']:,.0f}",
            f"{row['steps_per_second'] / alone:.2f}" if alone else "",
            f"{1000.0 * row['seconds_per_iteration']:.1f}",
            f"{100.0 * row['communication_share']:.1f} %",
            row["device"],
        )
    console.print(table)


def run(options: Options, console: Console) -> int:
    """Measure, or show what was measured."""
    if options.table is not None:
        show(read_table(options.table), console)
        return 0
    row = measure(options)
    if row is None:
        return 0
    if options.json is not None:
        with options.json.open("a") as stream:
            stream.write(json.dumps(row) + "\n")
    show([row], console)
    return 0


def read_table(path: Path) -> List[Row]:
    """The rows of a file that ``--json`` wrote."""
    try:
        return [json.loads(line) for line in path.read_text().splitlines()]
    except ValueError as error:
        raise ConfigError(f"'{path}' is no table of measurements ({error})") from error


def main() -> int:
    """Parse the command line and measure."""
    options = tyro.cli(Options, description=__doc__)
    return run_main(lambda: run(options, Console()))


if __name__ == "__main__":
    sys.exit(main())
