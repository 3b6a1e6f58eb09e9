"""A sweep as one page that opens from disk without a network."""

import math
from typing import Any, Dict, List, Sequence

import numpy as np

from puffer_phc.config import SweepConfig
from puffer_phc.report import page, sweep_charts
from puffer_phc.report.sweep_scores import COST_LABEL, Scores, Words, in_digits, score_text
from puffer_phc.sweep.analysis import MIN_OBSERVATIONS, importance
from puffer_phc.sweep.journal import FAILED, FINISHED, Run
from puffer_phc.sweep.results import final_point, observations_of
from puffer_phc.sweep.space import Choice, Parameter, Space

_WORDS = (
    "<p><b>Front</b>: results that nothing cheaper was as good as. Where the length of runs is swept, an evaluation on the way is one, as "
    "of a run that ends there. <b>Importance</b>: a Gaussian process is fitted to all results; shown is how much of the variance of "
    "what it predicts over all ranges an option explains alone, and together with others. The best value of an option that explains "
    "little says little; where the best lie at the end of a range, a wider one may hold better ones.</p>"
)
_SCALES = {"log_uniform_values": "log", "logit": "logit"}
"""Of charts, by distribution."""


class _Page:
    """What all parts of the page are made of."""

    def __init__(self, runs: Sequence[Run], space: Space, options: SweepConfig, is_working: bool) -> None:
        self.runs, self.space, self.options = runs, space, options
        self.scores, self.words = Scores(runs, options), Words(space)
        self.unfinished = "under way" if is_working else "interrupted"

    def outcome(self, run: Run) -> str:
        """How a run ended, or that it has not."""
        return run.outcome or self.unfinished


def sweep_report(runs: Sequence[Run], space: Space, options: SweepConfig, is_working: bool = True) -> str:
    """The page as HTML. ``is_working``: whether somebody works on the runs that are not over."""
    about = _Page(runs, space, options, is_working)
    body = [f"<h1>Sweep {page.text(options.name)}</h1>", f'<p class="quiet">{page.text(_scope(about))}</p>']
    body.append(f'<div class="cards">{"".join(_cards(about))}</div>')
    scripts = [page.static("table.js"), page.table_script("runs")]
    if about.scores.runs:
        body.append(page.section("Score and cost", f'<div class="pair">{"".join(_charts(about))}</div>'))
        shares = importance(space, [one for run in runs for one in observations_of(run, about.scores.sign)])
        body.append(page.section("Options", _importance(about, shares), _option_charts(about, shares)))
        scripts += ['sortable(document.getElementById("importance"));'] if shares else []
    table = page.table("runs", _columns(about), _rows(about))
    body.append(page.section("Every run", page.filters("runs", _kinds(about), has_search=False), table))
    body.append(page.section("About", _WORDS, page.facts(_facts(about))))
    return page.document(f"Sweep {options.name}", "\n".join(body), scripts)


def _scope(about: _Page) -> str:
    runs, options = about.runs, about.options
    over = sum(run.is_over for run in runs)
    rest = f", {len(runs) - over} {about.unfinished}" if len(runs) > over else ""
    return f"{over} of {options.runs} runs over{rest}, by {options.method}; {options.metric} is to be {options.goal}d"


def _cards(about: _Page) -> List[str]:
    scores, runs = about.scores, about.runs
    cards = []
    if scores.best is not None:
        row = scores.best
        cards.append(page.card(score_text(scores.scores[row]), "", f"best {about.options.metric}", f"run {scores.runs[row].number}"))
        cards.append(page.card(f"{scores.costs[row]:,.0f}", "s", "training of the best run"))
    hours = sum(run.points[-1].seconds for run in runs if run.points) / 3600.0
    cards.append(page.card(f"{hours:.2f}", "h", "training in all"))
    cards.append(page.card(str(sum(run.outcome == FAILED for run in runs)), "", "runs failed"))
    return cards


def _charts(about: _Page) -> List[str]:
    return [
        page.chart(sweep_charts.front_chart(about.scores, COST_LABEL, about.options.metric), "all scores over their cost, and their front"),
        page.chart(sweep_charts.progress_chart(about.scores, about.options.metric), "scores in the order of the runs"),
    ]


def _importance(about: _Page, shares: Dict[str, tuple]) -> str:
    if not shares:
        return f'<p class="quiet">What the score depends on is shown from {MIN_OBSERVATIONS} results on.</p>'
    rows = [
        page.Row([_name_cell(about, name), _percent(total), _percent(alone), _best_value(about, name)])
        for name, (alone, total) in sorted(shares.items(), key=lambda item: -item[1][1])
    ]
    columns = [page.Column("option", "", "up"), page.Column("with interactions %"), page.Column("alone %"), page.Column("in the best run")]
    chart = sweep_charts.importance_chart({about.words.name(name): share for name, share in shares.items()})
    return f'<div class="pair">{page.chart(chart, "importance of every option")}{page.table("importance", columns, rows)}</div>'


def _name_cell(about: _Page, name: str) -> page.Cell:
    return page.Cell(f'<span title="{page.text(name)}">{page.text(about.words.name(name))}</span>')


def _percent(share: float) -> page.Cell:
    return page.Cell(f"{100 * share:.1f}", f"{share:.5f}")


def _best_value(about: _Page, name: str) -> page.Cell:
    scores = about.scores
    return page.Cell("–", None) if scores.best is None else _value_cell(about, scores.params[scores.best][name])


def _option_charts(about: _Page, shares: Dict[str, tuple]) -> str:
    """A chart of each option, the most important first."""
    by_importance = sorted(about.space.parameters, key=lambda parameter: -shares.get(parameter.name, (0.0, 0.0))[1])
    pictures = [
        page.chart(sweep_charts.option_chart(_axis(about, parameter), about.scores, about.options.metric), f"scores over {parameter.name}")
        for parameter in by_importance
    ]
    hint = "Large dots: results at a run's end, blue on the front. Small ones: evaluations on the way. Dotted: the ends of the range."
    return f'<p class="quiet small">{hint}</p><div class="charts">{"".join(pictures)}</div>'


def _axis(about: _Page, parameter: Parameter) -> sweep_charts.Axis:
    values, name = [params[parameter.name] for params in about.scores.params], about.words.name(parameter.name)
    if isinstance(parameter, Choice):
        places = np.array([float(parameter.values.index(value)) for value in values])
        ticks = [(float(place), about.words.brief(value)) for place, value in enumerate(parameter.values)]
        return sweep_charts.Axis(name, places, ticks=ticks)
    is_whole = parameter.rounding is not None
    scale = _SCALES.get(parameter.distribution, "linear")
    return sweep_charts.Axis(name, np.array(values, dtype=float), scale, (parameter.low, parameter.high), is_whole=is_whole)


def _kinds(about: _Page) -> Dict[str, str]:
    outcomes = sorted({about.outcome(run) for run in about.runs} | {FINISHED})
    return {"": "all runs", "front": "the front", **{_kind(outcome): outcome for outcome in outcomes}}


def _kind(outcome: str) -> str:
    return outcome.replace(" ", "-")


def _columns(about: _Page) -> List[page.Column]:
    metric = about.options.metric
    columns = [
        page.Column("run", "", "up"),
        page.Column("outcome", "", "up"),
        page.Column(metric.rpartition("/")[2], metric, "down" if about.scores.sign > 0 else "up"),
        page.Column(COST_LABEL),
        page.Column("steps", "of training until the score", "down"),
    ]
    columns += [page.Column(about.words.name(parameter.name), parameter.name) for parameter in about.space.parameters]
    return columns + [page.Column("reason", "", "up")] * _has_reasons(about)


def _has_reasons(about: _Page) -> bool:
    return any(run.reason for run in about.runs)


def _rows(about: _Page) -> List[page.Row]:
    """All runs, the best first."""
    on_front = {about.scores.runs[row].number for row in about.scores.front}

    def rank(run: Run) -> float:
        return -about.scores.sign * run.points[-1].value if run.points else math.inf

    return [_row(about, run, run.number in on_front) for run in sorted(about.runs, key=rank)]


def _row(about: _Page, run: Run, is_on_front: bool) -> page.Row:
    last, outcome = final_point(run), about.outcome(run)
    cells = [page.Cell(str(run.number)), page.Cell(page.text(outcome))]
    if last is None:
        cells += [page.Cell("–", None)] * 3
    else:
        cells += [page.Cell(score_text(last.value), last.value), page.Cell(f"{last.seconds:,.0f}", last.seconds)]
        cells.append(page.Cell(f"{last.step:,}", last.step))
    cells += [_value_cell(about, run.params[parameter.name]) for parameter in about.space.parameters]
    reason = [page.Cell(page.text(run.reason))] * _has_reasons(about)
    return page.Row([*cells, *reason], [_kind(outcome)] + ["front"] * is_on_front)


def _value_cell(about: _Page, value: Any) -> page.Cell:
    shown = about.words.value(value)
    return page.Cell(page.text(shown), value if isinstance(value, (int, float)) else shown)


def _facts(about: _Page) -> Dict[str, str]:
    ranges = {parameter.name: _range(about, parameter) for parameter in about.space.parameters}
    return {"method": about.options.method, "time limit": f"{about.options.time_limit:,.0f} s a run", **ranges}


def _range(about: _Page, parameter: Parameter) -> str:
    if isinstance(parameter, Choice):
        return " | ".join(about.words.value(value) for value in parameter.values)
    rounding = f", rounded to {parameter.rounding}" if parameter.rounding not in (None, 1) else ""
    return f"{_end(parameter.low)} to {_end(parameter.high)}, {parameter.distribution}{rounding}"


def _end(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) else in_digits(value, 6)
