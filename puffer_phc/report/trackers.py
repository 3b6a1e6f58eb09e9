"""Experiment trackers that need an extra: Weights & Biases and TensorBoard."""

import math
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict

from puffer_phc.errors import ConfigError

OPTIONS = {"wandb": "--track", "tensorboard": "--tensorboard"}
"""What asks for each package; the extra that brings it has the package's name."""


def require(package: str) -> None:
    """Raise ConfigError with the command that brings ``package`` where it is not installed. Cheap: nothing is imported."""
    if find_spec(package) is None:
        raise ConfigError(f"{OPTIONS[package]} needs {package}: pip install 'puffer-phc[{package}]'")


class Wandb:
    """Logs to Weights & Biases: online for those who are logged in or say so by WANDB_MODE, else offline into the run's folder.

    Raises ConfigError where wandb is not installed.
    """

    def __init__(self, run_dir: Path, project: str, options: Dict[str, Any]) -> None:
        require("wandb")
        import wandb

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        self._run = wandb.init(project=project, name=run_dir.name, dir=str(run_dir), config=options, mode=mode)

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Log the figures of one iteration."""
        self._run.log(finite(metrics), step=step)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Log the figures of one evaluation."""
        self._run.log(finite(summary), step=step)

    def message(self, text: str) -> None:
        """Messages stay on the terminal."""

    def close(self) -> None:
        """Finish the run and wait until everything is written."""
        self._run.finish()


class TensorBoard:
    """Writes TensorBoard event files into the run's folder. Raises ConfigError where tensorboard is not installed."""

    def __init__(self, run_dir: Path) -> None:
        require("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir))

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Write the figures of one iteration."""
        self._write(step, metrics)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Write the figures of one evaluation."""
        self._write(step, summary)

    def message(self, text: str) -> None:
        """Messages stay on the terminal."""

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()

    def _write(self, step: int, figures: Dict[str, float]) -> None:
        for name, value in finite(figures).items():
            self._writer.add_scalar(name, value, step)


def finite(figures: Dict[str, float]) -> Dict[str, float]:
    """``figures`` without those that are not finite (a mean over no episode, for one)."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}
