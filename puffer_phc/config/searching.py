"""How many trainings look for the best options."""

from dataclasses import dataclass
from typing import Optional

from typing_extensions import Literal

from puffer_phc.config.ranges import check
from puffer_phc.errors import ConfigError


@dataclass(frozen=True)
class SweepConfig:
    """Section [sweep]. Which options are swept stands in sections of their own, like [sweep.train.learning_rate]."""

    name: str = "sweep"
    """Folder of the sweep in train.data_dir; where a sweep of this name has begun there, it goes on."""
    method: Literal["carbs", "carbs-imbue", "random"] = "carbs"
    """carbs: search along the front of score and cost; carbs-imbue: the package of its authors, where it is installed; random: draws."""
    metric: str = "eval/survival_strict"
    """Score of a run: a figure of its evaluations; survival_strict is the mean share of a clip before the strict failure."""
    goal: Literal["maximize", "minimize"] = "maximize"
    """Which way the metric is better."""
    runs: int = 50
    """Trainings in all; with a larger number a finished sweep goes on."""
    workers: Optional[int] = None
    """Trainings at a time; auto: one a GPU, or one on a CPU."""
    time_limit: float = 3600.0
    """s that a training may take; what is predicted to take longer is not suggested."""
    evaluations: int = 1
    """Of each run, evenly spread; where train.total_timesteps is swept, each counts as the result of a run that ends there."""
    stop_share: float = 0.0
    """A run whose best evaluation is among the worst such share of what others had for the same cost is stopped; 0: none is."""
    initial_runs: Optional[int] = None
    """Runs around the centres, or over the ranges where there is none, before models say where to look; auto: one an option, at least 4."""
    search_radius: float = 0.3
    """Standard deviation of the search around good runs, in units of each option's scale (half of its range, unless it says otherwise)."""
    resample_interval: int = 5
    """Every so many runs one of the best is repeated, where results turn out to be noisy; 0: never."""
    retries: int = 2
    """Times that a run goes on after it was killed; then it counts as failed."""
    seed: int = 1
    """Seed of the search; each training has train.seed."""

    def __post_init__(self) -> None:
        check(
            "sweep",
            self,
            counts=("runs", "workers", "evaluations", "initial_runs"),
            positive=("time_limit", "search_radius"),
            not_negative=("resample_interval", "retries", "seed"),
            shares=("stop_share",),
        )
        if not self.name or set(self.name) & set("/\\") or self.name.startswith("."):
            raise ConfigError(f"sweep.name is {self.name!r}, must be a plain folder name")
