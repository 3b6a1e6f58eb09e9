"""What a run has scored so far, read from the metrics file that it writes."""

import json
import math
import os
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional

_UPTIME = "performance/uptime"


class Point(NamedTuple):
    """One evaluation of a run."""

    step: int
    """Environment steps before it."""
    value: float
    """Of the metric."""
    seconds: float
    """Of training before it, as if the first iteration, which starts up and compiles, had taken as long as the others."""


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
        self._first: Optional[_Time] = None
        self._last: Optional[_Time] = None

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
        if line.get(_UPTIME) is not None:
            self._last = _Time(int(line["step"]), float(line[_UPTIME]))
            self._first = self._first or self._last
        value = line.get(self._metric)
        if value is not None and math.isfinite(value):
            self._points.append(Point(int(line["step"]), float(value), self._seconds()))

    def _seconds(self) -> float:
        """Of training so far."""
        if self._first is None or self._last is None:
            return 0.0
        steps = self._last.step - self._first.step
        return (self._last.seconds - self._first.seconds) * self._last.step / steps if steps > 0 else self._last.seconds


class _Time(NamedTuple):
    """When an iteration ended."""

    step: int
    seconds: float
