"""Training throughput over several processes, and the share of it that communication takes.

    torchrun --nproc_per_node 2 scripts/measure_scaling.py --json scaling.json
    python scripts/measure_scaling.py --json scaling.json
    python scripts/measure_scaling.py --table scaling.json

Whole iterations of ``Trainer.fit`` with the default options per process, start-up left out. Each run adds a line to the file as soon as it
has timed them, and where there are several processes the same again with the share of communication: the time that the first process's
device spends in reductions during some more iterations under the profiler, in which waiting for slower processes is counted. ``--table``
shows what is known of each run. What is done, and for how long it may last, is said on stderr.
"""

import json
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
import tyro
from benchmarking.clock import SilentReporter, wait
from rich.console import Console
from rich.table import Table
from torch.profiler import ProfilerActivity, profile

from puffer_phc import build
from puffer_phc.command_line import Aside, run_main
from puffer_phc.commands.session import settled
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig, chosen
from puffer_phc.errors import ConfigError
from puffer_phc.files import check_writable_file
from puffer_phc.learn.distributed import World
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resources import resource_root

WARM_UP_ITERATIONS = 6
"""Iterations in which kernels are compiled and graphs recorded."""
PROFILED_ITERATIONS = 5
REDUCTIONS = ("nccl", "gloo")
"""What the profiler's names of reductions contain."""
SAID_ITERATIONS = 10
"""Timed iterations between two lines about them."""

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
    """A reporter that notes when iterations end, says so, and profiles the last ones.

    ``on_timed`` is given the mean seconds of an iteration without profiler as soon as they are known.
    """

    def __init__(self, device: torch.device, iterations: int, on_timed: Callable[[float], None]) -> None:
        self._device, self._first, self._last = device, WARM_UP_ITERATIONS, WARM_UP_ITERATIONS + iterations
        self._on_timed = on_timed
        activities = [ProfilerActivity.CUDA] if device.type == "cuda" else [ProfilerActivity.CPU]
        self.profiler = profile(activities=activities)
        self._count = 0
        self._begun = time.perf_counter()
        self._ends: Dict[int, float] = {}

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Note the time; start the profiler where its turn has come."""
        wait(self._device)
        self._count += 1
        self._ends[self._count] = time.perf_counter()
        if self._count <= self._first:
            self._say_how_far(self._count, self._first, "to start up")
        elif self._count <= self._last and (self._count - self._first) % SAID_ITERATIONS == 0:
            self._say_how_far(self._count - self._first, self._last - self._first, "timed")
        if self._count == self._last:
            self._on_timed((self._ends[self._last] - self._ends[self._first]) / (self._last - self._first))
            say(f"profiling {PROFILED_ITERATIONS} iterations")
            self.profiler.start()
            self._ends[self._count] = time.perf_counter()
        if self._count == self._last + PROFILED_ITERATIONS:
            self.profiler.stop()

    def _say_how_far(self, count: int, total: int, what_for: str) -> None:
        say(f"iteration {count} of {total} {what_for}, {time.perf_counter() - self._begun:.0f} s since the beginning")

    def communication_share(self) -> float:
        """Time in reductions over time of the profiled iterations."""
        spans = [event for event in self.profiler.events() or () if any(name in event.name.lower() for name in REDUCTIONS)]
        microseconds = sum(event.device_time_total if self._device.type == "cuda" else event.cpu_time_total for event in spans)
        return 1e-6 * microseconds / (self._ends[self._last + PROFILED_ITERATIONS] - self._ends[self._last])


def measure(options: Options) -> Optional[Row]:
    """Figures of one run in the first process, None in the others; what is known of them is in the file from the moment on."""
    with settled(Config(env=options.env, policy=options.policy, train=options.train)) as (config, device, world, _):
        row = facts(config, device, world)
        batch = chosen(config.train.batch_size) * world.size

        def keep(seconds: float) -> None:
            row.update(steps_per_second=batch / seconds, seconds_per_iteration=seconds)
            write_row(options.json, row)
            say(f"{row['steps_per_second']:,.0f} steps/s{'' if options.json is None else f', written to {options.json}'}")

        timer = Timer(device, options.iterations, keep)
        with tempfile.TemporaryDirectory() as folder:
            trainer = make_trainer(limited(config, batch, options.iterations), device, world, Path(folder), timer)
            if world.is_main:
                say(f"{row['processes']} processes on {row['device']}; kernels are compiled and graphs recorded in the first iterations")
            trainer.fit()
            trainer.env.close()
    if not world.is_main:
        return None
    if world.size > 1:
        say("reading the profile")
        row["communication_share"] = timer.communication_share()
        write_row(options.json, row)
    return row


def facts(config: Config, device: torch.device, world: World) -> Row:
    """What is known of a run before it begins."""
    return {
        "run": secrets.token_hex(4),
        "processes": world.size,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU",
        "environments_per_process": config.env.num_envs,
        "batch_per_process": config.train.batch_size,
    }


def limited(config: Config, batch: int, iterations: int) -> Config:
    """``config`` with as many batches, of so many steps in all processes, as are needed: the first is only looked at."""
    total = batch * (1 + WARM_UP_ITERATIONS + iterations + PROFILED_ITERATIONS)
    return replace(config, train=replace(config.train, total_timesteps=total, eval_interval=0, checkpoint_interval=0))


def say(line: str) -> None:
    """Tell whoever waits."""
    Aside(stderr=True).print(line, soft_wrap=True)


def write_row(path: Optional[Path], row: Row) -> None:
    """Add a line to the file, if there is one."""
    if path is not None:
        with path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(row) + "\n")


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
            f"{100.0 * row['communication_share']:.1f} %" if "communication_share" in row else "",
            row["device"],
        )
    console.print(table)


def run(options: Options, console: Console) -> int:
    """Measure, or show what was measured."""
    if options.table is not None:
        show(read_table(options.table), console)
        return 0
    if options.json is not None:
        check_writable_file(options.json)
    row = measure(options)
    if row is None:
        return 0
    show([row], console)
    return 0


def read_table(path: Path) -> List[Row]:
    """The last row of each run in a file that ``--json`` wrote."""
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return list({row.get("run", number): row for number, row in enumerate(rows)}.values())
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"'{path}' is no table of measurements ({error})") from error


def main() -> int:
    """Parse the command line and measure."""
    return run_main(lambda: run(tyro.cli(Options, description=__doc__), Aside()))


if __name__ == "__main__":
    sys.exit(main())
