"""A run's figures as one JSON object a line."""

import json
import math
from pathlib import Path
from typing import Dict, Optional, Union


class MetricsLog:
    """Appends every iteration and evaluation to a file that stays readable while the run goes on.

    A line holds the environment ``step`` and the figures of ``docs/results.md`` by name; figures that are not finite are null.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8")

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
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()


def _finite(value: float) -> Optional[float]:
    return value if math.isfinite(value) else None
