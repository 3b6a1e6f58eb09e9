"""CARBS: its front and its measure of worth against direct computation, and what a search has to manage."""

import math

import pytest
import torch

from puffer_phc.sweep.acquisition import Front, log_expected_improvement, log_success
from puffer_phc.sweep.analysis import front_rows, importance
from puffer_phc.sweep.carbs import Carbs, CarbsOptions
from puffer_phc.sweep.protocol import Observation
from puffer_phc.sweep.random_search import RandomSearch
from puffer_phc.sweep.space import Choice, Numeric, Space


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


@pytest.mark.parametrize(("mean", "variance", "target"), [(0.0, 1.0, 0.5), (2.0, 0.25, 1.0), (0.0, 1.0, 2.5), (-1.0, 4.0, -1.0)])
def test_expected_improvement_is_the_integral(mean, variance, target):
    grid = torch.linspace(mean - 40.0, mean + 40.0, 400001, dtype=torch.float64)
    density = torch.exp(-0.5 * (grid - mean) ** 2 / variance) / math.sqrt(2 * math.pi * variance)
    expected = torch.trapezoid((grid - target).clamp_min(0.0) * density, grid)
    found = log_expected_improvement(tensor(mean), tensor(variance), tensor(target))
    assert found.exp().item() == pytest.approx(expected.item(), rel=1e-4)


def test_hopeless_candidates_still_have_a_slope():
    means = tensor(-20.0, -300.0, -2000.0, -1e5).requires_grad_()
    value = log_expected_improvement(means, torch.ones(4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(value.sum(), means)
    assert value.isfinite().all() and (value.diff() < 0).all()
    assert torch.allclose(gradient, -means.detach(), rtol=0.01)


def test_more_is_expected_of_what_succeeded():
    chances = log_success(tensor(1.0, 0.0, -1.0), tensor(0.0, 0.0, 0.0)).exp()
    assert chances[0] > 0.95 and chances[1] == pytest.approx(0.5) and chances[2] < 0.05


def test_the_front_by_hand():
    costs, values = tensor(1.0, 2.0, 3.0, 4.0, 5.0), tensor(0.0, 3.0, 1.0, 4.0, 4.0)
    everyone = torch.ones(5, dtype=torch.bool)
    front = Front(costs, values, everyone)
    assert front.rows.tolist() == [0, 1, 3]
    assert front.at(tensor(0.0, 1.5, 3.0, 9.0)).tolist() == [0.0, 1.5, 3.5, 4.0]
    assert front.cost_between(0.5) == 2.5
    assert Front(costs, values, costs < 3.5).rows.tolist() == [0, 1]
    assert Front(tensor(1.0, 2.0), tensor(5.0, 1.0), everyone[:2]).at(tensor(0.0, 7.0)).tolist() == [5.0, 5.0]
    assert front_rows(costs.tolist(), values.tolist()) == [0, 1, 3]
    assert front_rows([1.0, math.nan, 2.0], [1.0, 5.0, math.nan]) == [0]


def searched(search, evaluate, num_suggestions):
    """The observations of a search."""
    observations = []
    for _ in range(num_suggestions):
        params = search.suggest()
        observations.append(Observation(params, *evaluate(params)))
        search.observe(*observations[-1])
    return observations


PLANE = Space([Numeric("x", "uniform", 0.0, 1.0), Numeric("steps", "log_uniform_values", 1.0, 100.0)])


def training(params):
    """A score that grows with the logarithm of the steps, best at x = 0.7, and a cost that is the steps."""
    return math.log(params["steps"]) - 20.0 * (params["x"] - 0.7) ** 2, params["steps"], False


def test_it_finds_the_optimum_and_the_front_where_random_search_does_not():
    def shortfall(observations):
        """Of the best cheap observation from the true front at its cost."""
        return min(math.log(one.cost) - one.score for one in observations if 3.0 < one.cost < 30.0)

    ours, drawn = (searched(search, training, 20) for search in (Carbs(PLANE, seed=0), RandomSearch(PLANE, seed=0)))
    best = max(one.score for one in ours)
    assert best == pytest.approx(math.log(100.0), abs=0.02)
    assert best > max(one.score for one in drawn) + 0.5
    assert shortfall(ours) < 0.05 < shortfall(drawn)


def test_it_begins_at_the_centre():
    space = Space([Numeric("x", "uniform", 0.0, 10.0, centre=2.0), Numeric("y", "uniform", 0.0, 1.0)])
    search = Carbs(space, CarbsOptions(initial=12, radius=0.1), seed=3)
    firsts = [search.suggest() for _ in range(1)]
    search.observe(firsts[0], 1.0, 1.0)
    firsts += [search.suggest([firsts[0]]) for _ in range(8)]
    assert firsts[0]["x"] == 2.0
    assert all(abs(params["x"] - 2.0) < 2.0 for params in firsts)
    assert max(params["y"] for params in firsts) - min(params["y"] for params in firsts) > 0.5, "anywhere, where nothing is said"


def test_what_fails_is_avoided():
    def failing(params):
        return (math.nan, math.nan, True) if params["x"] > 0.5 else training(params)

    observations = searched(Carbs(PLANE, seed=1), failing, 20)
    late = observations[12:]
    assert sum(one.failed for one in late) <= 5, "although the best score lies beyond; at the border every other one fails"
    assert max(one.score for one in late if not one.failed) > 3.2


def test_all_failing_is_no_end():
    search = Carbs(PLANE, seed=0)
    for _ in range(6):
        search.observe(search.suggest(), math.nan, math.nan, True)
    assert 0.0 <= search.suggest()["x"] <= 1.0


def told(search, evaluate, num_draws, space=PLANE):
    """``search`` after it was told of random draws."""
    for one in searched(RandomSearch(space, seed=2), evaluate, num_draws):
        search.observe(*one)
    return search


def test_the_greatest_cost_is_kept():
    observations = searched(told(Carbs(PLANE, CarbsOptions(max_cost=10.0), seed=0), training, 10), training, 5)
    assert max(one.cost for one in observations) < 10.5
    assert max(one.score for one in observations) > math.log(10.0) - 0.2


def test_outstanding_suggestions_are_not_made_again():
    search = told(Carbs(PLANE, seed=0), training, 12)
    outstanding = []
    for _ in range(3):
        outstanding.append(search.suggest(outstanding))
    places = torch.stack([PLANE.encode(params) for params in outstanding])
    assert torch.pdist(places).min() > 1e-3


def test_the_best_is_repeated_where_results_are_noisy():
    generator = torch.Generator().manual_seed(0)
    seen = []

    def noisy(params):
        score, cost, failed = training(params)
        seen.append(params)
        return score + 0.7 * float(torch.randn((), generator=generator)), cost, failed

    assert told(Carbs(PLANE, seed=0), noisy, 20).suggest() in seen
    assert told(Carbs(PLANE, seed=0), noisy, 21).suggest() not in seen, "not every time"
    assert told(Carbs(PLANE, CarbsOptions(resample_interval=0), seed=0), noisy, 20).suggest() not in seen
    assert told(Carbs(PLANE, seed=0), training, 20).suggest() not in seen, "nothing is learned from a repetition"


def test_whole_numbers_and_names_are_searched_too():
    space = Space([Numeric("n", "int_uniform", 1, 8, rounding=1), Choice("kind", ("bad", "good", "ugly"))])

    def evaluate(params):
        return -abs(params["n"] - 6) + 3.0 * (params["kind"] == "good"), 1.0 + params["n"], False

    observations = searched(Carbs(space, seed=0), evaluate, 14)
    assert max(observations, key=lambda one: one.score).params == {"n": 6, "kind": "good"}
    assert all(type(one.params["n"]) is int for one in observations)


def test_the_same_seed_suggests_the_same():
    threads = torch.get_num_threads()
    one, other = (searched(Carbs(PLANE, seed=5), training, 6) for _ in range(2))
    assert one == other
    assert torch.get_num_threads() == threads, "left as it was"
    assert searched(Carbs(PLANE, seed=6), training, 3) != one[:3]


def test_importance_is_of_what_the_score_depends_on():
    space = Space([Numeric("strong", "uniform", 0.0, 1.0), Numeric("weak", "uniform", 0.0, 1.0), Numeric("none", "uniform", 0.0, 1.0)])
    draws = RandomSearch(space, seed=0)
    observations = [Observation(params, 2.0 * params["strong"] + params["weak"], 1.0) for params in (draws.suggest() for _ in range(30))]
    shares = importance(space, observations)
    assert shares["strong"][0] == pytest.approx(0.8, abs=0.04) and shares["strong"][1] == pytest.approx(0.8, abs=0.04)
    assert shares["weak"][1] == pytest.approx(0.2, abs=0.04)
    assert shares["none"][1] < 0.01
    assert importance(space, observations[:5]) == {}
