"""What a person sees while a run goes on: a live picture on a terminal, plain lines elsewhere."""

import contextlib
import math
import time
from collections import deque
from typing import Callable, Deque, Dict, Iterable, List, Tuple, Union

from rich.columns import Columns
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from puffer_phc.evaluate.figures import FIGURES
from puffer_phc.report.metrics_log import SPENT

_SHOWN_MESSAGES = 5
_SECONDS_BETWEEN_LINES = 10.0
"""Plain lines come no oftener: a log file is read by people."""

_IN_THE_BAR = (*SPENT, "performance/remaining")
"""Figures that stand beside the progress bar already, and sums of others."""

_WHAT_GOES_WRONG = (
    "losses/skipped_steps",
    "losses/disc_skipped_steps",
    "environment/diverged",
    "environment/contact_overflows",
    "environment/constraint_overflows",
)
"""Counts that are worth a place in a plain line where they are not zero."""

Clock = Callable[[], float]


class Progress:
    """How far a run is: steps, steps per second over the last iterations, and the time that is left. ``Several`` advances it.

    ``first_step`` is where a run that goes on begins, ``earlier`` are the s that it has taken before.
    """

    def __init__(self, total_steps: int, clock: Clock = time.monotonic, first_step: int = 0, earlier: float = 0.0) -> None:
        self.total_steps = total_steps
        self.step = self._first_step = first_step
        self._clock = clock
        self._started, self._earlier = clock(), earlier
        self._recent: Deque[Tuple[float, int]] = deque(maxlen=20)

    def advance(self, step: int) -> None:
        """An iteration has ended after ``step`` steps in all."""
        if not self._recent:
            self._recent.append((self._started, self._first_step))
        self._recent.append((self._clock(), step))
        self.step = step

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, those before it was resumed included."""
        return self._earlier + self._clock() - self._started

    @property
    def steps_per_second(self) -> float:
        """Over the last twenty iterations, evaluations included; zero before the first."""
        if len(self._recent) < 2:
            return 0.0
        (start, first), (end, last) = self._recent[0], self._recent[-1]
        return (last - first) / max(end - start, 1e-9)

    @property
    def remaining(self) -> float:
        """Seconds until ``total_steps`` at the present speed; infinite before the first iteration."""
        rate = self.steps_per_second
        return max(self.total_steps - self.step, 0) / rate if rate > 0 else math.inf


class Dashboard:
    """A picture that redraws itself in place: progress bar, losses, reward terms, the last evaluation, messages."""

    def __init__(self, console: Console, title: str, progress: Progress) -> None:
        self._title, self._progress = title, progress
        self._metrics: Dict[str, float] = {}
        self._evaluation: List[Tuple[str, str]] = []
        self._messages: Deque[str] = deque(maxlen=_SHOWN_MESSAGES)
        self._live = Live(console=console, get_renderable=self.picture, refresh_per_second=2)
        self._live.start()

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Show the figures of one iteration."""
        self._metrics = metrics

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Show the figures of one evaluation."""
        self._evaluation = [("at step", f"{step:,}"), *_of_evaluation(summary)]

    def message(self, text: str) -> None:
        """Show a line under the picture until newer ones push it out."""
        self._messages.append(text)

    def close(self) -> None:
        """Leave the last picture standing."""
        self._live.stop()

    def picture(self) -> RenderableType:
        """What is drawn now; the most telling figures come first, because a small terminal cuts off the rest."""
        tables = [
            _figures("Episodes and rewards", _under(self._metrics, "environment/")),
            _figures("Last evaluation", self._evaluation),
            _figures("Losses", _under(self._metrics, "losses/")),
            _figures("Speed", _under(self._metrics, "performance/")),
        ]
        parts: List[RenderableType] = [_bar(self._progress), Columns([table for table in tables if table.row_count])]
        parts += [Text(message, style="dim") for message in self._messages]
        return Panel(Group(*parts), title=Text(self._title), title_align="left")


class PlainLog:
    """One line now and then, for files and pipes."""

    def __init__(self, console: Console, title: str, progress: Progress, clock: Clock = time.monotonic) -> None:
        self._console, self._progress, self._clock = console, progress, clock
        self._last_line = -math.inf
        with contextlib.suppress(OSError):  # those that follow report it
            self.message(title)

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Write a line of the most telling figures, unless the last one is only seconds old."""
        is_last = step >= self._progress.total_steps
        if self._clock() - self._last_line >= _SECONDS_BETWEEN_LINES or is_last:
            self._last_line = self._clock()
            names = ("environment/episode_length", "environment/episode_return", "losses/value_loss", "losses/approx_kl")
            wrong = [name for name in _WHAT_GOES_WRONG if metrics.get(name, 0.0) > 0]
            shown = [f"{name.split('/')[1]} {figure(metrics[name])}" for name in (*names, *wrong) if name in metrics]
            self.message(" · ".join([summary_line(self._progress), *shown]))

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Write a line with the figures of one evaluation."""
        shown = [f"{name} {text}" for name, text in _of_evaluation(summary)]
        self.message(f"evaluation at step {step:,}: {' · '.join(shown)}")

    def message(self, text: str) -> None:
        """Write the line."""
        self._console.print(text, emoji=False, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Nothing is held back."""


def summary_line(progress: Progress) -> str:
    """Steps, speed and time left in one line."""
    share = min(progress.step / max(progress.total_steps, 1), 1.0)
    return (
        f"{progress.step:,} of {progress.total_steps:,} steps ({share:.0%}) · {progress.steps_per_second:,.0f} steps/s · "
        f"{duration(progress.elapsed)} gone, {duration(progress.remaining)} left"
    )


def duration(seconds: float) -> str:
    """Seconds as h:mm:ss; a question mark where they are not known."""
    if not math.isfinite(seconds):
        return "?"
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def figure(value: float) -> str:
    """A number in at most four digits and a unit prefix's worth of exponent; a dash for one that is not finite."""
    if not math.isfinite(value):
        return "–"
    if value == int(value) and abs(value) >= 1000:
        return f"{int(value):,}"
    return f"{value:.4g}"


def _under(metrics: Dict[str, float], prefix: str) -> List[Tuple[str, str]]:
    return [(name[len(prefix) :], figure(value)) for name, value in metrics.items() if name.startswith(prefix) and name not in _IN_THE_BAR]


def _of_evaluation(summary: Dict[str, float]) -> List[Tuple[str, str]]:
    """What is shown of an evaluation, by the names that it has in files, so that it can be found there, and in its units."""
    return [(key.replace("eval/", ""), known.text(summary[key])) for key, known in FIGURES.items() if key in summary]


def _figures(title: str, rows: Iterable[Tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2, 0, 0), min_width=24)
    for name, text in rows:
        table.add_row(name, Text(text, style="cyan", justify="right"))
    return table


def _bar(progress: Progress) -> RenderableType:
    bar = ProgressBar(total=progress.total_steps, completed=min(progress.step, progress.total_steps), width=None)
    # Rich's bar does not end its line: without the padding, what follows would be drawn behind it, outside the panel.
    return Group(Text(summary_line(progress)), Padding(bar, 0))


def terminal_reporter(console: Console, title: str, progress: Progress) -> "Union[Dashboard, PlainLog]":
    """A live picture where ``console`` is a terminal, else plain lines."""
    return Dashboard(console, title, progress) if console.is_terminal else PlainLog(console, title, progress)
