"""The options that a sweep turns, each with its range, as coordinates of a unit cube in which the search is done.

A distribution says in which measure an option is looked at: ``uniform`` and ``int_uniform`` as it is, ``log_uniform_values`` by its
logarithm, ``logit`` by ln(x / (1 − x)), ``values`` as one of a list. Ordered values (numbers that rise) lie evenly on one axis, others
have an axis each.
"""

import math
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch import Tensor

from puffer_phc.errors import ConfigError
from puffer_phc.sweep.protocol import Params

DISTRIBUTIONS = ("uniform", "int_uniform", "log_uniform_values", "logit", "values")
KEYS = ("distribution", "min", "max", "centre", "scale", "rounding", "values")
"""What may stand in a section about an option."""
POWER_OF_TWO = "power_of_two"
SEPARATOR = "|"
"""Between the values of a list: options may be lists themselves."""

_DEFAULT_SCALE = 0.5
"""Of the range: how far one unit of search radius reaches where no scale is given."""


@dataclass(frozen=True)
class Numeric:
    """A number between two others.

    ``rounding``: the number is a multiple of this, or a power of two; None: any number. ``scale``: how far one unit of search radius
    reaches, in the measure of the distribution (the option's own unit, e-folds, logits); None: half of the range.
    """

    name: str
    distribution: str
    low: float
    high: float
    centre: Optional[float] = None
    scale: Optional[float] = None
    rounding: Union[int, str, None] = None

    width = 1
    """Coordinates that it takes."""

    def __post_init__(self) -> None:
        for label, value in (("min", self.low), ("max", self.high), ("centre", self.centre), ("scale", self.scale)):
            if value is not None and not math.isfinite(value):
                raise ConfigError(f"{label} is {value}, must be finite")
        if not self.low < self.high:
            raise ConfigError(f"min {self.low:g} is not below max {self.high:g}")
        if self.distribution == "log_uniform_values" and self.low <= 0:
            raise ConfigError(f"min is {self.low:g}, must be more than 0 for log_uniform_values")
        if self.distribution == "logit" and not (self.low > 0 and self.high < 1):
            raise ConfigError(f"min {self.low:g} and max {self.high:g} must lie between 0 and 1, ends excluded, for logit")
        if self.centre is not None and not self.low <= self.centre <= self.high:
            raise ConfigError(f"centre {self.centre:g} does not lie between min {self.low:g} and max {self.high:g}")
        if self.scale is not None and self.scale <= 0:
            raise ConfigError(f"scale is {self.scale:g}, must be more than 0")
        self._check_rounding()

    def _check_rounding(self) -> None:
        if self.rounding is None:
            return
        if self.rounding != POWER_OF_TWO and (not isinstance(self.rounding, int) or self.rounding < 1):
            raise ConfigError(f"rounding is {self.rounding}, must be a whole number of at least 1, or {POWER_OF_TWO}")
        if len({self._rounded(self.low), self._rounded(self.high)}) < 2:
            raise ConfigError(f"rounding {self.rounding} leaves one value between min {self.low:g} and max {self.high:g}")

    @property
    def radius(self) -> float:
        """One unit of search radius in the cube."""
        ends = self._measure(self.low), self._measure(self.high)
        return _DEFAULT_SCALE if self.scale is None else min(self.scale / (ends[1] - ends[0]), 1.0)

    @property
    def start(self) -> Optional[List[float]]:
        """Coordinates of the centre, where there is one."""
        return None if self.centre is None else self.encode(self.centre)

    def encode(self, value: Any) -> List[float]:
        """Coordinates of ``value``; those outside of the range lie outside of [0, 1]."""
        low, high = self._measure(self.low), self._measure(self.high)
        return [(self._measure(float(value)) - low) / (high - low)]

    def decode(self, coordinates: Sequence[float]) -> Any:
        """The value nearest to ``coordinates``, within the range and rounded."""
        low, high = self._measure(self.low), self._measure(self.high)
        value = self._unmeasure(low + min(max(coordinates[0], 0.0), 1.0) * (high - low))
        return self._rounded(min(max(value, self.low), self.high))

    def draw(self, uniform: Sequence[float]) -> Any:
        """The value that uniform numbers between 0 and 1, one a coordinate, choose."""
        return self.decode(uniform)

    def ends(self) -> List[Any]:
        """Values that have to be allowed."""
        return [self.decode([0.0]), self.decode([1.0])] + ([self.decode(self.encode(self.centre))] if self.centre is not None else [])

    def _measure(self, value: float) -> float:
        if self.distribution == "log_uniform_values":
            return math.log(max(value, 1e-300))
        if self.distribution == "logit":
            inside = min(max(value, 1e-12), 1.0 - 1e-12)
            return math.log(inside) - math.log1p(-inside)
        return value

    def _unmeasure(self, measure: float) -> float:
        if self.distribution == "log_uniform_values":
            return math.exp(measure)
        return 1.0 / (1.0 + math.exp(-measure)) if self.distribution == "logit" else measure

    def _rounded(self, value: float) -> Union[int, float]:
        """``value`` rounded to what is allowed; multiples and powers stay within the range."""
        if self.rounding is None:
            return value
        if self.rounding == POWER_OF_TWO:
            lowest, highest = math.ceil(math.log2(max(self.low, 1)) - 1e-9), math.floor(math.log2(self.high) + 1e-9)
            return 2 ** min(max(round(math.log2(max(value, 1))), lowest), highest)
        step = int(self.rounding)
        lowest, highest = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return step * min(max(round(value / step), lowest), highest)


@dataclass(frozen=True)
class Choice:
    """One of several ``values``."""

    name: str
    values: Tuple[Any, ...]
    centre: Any = None
    distribution: str = "values"

    def __post_init__(self) -> None:
        if len(self.values) < 2:
            raise ConfigError(f"values has {len(self.values)}, needs at least two, with {SEPARATOR} between them")
        if len(set(map(repr, self.values))) < len(self.values):
            raise ConfigError(f"values has one twice: {f' {SEPARATOR} '.join(map(str, self.values))}")
        if self.centre is not None and self.centre not in self.values:
            raise ConfigError(f"centre {self.centre} is none of the values {f' {SEPARATOR} '.join(map(str, self.values))}")

    @property
    def is_ordered(self) -> bool:
        """Whether the values rise."""
        numbers = [value for value in self.values if type(value) in (int, float)]
        return len(numbers) == len(self.values) and numbers == sorted(numbers)

    @property
    def width(self) -> int:
        """Coordinates that it takes."""
        return 1 if self.is_ordered else len(self.values)

    @property
    def radius(self) -> float:
        """One unit of search radius in the cube: neighbours have to be within reach."""
        return max(_DEFAULT_SCALE, 2.0 / (len(self.values) - 1)) if self.is_ordered else 1.0

    @property
    def start(self) -> Optional[List[float]]:
        """Coordinates of the centre, where there is one."""
        return None if self.centre is None else self.encode(self.centre)

    def encode(self, value: Any) -> List[float]:
        """Coordinates of ``value``; a number between ordered ones lies between them: a run that ended early has such a length."""
        if self.is_ordered:
            return [float(np.interp(value, self.values, range(len(self.values)))) / (len(self.values) - 1)]
        return [float(value == other) for other in self.values]

    def decode(self, coordinates: Sequence[float]) -> Any:
        """The value nearest to ``coordinates``."""
        if self.is_ordered:
            return self.values[round(min(max(coordinates[0], 0.0), 1.0) * (len(self.values) - 1))]
        return self.values[max(range(len(self.values)), key=lambda index: coordinates[index])]

    def draw(self, uniform: Sequence[float]) -> Any:
        """The value that uniform numbers between 0 and 1, one a coordinate, choose."""
        if self.is_ordered:
            return self.values[min(int(uniform[0] * len(self.values)), len(self.values) - 1)]
        return self.decode(uniform)

    def ends(self) -> List[Any]:
        """Values that have to be allowed."""
        return list(self.values)


Parameter = Union[Numeric, Choice]


class Space:
    """All options of a sweep; d is the number of coordinates of its unit cube."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        if not parameters:
            raise ConfigError("there is nothing to sweep: name options in sections like [sweep.train.learning_rate]")
        self.parameters = list(parameters)
        self.size = sum(parameter.width for parameter in self.parameters)
        self.radius = torch.tensor([parameter.radius for parameter in self.parameters for _ in range(parameter.width)], dtype=torch.float64)
        """(d,) one unit of search radius along each coordinate."""

    @property
    def has_grid(self) -> bool:
        """Whether some coordinate can't take every value."""
        return any(isinstance(parameter, Choice) or parameter.rounding is not None for parameter in self.parameters)

    def encode(self, params: Params) -> Tensor:
        """(d,) float64 coordinates of ``params``."""
        coordinates = [value for parameter in self.parameters for value in parameter.encode(params[parameter.name])]
        return torch.tensor(coordinates, dtype=torch.float64)

    def decode(self, coordinates: Tensor) -> Params:
        """The options nearest to ``coordinates`` (d,)."""
        return self._each(coordinates.tolist(), lambda parameter, part: parameter.decode(part))

    def draw(self, uniform: Tensor) -> Params:
        """The options that uniform numbers (d,) between 0 and 1 choose."""
        return self._each(uniform.tolist(), lambda parameter, part: parameter.draw(part))

    def snapped(self, coordinates: Tensor) -> Tensor:
        """(N, d) the nearest coordinates of ``coordinates`` (N, d) that options can have."""
        if not self.has_grid:
            return coordinates.clamp(0.0, 1.0)
        return torch.stack([self.encode(self.decode(row)) for row in coordinates])

    @property
    def centres(self) -> Tensor:
        """(d,) coordinates of where to begin; NaN for options that say nothing about it."""
        starts = [parameter.start or [math.nan] * parameter.width for parameter in self.parameters]
        return torch.tensor([value for start in starts for value in start], dtype=torch.float64)

    def _each(self, coordinates: List[float], value: Callable[[Any, List[float]], Any]) -> Dict[str, Any]:
        params, first = {}, 0
        for parameter in self.parameters:
            params[parameter.name] = value(parameter, coordinates[first : first + parameter.width])
            first += parameter.width
        return params


def parameter_from(name: str, words: Mapping[str, str], kind: type, parse: Callable[[str], Any]) -> Parameter:
    """The parameter that a section's ``words`` by key describe, for an option of type ``kind`` that ``parse`` reads.

    Raises ConfigError, without the section's name, for what is missing, superfluous or contradictory.
    """
    distribution = words.get("distribution")
    if distribution not in DISTRIBUTIONS:
        raise ConfigError(f"distribution is {distribution or 'missing'}; choose {', '.join(DISTRIBUTIONS)}")
    _check_keys(words, ("values", "centre") if distribution == "values" else tuple(key for key in KEYS if key != "values"), distribution)
    if distribution == "values":
        if "values" not in words:
            raise ConfigError("values is missing")
        centre = parse(words["centre"]) if "centre" in words else None
        return Choice(name, tuple(parse(word.strip()) for word in words["values"].split(SEPARATOR)), centre)
    if kind not in (int, float):
        raise ConfigError(f"distribution {distribution} is for numbers; this option takes values (distribution = values)")
    return _numeric(name, distribution, words, kind)


def _check_keys(words: Mapping[str, str], allowed: Sequence[str], distribution: str) -> None:
    for key in words:
        if key not in (*allowed, "distribution"):
            raise ConfigError(f"{key!r} has no meaning for distribution {distribution}; there are {', '.join(allowed)}")


def _numeric(name: str, distribution: str, words: Mapping[str, str], kind: type) -> Numeric:
    for key in ("min", "max"):
        if key not in words:
            raise ConfigError(f"{key} is missing")
    rounding: Union[int, str, None] = 1 if kind is int or distribution == "int_uniform" else None
    if kind is int and distribution == "logit":
        raise ConfigError("distribution logit is for numbers between 0 and 1, and this option is a whole number")
    if "rounding" in words:
        word = words["rounding"]
        rounding = POWER_OF_TWO if word == POWER_OF_TWO else _number("rounding", word, int)
    numbers = {key: _number(key, words[key], float) for key in ("min", "max", "centre", "scale") if key in words}
    return Numeric(name, distribution, numbers["min"], numbers["max"], numbers.get("centre"), numbers.get("scale"), rounding)


def _number(key: str, word: str, kind: Callable[[str], Any]) -> Any:
    try:
        return kind(word.replace("_", "").replace(" ", ""))
    except ValueError as error:
        raise ConfigError(f"{key} is {word!r}, must be a {'whole ' if kind is int else ''}number") from error
