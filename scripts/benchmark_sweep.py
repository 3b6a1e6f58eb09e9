"""CARBS beside Optuna's samplers and random search, on standard test functions whose evaluations cost more along one coordinate.

    python scripts/benchmark_sweep.py --json sweep_benchmark.json                   # everything that the file does not hold yet
    python scripts/benchmark_sweep.py --json sweep_benchmark.json --methods carbs --again   # one method anew
    python scripts/benchmark_sweep.py --json sweep_benchmark.json --table --plot fronts.png # only show
    python scripts/benchmark_sweep.py --seconds                                     # how long a suggestion takes

Every function is minimised over its usual box. An evaluation costs 30^u, where u in [0, 1] is how far along its range the last coordinate
lies. Each method has 60 evaluations. Simple regret (best value so far less the known minimum) is compared at equal summed cost: for every
function and seed at the least that one of the methods has spent after all its evaluations. Optuna's methods run where it is installed
(pip install "puffer-phc[sweep-benchmark]") and are left out, with a line, where it is not.
"""

import json
import math
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import torch
import tyro
from benchmarking.problems import PROBLEMS, Problem, true_front
from rich.table import Table
from rich.text import Text

from puffer_phc.command_line import Aside, run_main, say
from puffer_phc.errors import ConfigError
from puffer_phc.sweep.carbs import Carbs
from puffer_phc.sweep.protocol import Params, Search
from puffer_phc.sweep.random_search import RandomSearch
from puffer_phc.sweep.space import Numeric, Space

METHODS = ("carbs", "tpe", "gp", "random")
OPTUNA_METHODS = ("tpe", "gp")


class Trace(NamedTuple):
    """One run of one method."""

    costs: List[float]
    values: List[float]

    def regret(self, minimum: float, budget: float) -> float:
        """Of the best evaluation that ``budget`` was enough for; infinite before the first."""
        spent = np.cumsum(self.costs)
        paid = [value for value, total in zip(self.values, spent) if total <= budget * (1 + 1e-9)]
        return min(paid) - minimum if paid else math.inf


class OptunaSearch:
    """A sampler of Optuna, with its default settings, behind our protocol."""

    def __init__(self, space: Space, method: str, seed: int) -> None:
        import optuna  # pyright: ignore[reportMissingImports] (of the tests' extra)

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = {"tpe": optuna.samplers.TPESampler, "gp": optuna.samplers.GPSampler}
        self._study = optuna.create_study(direction="maximize", sampler=samplers[method](seed=seed))
        ranges = [parameter for parameter in space.parameters if isinstance(parameter, Numeric)]
        self._distributions = {one.name: optuna.distributions.FloatDistribution(one.low, one.high) for one in ranges}
        self._trial: Any = None

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        """What the sampler asks for."""
        self._trial = self._study.ask(self._distributions)
        return dict(self._trial.params)

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        """Tell the sampler; it has no place for the cost."""
        self._study.tell(self._trial, score)


def make_search(method: str, space: Space, seed: int) -> Search:
    """One of ``METHODS``."""
    if method == "carbs":
        return Carbs(space, seed=seed)
    return RandomSearch(space, seed) if method == "random" else OptunaSearch(space, method, seed)


def traced(problem: Problem, method: str, seed: int, evaluations: int) -> Trace:
    """Let ``method`` minimise."""
    search, trace = make_search(method, problem.space(), seed), Trace([], [])
    for _ in range(evaluations):
        params = search.suggest()
        point = np.array(list(params.values()))
        value, cost = problem.function(point), problem.cost(point)
        search.observe(params, -value, cost)
        trace.costs.append(cost)
        trace.values.append(value)
    return trace


class Cache:
    """Traces by problem, method and seed, in a file that grows as they come."""

    def __init__(self, path: Path, evaluations: int) -> None:
        self._path, self._evaluations = path, evaluations
        self._traces: Dict[str, Dict[str, List[float]]] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}

    def get(self, problem: str, method: str, seed: int) -> Optional[Trace]:
        """A trace of at least so many evaluations, cut to them; None where there is none."""
        found = self._traces.get(f"{problem}/{method}/{seed}")
        if found is None or len(found["values"]) < self._evaluations:
            return None
        return Trace(found["costs"][: self._evaluations], found["values"][: self._evaluations])

    def put(self, problem: str, method: str, seed: int, trace: Trace) -> None:
        """Keep a trace."""
        newest = json.loads(self._path.read_text(encoding="utf-8")) if self._path.exists() else {}
        self._traces = {**newest, f"{problem}/{method}/{seed}": trace._asdict()}
        self._path.write_text(json.dumps(self._traces) + "\n", encoding="utf-8")

    def known(self, methods: Sequence[str]) -> List[str]:
        """Those of ``methods`` that have any trace."""
        present = {key.split("/")[1] for key in self._traces}
        return [method for method in methods if method in present]

    def complete(self, problem: str, methods: Sequence[str], seeds: int) -> List[Dict[str, Trace]]:
        """For every seed that all ``methods`` have run: their traces."""
        rows = [{method: self.get(problem, method, seed) for method in methods} for seed in range(seeds)]
        return [{name: trace for name, trace in row.items() if trace is not None} for row in rows if None not in row.values()]


def shared_budget(row: Dict[str, Trace]) -> float:
    """What the thriftiest method has spent in all."""
    return min(sum(trace.costs) for trace in row.values())


def median_regrets(problem: Problem, rows: Sequence[Dict[str, Trace]], share: Optional[float]) -> Dict[str, float]:
    """By method, at this share of the shared budget; None: after all evaluations, whatever they cost."""
    budgets = [math.inf if share is None else share * shared_budget(row) for row in rows]
    methods = list(rows[0])
    return {
        method: float(np.median([row[method].regret(problem.minimum, budget) for row, budget in zip(rows, budgets)])) for method in methods
    }


def regret_table(cache: Cache, methods: Sequence[str], seeds: int, share: Optional[float], title: str) -> Table:
    """Median simple regrets."""
    table = Table(title=title)
    for heading in ("function", "seeds", *methods):
        table.add_column(heading)
    for name, problem in PROBLEMS.items():
        rows = cache.complete(name, methods, seeds)
        if rows:
            regrets = median_regrets(problem, rows, share)
            best = min(regrets.values())
            shown = [Text(f"{value:.3g}", "bold" if value == best else "") for value in regrets.values()]
            table.add_row(name, str(len(rows)), *shown)
    return table


def cost_table(cache: Cache, methods: Sequence[str], seeds: int) -> Table:
    """Median of what all evaluations have cost."""
    table = Table(title="summed cost of all evaluations, median")
    for heading in ("function", *methods):
        table.add_column(heading)
    for name in PROBLEMS:
        rows = cache.complete(name, methods, seeds)
        if rows:
            table.add_row(name, *(f"{np.median([sum(row[method].costs) for row in rows]):.0f}" for method in methods))
    return table


def found_front(trace: Trace) -> Tuple[np.ndarray, np.ndarray]:
    """The evaluations that no cheaper one was as good as."""
    order = np.argsort(trace.costs)
    costs, values = np.array(trace.costs)[order], np.array(trace.values)[order]
    is_front = values < np.concatenate(([np.inf], np.minimum.accumulate(values)[:-1]))
    return costs[is_front], values[is_front]


def plot_fronts(cache: Cache, seeds: int, path: Path) -> None:
    """Draw the fronts that CARBS found beside the true ones."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 6.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 3)
    for (name, problem), one in zip(PROBLEMS.items(), axes.flat):
        costs, values = true_front(problem)
        one.step(costs, values - problem.minimum + _FLOOR, where="post", color="#1f2933", linewidth=2.0, label="true front")
        for seed in range(seeds):
            trace = cache.get(name, "carbs", seed)
            if trace is not None:
                label = "CARBS, a seed each" if seed == 0 else None
                found = found_front(trace)
                one.step(
                    found[0], found[1] - problem.minimum + _FLOOR, where="post", color="#3a6ea5", alpha=0.5, linewidth=1.0, label=label
                )
        one.set(title=name, xscale="log", yscale="log", xlabel="cost of an evaluation", ylabel="value less the minimum")
        one.grid(color="#e6ebf0")
    axes.flat[0].legend(frameon=False)
    figure.savefig(path, dpi=110)


_FLOOR = 1e-6
"""Added to regrets where they are drawn on a logarithmic axis."""


def suggestion_seconds(observations: int, repeats: int = 5) -> List[Tuple[float, float]]:
    """(wall, processor) s of suggestions after so many observations of the six-dimensional function, each with a new observation."""
    problem = PROBLEMS["Hartmann 6"]
    space = problem.space()
    search, draws = Carbs(space, seed=0), RandomSearch(space, seed=0)
    generator = torch.Generator().manual_seed(0)
    seconds = []
    for number in range(observations + repeats):
        started = time.perf_counter(), time.process_time()
        params = (draws if number < observations else search).suggest()
        if number >= observations:
            seconds.append((time.perf_counter() - started[0], time.process_time() - started[1]))
        point = np.array(list(params.values()))
        search.observe(params, -problem.function(point) + 0.05 * float(torch.randn((), generator=generator)), problem.cost(point))
    return seconds


@dataclass(frozen=True)
class Options:
    """What is run and shown."""

    json: Path = Path("sweep_benchmark.json")
    """Traces that are there are not made again; new ones are added."""
    methods: Tuple[str, ...] = METHODS
    """Which to run and show: carbs, tpe, gp, random."""
    problems: Tuple[str, ...] = tuple(PROBLEMS)
    """Which functions to run."""
    seeds: int = 10
    """Runs of each method on each function."""
    evaluations: int = 60
    """Of each run."""
    again: bool = False
    """Make the traces of --methods anew."""
    table: bool = False
    """Only show what the file holds."""
    plot: Optional[Path] = None
    """Draw the fronts into this picture."""
    seconds: bool = False
    """Only measure how long a suggestion takes after 200 observations."""


def available(methods: Sequence[str]) -> List[str]:
    """``methods`` without those whose package is not installed, and a line about them."""
    missing = [method for method in methods if method in OPTUNA_METHODS and find_spec("optuna") is None]
    if missing:
        Aside(stderr=True).print(f"left out, because optuna is not installed: {', '.join(missing)}", soft_wrap=True)
    return [method for method in methods if method not in missing]


def run(options: Options) -> int:
    """Run what is missing and show everything."""
    if options.seconds:
        seconds = np.array(suggestion_seconds(200))
        (wall, processor), (longest, _) = np.median(seconds, axis=0), seconds.max(axis=0)
        say(f"a suggestion after 200 observations: {wall:.2f} s, longest {longest:.2f} s, {processor:.2f} s of processor time")
        return 0
    cache = Cache(options.json, options.evaluations)
    for name in () if options.table else options.problems:
        for method in available(options.methods):
            for seed in range(options.seeds):
                if options.again or cache.get(name, method, seed) is None:
                    started = time.process_time()
                    cache.put(name, method, seed, traced(PROBLEMS[name], method, seed, options.evaluations))
                    say(f"{name} {method} {seed}: {time.process_time() - started:.1f} s of processor time")
    show(cache, options)
    return 0


def show(cache: Cache, options: Options) -> None:
    """Tables, and the picture that was asked for."""
    console, methods = Aside(), cache.known(options.methods)
    if not methods:
        raise ConfigError(f"'{options.json}' has no run of {', '.join(options.methods)} to show; without --table they are made")
    for share in (0.25, 0.5, 1.0):
        title = f"median simple regret at {share:g} of the shared summed cost"
        console.print(regret_table(cache, methods, options.seeds, share, title))
    console.print(regret_table(cache, methods, options.seeds, None, "the same after all evaluations, whatever they cost"))
    console.print(cost_table(cache, methods, options.seeds))
    if options.plot is not None:
        plot_fronts(cache, options.seeds, options.plot)
        say(f"wrote {options.plot}")


def main() -> int:
    """Parse the command line and compare."""
    return run_main(lambda: run(tyro.cli(Options, description=__doc__)))


if __name__ == "__main__":
    sys.exit(main())
