"""The front of a sweep on a terminal, whatever its width: no name and no number is broken over lines while a single result fits."""

from typing import List, Sequence

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from puffer_phc.config import SweepConfig
from puffer_phc.report.sweep_scores import COST_LABEL, Scores, Words, score_text
from puffer_phc.sweep.journal import FAILED, Run
from puffer_phc.sweep.results import STEPS
from puffer_phc.sweep.space import Space

_UNLIMITED = 10_000
"""Characters that no table has in a line."""

_PARTIAL = "* not over: this is what the run had scored so far"
_ON_THE_WAY = "an evaluation on the way counts as the result of a run that ends there"


class FrontTable:
    """The results that nothing cheaper was as good as, the best last.

    A row each; or where that is too wide a column each, in as many tables under each other as it takes.
    """

    def __init__(self, runs: Sequence[Run], space: Space, options: SweepConfig) -> None:
        scores, words = Scores(runs, options), Words(space)
        failed = sum(run.outcome == FAILED for run in runs)
        self.title = f"{options.name}: front of {sum(bool(run.points) for run in runs)} runs with a score, {failed} failed"
        self.headings = ["run", options.metric.rpartition("/")[2], COST_LABEL, *(words.name(option.name) for option in space.parameters)]
        self.rows = [_cells(scores, row, space, words) for row in scores.front]
        is_starred = any(number.endswith("*") for number, *_ in self.rows)
        is_on_the_way = not bool(scores.is_last[scores.front].all())
        self.notes = [_PARTIAL] * is_starred + [_ON_THE_WAY] * is_on_the_way

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """What rich asks for: the tables for a terminal of this width."""
        yield Text(self.title, style="italic")
        if _fits(self._upright(), console, options):
            yield self._upright()
        else:
            for table in self._lying(console, options):
                yield table
                yield Text()
        for note in self.notes:
            yield Text(note, style="dim")

    def _upright(self) -> Table:
        """A row for each result."""
        return _table(self.headings, self.rows, first="right")

    def _lying(self, console: Console, options: ConsoleOptions) -> List[Table]:
        """A column for each result, as many in a table as all the tables have room for."""
        for size in range(len(self.rows), 0, -1):
            tables = [_turned(self.headings, self.rows[start : start + size]) for start in range(0, len(self.rows), size)]
            if size == 1 or all(_fits(table, console, options) for table in tables):
                return tables
        return []


def _cells(scores: Scores, row: int, space: Space, words: Words) -> List[str]:
    run, params = scores.runs[row], scores.params[row]
    number = str(run.number) if run.is_over or STEPS in run.params else f"{run.number}*"
    values = (words.brief(params[parameter.name]) for parameter in space.parameters)
    return [number, score_text(scores.scores[row]), f"{scores.costs[row]:,.0f}", *values]


def _turned(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Headings before ``rows`` that have become columns."""
    (first, *others) = zip(headings, *rows)
    return _table(first, others, first="left")


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]], first: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for index, heading in enumerate(headings):
        table.add_column(Text(heading), justify="right" if index or first == "right" else "left", overflow="fold")
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    return Measurement.get(console, options.update(max_width=_UNLIMITED), table).maximum <= options.max_width
