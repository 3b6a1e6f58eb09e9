"""A run's figures as one JSON object a line."""

import json
import logging
import math
from pathlib import Path
from typing import Dict, List, Optional, Union

from puffer_phc.errors import ConfigError
from puffer_phc.files import LineFile, whole_file

METRICS = "metrics.jsonl"
"""The file in a run's folder."""

SPEED = "0verview/SPS"
"""Name of the environment steps per second over the last iterations."""

UPTIME, ROLLOUTS, UPDATES = SPENT = ("performance/uptime", "performance/total_rollout_time", "performance/total_update_time")
"""Names of the seconds that a run has taken in all, and its rollouts and updates of them. They only grow, when it is resumed, too."""

OF_THE_CLOCK = (SPEED, "performance/")
"""How names of figures begin that tell time or speed. All others are the same in two runs of one seed."""

logger = logging.getLogger(__name__)


class MetricsLog:
    """Appends every iteration and evaluation to a file that stays readable while the run goes on.

    A line holds the environment ``step`` and the figures of ``docs/results.md`` by name; figures that are not finite are null. A run
    that goes on from ``first_step`` drops the lines of later steps, which its checkpoint knows nothing of and which come again. Where
    lines cannot be written (disk full, folder deleted) it says so once and goes on, and writes again as soon as it can.

    Raises ConfigError where the file cannot be opened, or is a link.
    """

    def __init__(self, path: Path, first_step: int = 0) -> None:
        self._path = path
        self._is_failing = False
        try:
            self._file = LineFile(path)
            _keep_lines_until(path, first_step)
            self._file.close()
            self._file = LineFile(path)
        except OSError as error:
            raise ConfigError(f"can't write to '{path}': {error.strerror or error}") from error

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Append the figures of one iteration."""
        self._append(step, metrics)

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Append the figures of one evaluation."""
        self._append(step, summary)

    def message(self, text: str) -> None:
        """Messages are for people, not for this file."""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _append(self, step: int, figures: Dict[str, float]) -> None:
        line: Dict[str, Union[int, float, None]] = {"step": step}
        line.update({name: _finite(value) for name, value in figures.items()})
        try:
            self._reopen_if_deleted()
            self._file.write(json.dumps(line))
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                logger.warning("can't write to '%s': %s; training goes on without these lines", self._path, error.strerror or error)
            self._is_failing = True

    def _reopen_if_deleted(self) -> None:
        if not self._path.exists():
            self._path.parent.mkdir(parents=True, exist_ok=True)
            again = LineFile(self._path)
            self._file.close()
            self._file = again


def spent_until(path: Path, last_step: int) -> Dict[str, float]:
    """Seconds, by the names of ``SPENT``, that the run of this file had taken after ``last_step``; 0 where it says nothing about it."""
    kept: List[Dict[str, Optional[float]]] = []
    if path.exists():
        with path.open("rb") as file:
            kept = [json.loads(line) for line in file if line.endswith(b"\n") and _step(line) <= last_step]
    return {name: max((line.get(name) or 0.0 for line in kept), default=0.0) for name in SPENT}


def _keep_lines_until(path: Path, last_step: int) -> None:
    """Rewrite the file without the lines of steps after ``last_step``, and without a last line that was cut."""
    with whole_file(path) as temporary, path.open("rb") as old, temporary.open("wb") as kept:
        kept.writelines(line for line in old if line.endswith(b"\n") and _step(line) <= last_step)


def _step(line: bytes) -> float:
    """The step of a line; beyond all steps where it has none."""
    try:
        return float(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
