"""A run's figures over its steps, read from metrics.jsonl while it grows."""

import json
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

from puffer_phc.report.metrics_log import SPEED

MAX_POINTS = 600
"""Of a curve that is kept; a curve that reaches it is thinned to half."""


class Panel(NamedTuple):
    """One chart of the page: curves by the name of their figure."""

    title: str
    curves: Tuple[Tuple[str, str], ...]
    """(figure, label)."""
    unit: str = ""
    scale: float = 1.0


PANELS: Tuple[Panel, ...] = (
    Panel("Success of whole clips", (("eval/success_rate_strict", "strict"), ("eval/success_rate_relaxed", "relaxed")), "%", 100.0),
    Panel("Position error", (("eval/mpjpe_succ", "successes"), ("eval/mpjpe_all", "all clips")), "mm"),
    Panel("Length of training episodes", (("environment/episode_length", "mean"),), "steps"),
    Panel(
        "Rewards a step",
        (
            ("environment/rew_body_pos", "position"),
            ("environment/rew_body_rot", "rotation"),
            ("environment/rew_lin_vel", "velocity"),
            ("environment/rew_ang_vel", "turning"),
        ),
    ),
    Panel("Change of the policy an iteration", (("losses/approx_kl", "KL divergence"),)),
    Panel("Throughput", ((SPEED, "steps/s"),)),
)


class Curves:
    """The figures of ``PANELS`` and the last line as a whole; ``read`` takes in what was appended since."""

    def __init__(self, path: Path) -> None:
        self._path, self._offset = path, 0
        self._wanted = {name for panel in PANELS for name, _ in panel.curves}
        self._points: Dict[str, List[Tuple[int, float]]] = {}
        self._strides: Dict[str, int] = {}
        self._skipped: Dict[str, int] = {}
        self.last: Dict[str, float] = {}
        """The newest value of every figure."""

    def read(self) -> bool:
        """Take in new whole lines; returns whether there were any. A file that shrank, as a resumed run's does, is read anew."""
        try:
            size = self._path.stat().st_size
            if size < self._offset:
                self.__init__(self._path)
            with self._path.open("rb") as file:
                file.seek(self._offset)
                content = file.read()
        except OSError:
            return False
        whole = content[: content.rfind(b"\n") + 1]
        self._offset += len(whole)
        for line in whole.splitlines():
            self._take_in(line)
        return bool(whole)

    def _take_in(self, line: bytes) -> None:
        try:
            figures = json.loads(line)
        except ValueError:
            return
        self.last.update({name: value for name, value in figures.items() if value is not None})
        for name in self._wanted & set(figures):
            if figures[name] is not None:
                self._add(name, int(figures["step"]), float(figures[name]))

    def _add(self, name: str, step: int, value: float) -> None:
        """Keep one in so many points, so that a run of any length costs the same."""
        stride, skipped = self._strides.get(name, 1), self._skipped.get(name, 0)
        if skipped + 1 < stride:
            self._skipped[name] = skipped + 1
            return
        self._skipped[name] = 0
        points = self._points.setdefault(name, [])
        points.append((step, value))
        if len(points) >= MAX_POINTS:
            del points[::2]
            self._strides[name] = 2 * stride

    def panels(self) -> List[Dict[str, object]]:
        """What the page draws: title, unit, and each curve's label, steps and values."""
        return [
            {
                "title": panel.title,
                "unit": panel.unit,
                "curves": [
                    {"label": label, "x": [step for step, _ in points], "y": [panel.scale * value for _, value in points]}
                    for label, points in ((label, self._points.get(name, [])) for name, label in panel.curves)
                ],
            }
            for panel in PANELS
        ]
