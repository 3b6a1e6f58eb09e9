"""The adapter to the authors' package, against a module with its public interface; the package itself is not on PyPI."""

import math
import sys
import types
from typing import NamedTuple, Optional

import pytest

from puffer_phc.errors import ConfigError
from puffer_phc.sweep.imbue import ImbueCarbs
from puffer_phc.sweep.space import POWER_OF_TWO, Choice, Numeric, Space


class LinearSpace(NamedTuple):
    scale: float = 1.0
    min: float = -math.inf
    max: float = math.inf
    is_integer: bool = False
    rounding_factor: int = 1


class LogSpace(LinearSpace):
    pass


class LogitSpace(NamedTuple):
    min: float = 0.0
    max: float = 1.0


class Param(NamedTuple):
    name: str
    space: object
    search_center: float


class CARBSParams(NamedTuple):
    better_direction_sign: int
    seed: int
    num_random_samples: int
    initial_search_radius: float
    resample_frequency: int
    max_suggestion_cost: Optional[float]
    is_wandb_logging_enabled: bool
    is_saved_on_every_observation: bool


class ObservationInParam(NamedTuple):
    input: dict
    output: float
    cost: float
    is_failure: bool = False


class Suggestion(NamedTuple):
    suggestion: dict


class CARBS:
    def __init__(self, params, param_spaces):
        self.params, self.spaces, self.observed = params, {param.name: param for param in param_spaces}, []

    def suggest(self):
        return Suggestion({name: param.search_center for name, param in self.spaces.items()})

    def observe(self, observation):
        self.observed.append(observation)


@pytest.fixture
def package(monkeypatch):
    module = types.ModuleType("carbs")
    for part in (LinearSpace, LogSpace, LogitSpace, Param, CARBSParams, ObservationInParam, CARBS):
        setattr(module, part.__name__, part)
    monkeypatch.setitem(sys.modules, "carbs", module)
    return module


SPACE = Space(
    [
        Numeric("rate", "log_uniform_values", 1e-5, 1e-2, centre=1e-4),
        Numeric("gamma", "logit", 0.9, 0.999, centre=0.98),
        Numeric("epochs", "int_uniform", 1, 6, rounding=1),
        Numeric("batch", "log_uniform_values", 1024, 16384, centre=4096, rounding=POWER_OF_TWO),
        Choice("width", (64, 128, 256), centre=128),
    ]
)


def test_suggestions_and_results_pass_through(package):
    search = ImbueCarbs(SPACE, seed=7, radius=0.2, max_cost=60.0)
    theirs = search.carbs
    assert theirs.params == CARBSParams(1, 7, 5, 0.2, 5, 60.0, False, False)
    params = search.suggest()
    assert params == pytest.approx({"rate": 1e-4, "gamma": 0.98, "epochs": 4, "batch": 4096, "width": 128})
    search.observe(params, 0.5, 12.0)
    search.observe(params, math.nan, math.nan, failed=True)
    told = {"rate": 1e-4, "gamma": 0.98, "epochs": 4, "batch": 12, "width": 1}
    assert theirs.observed[0].input == pytest.approx(told)
    assert (theirs.observed[0].output, theirs.observed[0].cost, theirs.observed[0].is_failure) == (0.5, 12.0, False)
    assert theirs.observed[1].is_failure and math.isfinite(theirs.observed[1].output)


def test_spaces_are_theirs(package):
    spaces = {name: param.space for name, param in ImbueCarbs(SPACE).carbs.spaces.items()}
    assert type(spaces["rate"]) is LogSpace and (spaces["rate"].min, spaces["rate"].max) == (1e-5, 1e-2)
    assert spaces["gamma"] == LogitSpace(0.9, 0.999)
    assert spaces["epochs"].is_integer and (spaces["epochs"].min, spaces["epochs"].max) == (1, 6)
    assert (spaces["batch"].min, spaces["batch"].max) == (10, 14)
    assert (spaces["width"].min, spaces["width"].max) == (0, 2)


def test_values_without_an_order_are_refused(package):
    with pytest.raises(ConfigError, match="without an order"):
        ImbueCarbs(Space([Choice("sampler", ("adaptive", "uniform"))]))


def test_another_package_of_that_name_is_not_taken_for_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "carbs", types.ModuleType("carbs"))
    with pytest.raises(ConfigError, match="is another one"):
        ImbueCarbs(SPACE)


def test_without_the_package_it_says_where_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "carbs", None)
    with pytest.raises(ConfigError, match=r"github\.com/imbue-ai/carbs"):
        ImbueCarbs(SPACE)
