"""The package of CARBS's authors (github.com/imbue-ai/carbs) behind our protocol, where it is installed.

PyPI has another package of that name and one that builds on it: the right one is known by what its module offers.
"""

import importlib
import math
from types import ModuleType
from typing import Any, Dict, Optional, Sequence

from puffer_phc.errors import ConfigError
from puffer_phc.sweep.protocol import Params
from puffer_phc.sweep.space import POWER_OF_TWO, Choice, Numeric, Parameter, Space

_INTERFACE = ("CARBS", "CARBSParams", "Param", "LinearSpace", "LogSpace", "LogitSpace", "ObservationInParam")
_INSTALLATION = (
    "it is not on PyPI (carbs and wandb-carbs there are others): git clone https://github.com/imbue-ai/carbs && pip install -e carbs"
)


class ImbueCarbs:
    """Suggestions of the original package.

    It knows neither unordered values nor powers of two: the former are refused, the latter are whole logarithms to it. Outstanding
    suggestions it remembers by itself.
    """

    def __init__(
        self,
        space: Space,
        seed: int = 0,
        initial: Optional[int] = None,
        radius: float = 0.3,
        resample_interval: int = 5,
        max_cost: Optional[float] = None,
    ) -> None:
        self._package = find_package()
        self._parameters = {parameter.name: parameter for parameter in space.parameters}
        options = self._package.CARBSParams(
            better_direction_sign=1,
            seed=seed,
            num_random_samples=initial or max(4, len(self._parameters)),
            initial_search_radius=radius,
            resample_frequency=resample_interval,
            max_suggestion_cost=max_cost,
            is_wandb_logging_enabled=False,
            is_saved_on_every_observation=False,
        )
        self.carbs = self._package.CARBS(options, [self._described(parameter) for parameter in space.parameters])
        """The package's own search."""

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        """What the package suggests."""
        suggestion = self.carbs.suggest().suggestion
        return {name: _ours(parameter, suggestion[name]) for name, parameter in self._parameters.items()}

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        """Tell the package."""
        given: Dict[str, Any] = {name: _theirs(parameter, params[name]) for name, parameter in self._parameters.items()}
        is_failure = failed or not math.isfinite(score)
        values = {"output": 0.0, "cost": 1.0} if is_failure else {"output": score, "cost": cost}
        self.carbs.observe(self._package.ObservationInParam(input=given, is_failure=is_failure, **values))

    def _described(self, parameter: Parameter) -> Any:
        """The package's description of ``parameter``."""
        package = self._package
        if isinstance(parameter, Choice) and not parameter.is_ordered:
            raise ConfigError(f"sweep.method carbs-imbue can't search among values without an order, as those of {parameter.name}")
        centre = parameter.decode(parameter.start or [0.5])
        if isinstance(parameter, Choice):
            last = len(parameter.values) - 1
            space = package.LinearSpace(min=0, max=last, scale=max(last, 4), is_integer=True)
        elif parameter.rounding == POWER_OF_TWO:
            low, high = (math.log2(value) for value in parameter.ends()[:2])
            space = package.LinearSpace(min=int(low), max=int(high), scale=max(high - low, 4.0), is_integer=True)
        else:
            space = self._number_space(parameter)
        return package.Param(name=parameter.name, space=space, search_center=_theirs(parameter, centre))

    def _number_space(self, parameter: Numeric) -> Any:
        package, whole = self._package, {}
        if parameter.distribution == "logit":
            return package.LogitSpace(min=parameter.low, max=parameter.high)
        if parameter.rounding is not None:
            whole = {"is_integer": True, "rounding_factor": parameter.rounding}
        if parameter.distribution == "log_uniform_values":
            return package.LogSpace(min=parameter.low, max=parameter.high, scale=parameter.scale or 1.0, **whole)
        scale = parameter.scale or (parameter.high - parameter.low) / 2.0
        return package.LinearSpace(min=parameter.low, max=parameter.high, scale=scale, **whole)


def find_package() -> ModuleType:
    """The original package. Raises ConfigError where it is not installed, or another one has its name."""
    try:
        package = importlib.import_module("carbs")
    except ImportError as error:
        raise ConfigError(f"sweep.method carbs-imbue needs the authors' package: {_INSTALLATION}") from error
    missing = [name for name in _INTERFACE if not hasattr(package, name)]
    if missing:
        raise ConfigError(
            f"the installed package carbs has no {missing[0]}, so that it is another one than sweep.method needs: {_INSTALLATION}"
        )
    return package


def _theirs(parameter: Parameter, value: Any) -> Any:
    if isinstance(parameter, Choice):
        return parameter.values.index(value)
    return round(math.log2(value)) if parameter.rounding == POWER_OF_TWO else value


def _ours(parameter: Parameter, value: Any) -> Any:
    """The value of ours that the package's stands for, rounded our way."""
    if isinstance(parameter, Choice):
        return parameter.values[min(max(round(value), 0), len(parameter.values) - 1)]
    return parameter.decode(parameter.encode(2.0**value if parameter.rounding == POWER_OF_TWO else value))
