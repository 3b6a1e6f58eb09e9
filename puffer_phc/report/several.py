"""One reporter that passes everything on to several."""

import contextlib
import logging
from pathlib import Path
from typing import Dict, Iterator, List, Optional, Protocol, Sequence, runtime_checkable

from puffer_phc.report.dashboard import Progress
from puffer_phc.report.metrics_log import ROLLOUTS, SPEED, UPDATES, UPTIME
from puffer_phc.reporter import Reporter

logger = logging.getLogger(__name__)


@runtime_checkable
class Screen(Protocol):
    """A reporter that shows films, too."""

    def on_video(self, step: int, path: Path) -> None:
        """A .gif of the policy after ``step`` environment steps."""
        ...


class Several:
    """Passes figures on to the listeners that have joined, in turn, with the clock's own.

    Those are ``SPEED`` and, in seconds, performance/remaining and ``SPENT``: uptime, and what rollouts and updates took of it (the
    original calls these eval_time and train_time; here, evaluations are something else). ``spent`` is what the run has taken before it
    was resumed. A listener that cannot write (disk full, reader of a pipe gone) does not stop the run: that is said once, and it is
    asked again. Lines that come before the first listener wait for it: who opens files or takes a screen joins a run that can begin.
    """

    def __init__(self, listeners: Sequence[Reporter], progress: Progress, spent: Optional[Dict[str, float]] = None) -> None:
        self._listeners, self.progress = list(listeners), progress
        self._waiting: List[str] = []
        self._failed: List[Reporter] = []
        self._spent = {name: (spent or {}).get(name, 0.0) for name in (ROLLOUTS, UPDATES)}

    @property
    def step(self) -> int:
        """Environment steps at the last iteration."""
        return self.progress.step

    def join(self, listeners: Sequence[Reporter]) -> None:
        """Pass everything on to ``listeners`` from now on, and first the lines that waited."""
        self._listeners += listeners
        waiting, self._waiting = self._waiting, []
        for line in waiting:
            self.message(line)

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Pass on the figures of one iteration."""
        progress = self.progress
        progress.advance(step)
        clock = {SPEED: progress.steps_per_second, UPTIME: progress.elapsed, "performance/remaining": progress.remaining}
        for total, part in zip(self._spent, ("performance/rollout_time", "performance/update_time")):
            self._spent[total] += metrics.get(part, 0.0)
        for listener in self._listeners:
            with self._going_on(listener):
                listener.on_iteration(step, {**metrics, **clock, **self._spent})

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Pass on the figures of one evaluation."""
        for listener in self._listeners:
            with self._going_on(listener):
                listener.on_evaluation(step, summary)

    def on_video(self, step: int, path: Path) -> None:
        """Pass on a film of the policy to those who show films."""
        for listener in self._listeners:
            if isinstance(listener, Screen):
                with self._going_on(listener):
                    listener.on_video(step, path)

    def message(self, text: str) -> None:
        """Pass on a line."""
        if not self._listeners:
            self._waiting.append(text)
        for listener in self._listeners:
            with self._going_on(listener):
                listener.message(text)

    def close(self) -> None:
        """Close all."""
        for listener in self._listeners:
            with self._going_on(listener):
                listener.close()

    @contextlib.contextmanager
    def _going_on(self, listener: Reporter) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if listener not in self._failed:
                self._failed.append(listener)
                logger.warning("%s can't write: %s; training goes on without it", type(listener).__name__, error.strerror or error)
