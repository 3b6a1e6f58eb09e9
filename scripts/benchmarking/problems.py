"""Standard test functions over their usual boxes, whose evaluations cost more along one coordinate."""

import math
from typing import Callable, NamedTuple, Sequence, Tuple

import numpy as np
from scipy.optimize import minimize

from puffer_phc.sweep.space import Numeric, Space

COST_RANGE = 30.0
"""The dearest evaluation over the cheapest."""


class Problem(NamedTuple):
    """A function to be minimised over a box."""

    function: Callable[[np.ndarray], float]
    low: Tuple[float, ...]
    high: Tuple[float, ...]
    minimum: float

    def space(self) -> Space:
        """The box, without a word about where to begin."""
        ends = enumerate(zip(self.low, self.high), start=1)
        return Space([Numeric(f"x{index}", "uniform", low, high) for index, (low, high) in ends])

    def cost(self, point: np.ndarray) -> float:
        """Of one evaluation."""
        return COST_RANGE ** float((point[-1] - self.low[-1]) / (self.high[-1] - self.low[-1]))


def branin(x: np.ndarray) -> float:
    """Two dimensions, three global minima."""
    a, b, c, r, s, t = 1.0, 5.1 / (4 * math.pi**2), 5 / math.pi, 6.0, 10.0, 1 / (8 * math.pi)
    return float(a * (x[1] - b * x[0] ** 2 + c * x[0] - r) ** 2 + s * (1 - t) * math.cos(x[0]) + s)


def six_hump_camel(x: np.ndarray) -> float:
    """Two dimensions, six minima, two of them global."""
    return float((4 - 2.1 * x[0] ** 2 + x[0] ** 4 / 3) * x[0] ** 2 + x[0] * x[1] + (4 * x[1] ** 2 - 4) * x[1] ** 2)


def _hartmann(x: np.ndarray, widths: Sequence[Sequence[float]], middles: Sequence[Sequence[int]]) -> float:
    squares = (np.array(widths) * (x - 1e-4 * np.array(middles)) ** 2).sum(1)
    return -float(np.array([1.0, 1.2, 3.0, 3.2]) @ np.exp(-squares))


def hartmann3(x: np.ndarray) -> float:
    """Three dimensions, four minima."""
    widths = [[3.0, 10.0, 30.0], [0.1, 10.0, 35.0], [3.0, 10.0, 30.0], [0.1, 10.0, 35.0]]
    return _hartmann(x, widths, [[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]])


def hartmann6(x: np.ndarray) -> float:
    """Six dimensions, six minima."""
    widths = [[10, 3, 17, 3.5, 1.7, 8], [0.05, 10, 17, 0.1, 8, 14], [3, 3.5, 1.7, 10, 17, 8], [17, 8, 0.05, 10, 0.1, 14]]
    middles = [[1312, 1696, 5569, 124, 8283, 5886], [2329, 4135, 8307, 3736, 1004, 9991]]
    middles += [[2348, 1451, 3522, 2883, 3047, 6650], [4047, 8828, 8732, 5743, 1091, 381]]
    return _hartmann(x, widths, middles)


def rosenbrock(x: np.ndarray) -> float:
    """A bent valley in a box where values reach a million."""
    return float((100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2).sum())


def ackley(x: np.ndarray) -> float:
    """A funnel under ripples."""
    ripple = np.exp(np.cos(2 * math.pi * x).mean())
    return float(-20.0 * np.exp(-0.2 * np.sqrt((x**2).mean())) - ripple + 20.0 + math.e)


PROBLEMS = {
    "Branin": Problem(branin, (-5.0, 0.0), (10.0, 15.0), 0.39788735772973816),
    "six-hump camel": Problem(six_hump_camel, (-3.0, -2.0), (3.0, 2.0), -1.0316284534898774),
    "Hartmann 3": Problem(hartmann3, (0.0,) * 3, (1.0,) * 3, -3.8627797873327),
    "Rosenbrock 4": Problem(rosenbrock, (-5.0,) * 4, (10.0,) * 4, 0.0),
    "Ackley 5": Problem(ackley, (-5.0,) * 5, (10.0,) * 5, 0.0),
    "Hartmann 6": Problem(hartmann6, (0.0,) * 6, (1.0,) * 6, -3.3223680114155),
}


def true_front(problem: Problem, points: int = 61, starts: int = 12) -> Tuple[np.ndarray, np.ndarray]:
    """(costs, lowest values that they can buy): minimised from many starts with the last coordinate bounded, lowest so far."""
    generator = np.random.default_rng(0)
    costs, values = [], []
    for share in np.linspace(0.0, 1.0, points):
        high = np.array(problem.high)
        high[-1] = problem.low[-1] + share * (problem.high[-1] - problem.low[-1])
        values.append(min(lowest_value(problem, high, generator.uniform(problem.low, high)) for _ in range(starts)))
        costs.append(COST_RANGE**share)
    return np.array(costs), np.minimum.accumulate(np.array(values))


def lowest_value(problem: Problem, high: np.ndarray, start: np.ndarray) -> float:
    """The bottom of the valley below ``start``, in the part of the box below ``high``."""
    return float(minimize(problem.function, start, bounds=list(zip(problem.low, high)), tol=1e-12).fun)
