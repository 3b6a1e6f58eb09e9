"""How fast each stage of training is here: physics, environment, policy, update and the whole, for several numbers of environments.

    python scripts/benchmark.py --num-envs 4096 8192 16384 --json benchmark.json
    python scripts/benchmark.py --stages physics --compare-physics --num-envs 4096
    python scripts/benchmark.py --stages policy update train --variants PHCPolicy LSTMActorPolicy LSTMCriticPolicy AMP ADD
    python scripts/benchmark.py --backend mujoco_cpu --num-envs 256 --stages physics environment

Rates are environment steps (control steps of one humanoid) a second. On mujoco_cpu the first two stages are timed in turn with a bare
``mujoco.batch.Batch.step`` of the same model from the same states, and the share of its speed is shown.
"""

import dataclasses
import json
import logging
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import List, Optional, Tuple

import tyro
from benchmarking.machine import machine, memory_gb
from benchmarking.physics import physics_candidates, time_physics
from benchmarking.setting import Row, Setting
from benchmarking.stages import STAGES
from benchmarking.table import rounded, show
from benchmarking.variants import SAME_FOR_ALL, Variant, varied
from typing_extensions import Literal

from puffer_phc import build
from puffer_phc.command_line import run_main, say
from puffer_phc.config import Config, EnvConfig, PolicyConfig, TrainConfig, chosen
from puffer_phc.errors import ConfigError
from puffer_phc.files import check_writable_file, write_whole
from puffer_phc.learn.rollout import set_products
from puffer_phc.resolve import choose_device, resolve
from puffer_phc.resources import resource_root

Stage = Literal["physics", "environment", "policy", "update", "train"]


@dataclass(frozen=True)
class Options:
    """Time the stages of training."""

    backend: Literal["auto", "mujoco_cpu", "mujoco_warp"] = "auto"
    """Physics engine; auto takes mujoco_warp where there is a CUDA device."""
    num_envs: Tuple[int, ...] = ()
    """Numbers of environments; default: 4096 on a GPU, 256 on a CPU."""
    stages: Tuple[Stage, ...] = ("physics", "environment", "policy", "update", "train")
    """What to time."""
    variants: Tuple[Variant, ...] = ("PHCPolicy",)
    """Policies, and rewards of a discriminator over the first of them, one after the other; speeds are compared with the first."""
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
        num_envs = options.num_envs[0] if options.num_envs else options.env.num_envs
        config = Config(env=replace(options.env, backend=options.backend, num_envs=num_envs), policy=options.policy, train=options.train)
        self.device = choose_device(config)
        self.config = resolve(config, self.device)
        set_products(self.config.train.precision)
        self.motions = build.load_motions(self.config, self.device)
        self.rows: List[Row] = []

    def setting(self, num_envs: int, variant: str) -> Setting:
        """What to measure for this number of environments; sizes that were automatic are so again."""
        env, train = replace(self.config.env, num_envs=num_envs), replace(self.options.train, device=str(self.device))
        config = varied(Config(env=env, policy=self.options.policy, train=train), variant)
        return Setting(resolve(config, self.device), self.motions, self.device, self.options.seconds)

    def run(self) -> None:
        """All measurements, shown as they come."""
        for num_envs in self.options.num_envs or (chosen(self.config.env.num_envs),):
            for variant in self.options.variants:
                setting = self.setting(num_envs, variant)
                is_first = variant == self.options.variants[0]
                for stage in (stage for stage in self.options.stages if is_first or stage not in SAME_FOR_ALL):
                    self.record(stage, num_envs, {"variant": variant, **STAGES[stage](setting)})
            if self.options.compare_physics:
                setting = self.setting(num_envs, self.options.variants[0])
                for name, physics in physics_candidates(build.physics_options(self.config.env)):
                    self.record(name, num_envs, time_physics(setting, physics))

    def record(self, stage: str, num_envs: int, figures: Row) -> None:
        """Keep one measurement, and say that it is there."""
        row = {"stage": stage, "num_envs": num_envs, **figures, "device_memory_gb": memory_gb(self.device)}
        first = [other for other in self.rows if (other["stage"], other["num_envs"]) == (stage, num_envs)]
        if first:
            row["share_of_first"] = row["steps_per_second"] / first[0]["steps_per_second"]
        self.rows.append(row)
        say(json.dumps({name: rounded(value) for name, value in row.items()}))


def run(options: Options) -> int:
    """Measure, show, write."""
    if not options.seconds > 0:
        raise ConfigError(f"seconds is {options.seconds}, must be more than 0")
    if options.json:
        check_writable_file(options.json)
    if options.clear_cache:
        import warp

        warp.init()
        warp.clear_kernel_cache()
    bench = Bench(options)
    bench.run()
    about = machine(bench.device)
    show(bench.rows, about, bench.config.env)
    if options.json:
        settings = dataclasses.asdict(bench.config)
        write_whole(options.json, json.dumps({"machine": about, "settings": settings, "rows": bench.rows}, indent=2) + "\n")
    return 0


def main() -> int:
    """Parse the command line and measure."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    return run_main(lambda: run(tyro.cli(Options, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())
