"""What a run has scored so far, read from the metrics file that it writes."""

import json
import math
import os
import statistics
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

_RATE = "performance/SPS"
"""Steps a second of one iteration, without evaluations and checkpoints."""

_SLOW = 3.0
"""Times the usual pace: an iteration that is slower compiles, at the beginning and after each interruption, and counts as this slow."""

_NEAR = 4
"""Iterations before and after one whose pace is the usual one there. Over a whole run it is not: trainings beside this one on its GPU begin
and end, and iterations that are slow because of them are not to be taken for ones that compile."""


class Point(NamedTuple):
    """One evaluation of a run."""

    step: int
    """Environment steps before it."""
    value: float
    """Of the metric."""
    seconds: float
    """Of training before it, without starting up, compiling, evaluating and what interruptions took."""


class MetricsReader:
    """The evaluations in a run's metrics file, which grows between two readings: each time, only what is new is read.

    Left out are those whose ``metric`` is not finite, and a line under way.
    """

    def __init__(self, metric: str) -> None:
        self._metric = metric
        self._begin(None)

    def _begin(self, file_number: Optional[int]) -> None:
        self._file_number, self._offset = file_number, 0
        self._points: List[Point] = []
        self._pace: List[_Pace] = []
        self._step = 0

    def read(self, path: Path) -> List[Point]:
        """All evaluations so far, in order; none where there is no file. A training that goes on writes a new file in place of the old."""
        try:
            with path.open("rb") as file:
                state = os.fstat(file.fileno())
                if state.st_ino != self._file_number or state.st_size < self._offset:
                    self._begin(state.st_ino)
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return self._points
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take_in(line)
        return self._points

    def _take_in(self, text: bytes) -> None:
        try:
            line: Dict[str, Any] = json.loads(text)
        except ValueError:
            return
        rate = line.get(_RATE)
        if rate is not None and rate > 0.0:
            self._pace.append(_Pace(int(line["step"]) - self._step, 1.0 / rate))
            self._step = int(line["step"])
        value = line.get(self._metric)
        if value is not None and math.isfinite(value):
            self._points.append(Point(int(line["step"]), float(value), self._seconds()))

    def _seconds(self) -> float:
        """Of training so far."""
        if not self._pace:
            return 0.0
        return sum(pace.steps * min(pace.seconds, _SLOW * self._usual(row)) for row, pace in enumerate(self._pace))

    def _usual(self, row: int) -> float:
        """Seconds for each step of the iterations around this one."""
        return statistics.median_low(pace.seconds for pace in self._pace[max(row - _NEAR, 0) : row + _NEAR + 1])


class _Pace(NamedTuple):
    """How fast an iteration was."""

    steps: int
    """Since the iteration before."""
    seconds: float
    """For each of them."""
