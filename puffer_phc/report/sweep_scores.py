"""What the runs of a sweep have scored, as columns for its table and its page, and the words that both use."""

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from puffer_phc.config import SweepConfig
from puffer_phc.sweep.analysis import front_rows
from puffer_phc.sweep.journal import Run
from puffer_phc.sweep.protocol import Params
from puffer_phc.sweep.results import counted_points, params_at
from puffer_phc.sweep.space import Choice, Space

COST_LABEL = "s of training"

_MILLION = 1_000_000


class Scores:
    """The results of all runs: of each its last evaluation, and where the length of runs is swept its earlier ones, too."""

    def __init__(self, runs: Sequence[Run], options: SweepConfig) -> None:
        self.sign = 1.0 if options.goal == "maximize" else -1.0
        found = [(run, point) for run in runs for point in counted_points(run)]
        self.runs: List[Run] = [run for run, _ in found]
        self.params: List[Params] = [params_at(run, point) for run, point in found]
        self.scores = np.array([point.value for _, point in found], dtype=float)
        self.costs = np.array([point.seconds for _, point in found], dtype=float)
        self.is_last = np.array([point is run.points[-1] for run, point in found], dtype=bool)
        self.front = front_rows(self.costs.tolist(), (self.sign * self.scores).tolist())

    @property
    def best(self) -> Optional[int]:
        """The row of the best result."""
        return self.front[-1] if self.front else None


class Words:
    """Names of options without their section where they stay apart, and values."""

    def __init__(self, space: Space) -> None:
        times = Counter(_last(parameter.name) for parameter in space.parameters)
        self._short = {name: _last(name) for name in (parameter.name for parameter in space.parameters) if times[_last(name)] == 1}
        self._files: Dict[str, str] = {}
        for parameter in space.parameters:
            if isinstance(parameter, Choice):
                self._files.update(_file_names(parameter.values))

    def name(self, option: str) -> str:
        """What an option is called in a small place."""
        return self._short.get(option, option)

    def value(self, value: Any) -> str:
        """A value in four digits, whole numbers as they are."""
        return f"{value:,}" if _is_whole(value) else self._other(value, 4)

    def brief(self, value: Any) -> str:
        """A value in three digits, whole numbers below a million as they are."""
        return brief_number(value) if _is_whole(value) else self._other(value, 3)

    def _other(self, value: Any, digits: int) -> str:
        if isinstance(value, (list, tuple)):
            return " ".join(map(str, value))
        if isinstance(value, float):
            return in_digits(value, digits)
        return "auto" if value is None else self._files.get(value, str(value))


def in_digits(value: float, digits: int) -> str:
    """A number in so many digits, its exponent without idle zeros."""
    return f"{value:.{digits}g}".replace("e-0", "e-").replace("e+0", "e")


def brief_number(value: float) -> str:
    """A number in three digits; a whole one below a million as it is, and in millions from there."""
    if _is_whole(value):
        return f"{value / _MILLION:.3g}M" if abs(value) >= _MILLION else str(value)
    return in_digits(value, 3)


def score_text(value: float) -> str:
    """A score in four digits, zeros at the end included: scores stand under each other."""
    return f"{value:#.4g}".rstrip(".")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _last(name: str) -> str:
    return name.rpartition(".")[2]


def _file_names(values: Sequence[Any]) -> Dict[str, str]:
    """By path: the file's name, where the paths among ``values`` differ in it."""
    paths = [value for value in values if isinstance(value, str) and Path(value).is_absolute()]
    names = [Path(path).name for path in paths]
    return dict(zip(paths, names)) if len(set(names)) == len(names) else {}
