"""How a run's clips fare over its evaluations, read from the table that each of them leaves."""

import contextlib
import math
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional

from puffer_phc.errors import ConfigError
from puffer_phc.evaluate.result import EvaluationResult
from puffer_phc.evaluate.tables import outcomes, read_motions, worst_first


class ClipTable:
    """Clips as the evaluations of the run left them in clips.tsv."""

    def __init__(self, path: Path) -> None:
        self._path, self._time = path, 0
        self.result: Optional[EvaluationResult] = None
        self.num_evaluations = 0
        self.failures: Counter[str] = Counter()

    def read(self) -> bool:
        """Take in a new evaluation; returns whether there was one."""
        with contextlib.suppress(OSError, ConfigError):
            written = self._path.stat().st_mtime_ns
            if written != self._time:
                self.result, self._time = read_motions(self._path, 1.0 / 30.0), written
                self.num_evaluations += 1
                self.failures.update(
                    name for name, is_strict in zip(self.result.names, self.result.strict_success.tolist()) if not is_strict
                )
                return True
        return False

    def order(self) -> List[str]:
        """Names of all clips, those first that failed oftenest, and among equals the worst of the last time."""
        if self.result is None:
            return []
        names = [self.result.names[row] for row in worst_first(self.result)]
        return sorted(names, key=lambda name: -self.failures[name])

    def rows(self) -> List[Dict[str, Any]]:
        """What the page's table shows, in that order."""
        result = self.result
        if result is None:
            return []
        columns = (result.strict_failure_times.tolist(), result.frames.tolist(), result.errors[:, 0].tolist(), outcomes(result))
        found = dict(zip(result.names, zip(*columns)))
        return [self._row(name, *found[name], result.control_dt) for name in self.order()]

    def _row(self, name: str, failure: float, frames: int, error: float, outcome: str, dt: float) -> Dict[str, Any]:
        return {
            "name": name,
            "outcome": outcome,
            "order": ("failed", "relaxed", "strict").index(outcome),
            "kinds": outcome if outcome == "strict" else f"{outcome} not-strict",
            "failures": self.failures[name],
            "evaluations": self.num_evaluations,
            "until": failure if math.isfinite(failure) else None,
            "length": frames * dt,
            "error": None if error != error else error,
        }
