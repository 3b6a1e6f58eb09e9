"""The comparison of searches: its functions have the minima that are published, and its figures are computed as it says."""

import importlib
import math
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


@pytest.fixture(scope="module")
def benchmark():
    sys.path.insert(0, str(SCRIPTS))
    yield importlib.import_module("benchmark_sweep")
    sys.path.remove(str(SCRIPTS))


MINIMA = {
    "Branin": [(-math.pi, 12.275), (math.pi, 2.275), (9.42478, 2.475)],
    "six-hump camel": [(0.0898, -0.7126), (-0.0898, 0.7126)],
    "Hartmann 3": [(0.114614, 0.555649, 0.852547)],
    "Rosenbrock 4": [(1.0,) * 4],
    "Ackley 5": [(0.0,) * 5],
    "Hartmann 6": [(0.20169, 0.150011, 0.476874, 0.275332, 0.311652, 0.6573)],
}


@pytest.mark.parametrize("name", MINIMA)
def test_the_published_minima(benchmark, name):
    problem = benchmark.PROBLEMS[name]
    for point in MINIMA[name]:
        assert problem.function(np.array(point)) == pytest.approx(problem.minimum, abs=1e-5)
    draws = np.random.default_rng(0).uniform(problem.low, problem.high, (2000, len(problem.low)))
    assert min(map(problem.function, draws)) > problem.minimum
    assert problem.cost(np.array(problem.low)) == 1.0 and problem.cost(np.array(problem.high)) == pytest.approx(30.0)


def test_regret_at_equal_summed_cost(benchmark):
    rows = [
        {"a": benchmark.Trace([1.0, 2.0, 3.0], [5.0, 2.0, 1.0]), "b": benchmark.Trace([4.0, 4.0, 4.0], [3.0, 0.5, 0.2])},
        {"a": benchmark.Trace([1.0, 1.0, 1.0], [4.0, 4.0, 4.0]), "b": benchmark.Trace([0.5, 0.5, 0.5], [3.0, 2.0, 1.0])},
    ]
    assert [benchmark.shared_budget(row) for row in rows] == [6.0, 1.5]
    problem = benchmark.PROBLEMS["Branin"]._replace(minimum=0.0)
    assert benchmark.median_regrets(problem, rows, 1.0) == {"a": 2.5, "b": 2.0}
    assert benchmark.median_regrets(problem, rows, None) == {"a": 2.5, "b": 0.6}
    assert rows[0]["b"].regret(0.0, 3.9) == math.inf


def test_fronts(benchmark):
    costs, values = benchmark.found_front(benchmark.Trace([3.0, 1.0, 2.0, 4.0], [1.0, 2.0, 3.0, 0.5]))
    assert (costs.tolist(), values.tolist()) == ([1.0, 3.0, 4.0], [2.0, 1.0, 0.5])
    problem = benchmark.PROBLEMS["Branin"]
    costs, values = benchmark.true_front(problem, points=21, starts=6)
    assert (np.diff(values) <= 0).all() and values[-1] == pytest.approx(problem.minimum, abs=1e-2)
    trace = benchmark.traced(problem, "random", 0, 40)
    for cost, value in zip(*benchmark.found_front(trace)):
        assert value >= values[costs >= cost * (1 - 1e-9)][0] - 1e-6


def test_the_command_makes_only_what_is_missing(benchmark, tmp_path, monkeypatch, capsys):
    words = ["--json", str(tmp_path / "a.json"), "--methods", "random", "--seeds", "2", "--evaluations", "5"]
    outputs = []
    for _ in range(2):
        monkeypatch.setattr(sys, "argv", ["benchmark_sweep.py", *words])
        assert benchmark.main() == 0
        outputs.append(capsys.readouterr().out)
    assert "Branin random 1:" in outputs[0] and "random 1:" not in outputs[1]
    assert "median simple regret at 1" in outputs[1]


def test_without_optuna_its_methods_are_left_out_with_a_line(benchmark, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "find_spec", lambda name: None)
    assert benchmark.available(["carbs", "tpe", "gp", "random"]) == ["carbs", "random"]
    assert "optuna is not installed: tpe, gp" in capsys.readouterr().err


@pytest.mark.skipif(find_spec("optuna") is None, reason="needs optuna: pip install 'puffer-phc[sweep-benchmark]'")
@pytest.mark.parametrize("method", ["tpe", "gp"])
def test_optuna_is_asked_and_told(benchmark, method):
    trace = benchmark.traced(benchmark.PROBLEMS["Branin"], method, 0, 12)
    assert len(trace.values) == 12 and len(set(trace.values)) == 12
