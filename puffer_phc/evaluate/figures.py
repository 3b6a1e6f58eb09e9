"""The figures of an evaluation: what each is called, its unit and which way it is better, wherever it is shown."""

import math
from typing import Dict, NamedTuple, Optional


class Figure(NamedTuple):
    """One figure of ``EvaluationResult.summary``."""

    key: str
    """Its name in summaries, in the files of a run, and as ``sweep.metric``."""
    label: str
    """Its name for people."""
    unit: str
    """Of its texts; shares are in %, though they are in [0, 1] as values."""
    goal: str
    """maximize or minimize: which way it is better."""
    meaning: str = ""
    """What the label leaves open."""

    def number(self, value: Optional[float]) -> str:
        """``value`` without its unit; a dash where it does not exist."""
        return "–" if value is None or not math.isfinite(value) else f"{self.in_unit(value):.1f}"

    def text(self, value: Optional[float]) -> str:
        """``value`` with its unit; a dash where it does not exist."""
        number = self.number(value)
        return number if number == "–" else f"{number} {self.unit}"

    def in_unit(self, value: float) -> float:
        """``value`` in the unit of its texts."""
        return 100.0 * value if self.unit == "%" else value

    def improvement(self, change: float) -> float:
        """``change`` with the sign that says better (positive) or worse; zero for one that no text shows."""
        return 0.0 if abs(self.in_unit(change)) < 0.05 else (change if self.goal == "maximize" else -change)


_FIGURES = (
    Figure("eval/success_rate_strict", "strict success", "%", "maximize", "every body ≤ 0.25 m"),
    Figure("eval/success_rate_relaxed", "relaxed success", "%", "maximize", "mean of bodies ≤ 0.5 m"),
    Figure("eval/survival_strict", "strict survival", "%", "maximize", "share of a clip before its strict failure"),
    Figure("eval/mpjpe_succ", "position error, successes", "mm", "minimize", "in the world"),
    Figure("eval/mpjpe_all", "position error, all clips", "mm", "minimize", "in the world"),
    Figure("eval/mpjpel_succ", "root-centred error, successes", "mm", "minimize"),
    Figure("eval/mpjpel_all", "root-centred error, all clips", "mm", "minimize"),
    Figure("eval/mpjpe_pa", "Procrustes error, successes", "mm", "minimize"),
    Figure("eval/vel_dist", "velocity error, successes", "mm/frame", "minimize"),
    Figure("eval/accel_dist", "acceleration error, successes", "mm/frame²", "minimize"),
)

FIGURES: Dict[str, Figure] = {figure.key: figure for figure in _FIGURES}
"""All figures by key, in the order in which they are shown."""

GOALS: Dict[str, str] = {**{figure.key: figure.goal for figure in _FIGURES}, "eval/success_rate": "maximize"}
"""Which way every entry of a summary is better: ``FIGURES``, and the original's name for the relaxed success."""
