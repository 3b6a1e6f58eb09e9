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
    """Logs figures, films, options and ``facts`` (versions, commit, machine) to Weights & Biases.

    Online for those who are logged in or say so by WANDB_MODE, else offline into the run's folder. Raises ConfigError where wandb is not
    installed.
    """

    def __init__(self, run_dir: Path, project: str, options: Dict[str, Any], facts: Dict[str, str]) -> None:
        require("wandb")
        import wandb

        self._video = wandb.Video

        mode: Any = os.environ.get("WANDB_MODE") or ("online" if wandb.api.api_key else "offline")
        self._run = wandb.init(project=project, name=run_dir.name, dir=str(run_dir), config={**options, "made_by": facts}, mode=mode)

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Log the figures of one iteration."""
        self._run.log(finite(metrics), step=step)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Log the figures of one evaluation."""
        self._run.log(finite(summary), step=step)

    def on_video(self, step: int, path: Path) -> None:
        """Log a film."""
        self._run.log({"eval/video": self._video(str(path), format="gif")}, step=step)

    def message(self, text: str) -> None:
        """Messages stay on the terminal."""

    def close(self) -> None:
        """Finish the run and wait until everything is written."""
        self._run.finish()


class TensorBoard:
    """Writes TensorBoard event files into the run's folder: figures, films, and options and ``facts`` as text.

    Raises ConfigError where tensorboard is not installed.
    """

    def __init__(self, run_dir: Path, options: Dict[str, Any], facts: Dict[str, str]) -> None:
        require("tensorboard")
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir))
        for section, values in {**options, "made_by": facts}.items():
            self._writer.add_text(f"options/{section}", _as_table(values), 0)

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Write the figures of one iteration."""
        self._write(step, metrics)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Write the figures of one evaluation."""
        self._write(step, summary)

    def on_video(self, step: int, path: Path) -> None:
        """Write a film: TensorBoard shows a .gif that an image's bytes are."""
        from PIL import Image
        from tensorboard.compat.proto import summary_pb2

        with Image.open(path) as picture:
            width, height = picture.size
        kinds: Any = summary_pb2  # made at run time, so that no checker knows its classes
        image = kinds.Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
        summary = kinds.Summary(value=[kinds.Summary.Value(tag="eval/video", image=image)])
        if self._writer.file_writer is not None:
            self._writer.file_writer.add_summary(summary, step)

    def message(self, text: str) -> None:
        """Messages stay on the terminal."""

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()

    def _write(self, step: int, figures: Dict[str, float]) -> None:
        for name, value in finite(figures).items():
            self._writer.add_scalar(name, value, step)


def _as_table(values: Any) -> str:
    """Names and values as Markdown."""
    rows = values.items() if isinstance(values, dict) else [("", values)]
    return "\n".join(["| option | value |", "| --- | --- |", *(f"| {name} | {value} |" for name, value in rows)])


def finite(figures: Dict[str, float]) -> Dict[str, float]:
    """``figures`` without those that are not finite (a mean over no episode, for one)."""
    return {name: value for name, value in figures.items() if math.isfinite(value)}
