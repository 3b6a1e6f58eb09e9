"""A sweep as a table on the terminal and as one page that opens from disk without a network."""

import math
from typing import Any, List, Optional, Sequence

import numpy as np
from rich.table import Table

from puffer_phc.config import SweepConfig
from puffer_phc.report import page, sweep_charts
from puffer_phc.sweep.analysis import MIN_OBSERVATIONS, front_rows, importance
from puffer_phc.sweep.journal import FAILED, FINISHED, Run
from puffer_phc.sweep.results import final_point, observations_of
from puffer_phc.sweep.space import Choice, Parameter, Space

_COST_LABEL = "s of training"
_WORDS = (
    "<p><b>Front</b>: runs that no cheaper run was as good as. <b>Importance</b>: a Gaussian process is fitted to all results; shown is "
    "how much of the variance of what it predicts over all ranges an option explains alone, and together with others. The best value "
    "of an option that explains little says little.</p>"
)


class _Results:
    """The runs that have a score, as columns."""

    def __init__(self, runs: Sequence[Run], options: SweepConfig) -> None:
        self.sign = 1.0 if options.goal == "maximize" else -1.0
        self.runs = [run for run in runs if run.points]
        points = [final_point(run) for run in self.runs]
        self.scores = np.array([point.value for point in points if point is not None])
        self.costs = np.array([point.seconds for point in points if point is not None])
        self.front = front_rows(self.costs.tolist(), (self.sign * self.scores).tolist())

    @property
    def best(self) -> Optional[int]:
        """The row of the best run."""
        return self.front[-1] if self.front else None


def summary_table(runs: Sequence[Run], space: Space, options: SweepConfig) -> Table:
    """The front, the best run last."""
    results = _Results(runs, options)
    failed = sum(run.outcome == FAILED for run in runs)
    table = Table(title=f"{options.name}: front of {len(results.runs)} runs with a score, {failed} failed")
    for heading in ("run", options.metric, _COST_LABEL, *(parameter.name for parameter in space.parameters)):
        table.add_column(heading.rpartition(".")[2], justify="right", overflow="fold")
    for row in results.front:
        run = results.runs[row]
        values = (_shown(run.params[parameter.name]) for parameter in space.parameters)
        table.add_row(str(run.number), f"{results.scores[row]:.5g}", f"{results.costs[row]:.0f}", *values)
    return table


def sweep_report(runs: Sequence[Run], space: Space, options: SweepConfig) -> str:
    """The page as HTML."""
    results = _Results(runs, options)
    body = [f"<h1>Sweep {page.text(options.name)}</h1>", f'<p class="quiet">{page.text(_scope(runs, options))}</p>']
    body.append(f'<div class="cards">{"".join(_cards(runs, results, options))}</div>')
    if results.runs:
        body.append(page.section("Score and cost", f'<div class="pair">{"".join(_charts(results, options))}</div>'))
        body.append(page.section("Options", _importance(runs, space, results, options), _option_charts(space, results, options)))
    body.append(
        page.section(
            "Every run", page.filters("runs", _kinds(runs)), page.table("runs", _columns(space, options), _rows(runs, space, results))
        )
    )
    body.append(page.section("About", _WORDS, page.facts(_facts(space, options))))
    scripts = [page.static("table.js"), page.table_script("runs")]
    return page.document(f"Sweep {options.name}", "\n".join(body), scripts)


def _scope(runs: Sequence[Run], options: SweepConfig) -> str:
    over = sum(run.is_over for run in runs)
    return f"{over} of {options.runs} runs over, by {options.method}; {options.metric} is to be {options.goal}d"


def _cards(runs: Sequence[Run], results: _Results, options: SweepConfig) -> List[str]:
    cards = []
    if results.best is not None:
        best = results.best
        cards.append(page.card(f"{results.scores[best]:.4g}", "", f"best {options.metric}", f"run {results.runs[best].number}"))
        cards.append(page.card(f"{results.costs[best]:.0f}", "s", "training of the best run"))
    cards.append(page.card(f"{results.costs.sum() / 3600.0:.2f}", "h", "training in all"))
    cards.append(page.card(str(sum(run.outcome == FAILED for run in runs)), "", "runs failed"))
    return cards


def _charts(results: _Results, options: SweepConfig) -> List[str]:
    is_less_better = options.goal == "minimize"
    front = sweep_charts.front_chart(results.costs, results.scores, results.front, _COST_LABEL, options.metric, is_less_better)
    progress = sweep_charts.progress_chart(results.scores, options.metric, is_less_better)
    return [
        page.chart(front, "scores of all runs over their cost, and their front"),
        page.chart(progress, "scores in the order of the runs"),
    ]


def _importance(runs: Sequence[Run], space: Space, results: _Results, options: SweepConfig) -> str:
    shares = importance(space, [one for run in runs for one in observations_of(run, results.sign)])
    if not shares:
        return f'<p class="quiet">What the score depends on is shown from {MIN_OBSERVATIONS} results on.</p>'
    rows = [
        page.Row([page.Cell(page.text(name)), _percent(total), _percent(alone), _best_value(name, results)])
        for name, (alone, total) in sorted(shares.items(), key=lambda item: -item[1][1])
    ]
    columns = [page.Column("option", "", "up"), page.Column("with interactions %"), page.Column("alone %"), page.Column("in the best run")]
    return page.chart(sweep_charts.importance_chart(shares), "importance of every option") + page.table("importance", columns, rows)


def _percent(share: float) -> page.Cell:
    return page.Cell(f"{100 * share:.1f}", f"{share:.5f}")


def _best_value(name: str, results: _Results) -> page.Cell:
    return page.Cell("–", None) if results.best is None else _value_cell(results.runs[results.best].params[name])


def _option_charts(space: Space, results: _Results, options: SweepConfig) -> str:
    pictures = [
        page.chart(
            sweep_charts.option_chart(_axis(parameter, results), results.scores, results.front, options.metric, options.goal == "minimize"),
            f"scores over {parameter.name}",
        )
        for parameter in space.parameters
    ]
    return f'<div class="charts">{"".join(pictures)}</div>'


def _axis(parameter: Parameter, results: _Results) -> sweep_charts.Axis:
    values = [run.params[parameter.name] for run in results.runs]
    if isinstance(parameter, Choice):
        places = np.array([float(parameter.values.index(value)) for value in values])
        return sweep_charts.Axis(parameter.name, places, False, [(place, _shown(value)) for place, value in enumerate(parameter.values)])
    return sweep_charts.Axis(parameter.name, np.array(values, dtype=float), parameter.distribution == "log_uniform_values")


def _kinds(runs: Sequence[Run]) -> dict:
    outcomes = sorted({run.outcome or "under way" for run in runs} | {FINISHED})
    return {"": "all runs", "front": "the front", **{_kind(outcome): outcome for outcome in outcomes}}


def _kind(outcome: str) -> str:
    return outcome.replace(" ", "-")


def _columns(space: Space, options: SweepConfig) -> List[page.Column]:
    first = "up" if options.goal == "minimize" else "down"
    columns = [
        page.Column("run", "", "up"),
        page.Column("outcome", "", "up"),
        page.Column(options.metric, "", first),
        page.Column(_COST_LABEL),
    ]
    return columns + [page.Column(parameter.name) for parameter in space.parameters] + [page.Column("reason", "", "up")]


def _rows(runs: Sequence[Run], space: Space, results: _Results) -> List[page.Row]:
    """All runs, the best first."""
    on_front = {results.runs[row].number for row in results.front}

    def rank(run: Run) -> float:
        return -results.sign * run.points[-1].value if run.points else math.inf

    return [_row(run, space, run.number in on_front) for run in sorted(runs, key=rank)]


def _row(run: Run, space: Space, is_on_front: bool) -> page.Row:
    last, outcome = final_point(run), run.outcome or "under way"
    cells = [page.Cell(str(run.number)), page.Cell(page.text(outcome))]
    cells += (
        [page.Cell("–", None)] * 2
        if last is None
        else [page.Cell(f"{last.value:.5g}", last.value), page.Cell(f"{last.seconds:.0f}", last.seconds)]
    )
    cells += [_value_cell(run.params[parameter.name]) for parameter in space.parameters]
    return page.Row([*cells, page.Cell(page.text(run.reason))], [_kind(outcome)] + ["front"] * is_on_front)


def _value_cell(value: Any) -> page.Cell:
    return page.Cell(page.text(_shown(value)), value if isinstance(value, (int, float)) else _shown(value))


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return "auto" if value is None else (f"{value:.4g}" if isinstance(value, float) else str(value))


def _facts(space: Space, options: SweepConfig) -> dict:
    ranges = {parameter.name: _range(parameter) for parameter in space.parameters}
    return {"method": options.method, "time limit": f"{options.time_limit:.0f} s a run", **ranges}


def _range(parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return " | ".join(_shown(value) for value in parameter.values)
    rounding = f", rounded to {parameter.rounding}" if parameter.rounding is not None else ""
    return f"{parameter.low:g} to {parameter.high:g}, {parameter.distribution}{rounding}"
