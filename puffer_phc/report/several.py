"""One reporter that passes everything on to several."""

from pathlib import Path
from typing import Dict, Protocol, Sequence, runtime_checkable

from puffer_phc.report.dashboard import Progress
from puffer_phc.reporter import Reporter


@runtime_checkable
class Screen(Protocol):
    """A reporter that shows films, too."""

    def on_video(self, step: int, path: Path) -> None:
        """A .gif of the policy after ``step`` environment steps."""
        ...


class Several:
    """Passes figures on to ``listeners`` in turn, with the clock's own: 0verview/SPS, performance/uptime and performance/remaining (s)."""

    def __init__(self, listeners: Sequence[Reporter], progress: Progress) -> None:
        self._listeners, self._progress = list(listeners), progress

    @property
    def step(self) -> int:
        """Environment steps at the last iteration."""
        return self._progress.step

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Pass on the figures of one iteration."""
        progress = self._progress
        progress.advance(step)
        clock = {"0verview/SPS": progress.steps_per_second}
        clock.update({"performance/uptime": progress.elapsed, "performance/remaining": progress.remaining})
        for listener in self._listeners:
            listener.on_iteration(step, {**metrics, **clock})

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Pass on the figures of one evaluation."""
        for listener in self._listeners:
            listener.on_evaluation(step, summary)

    def on_video(self, step: int, path: Path) -> None:
        """Pass on a film of the policy to those who show films."""
        for listener in self._listeners:
            if isinstance(listener, Screen):
                listener.on_video(step, path)

    def message(self, text: str) -> None:
        """Pass on a line."""
        for listener in self._listeners:
            listener.message(text)

    def close(self) -> None:
        """Close all."""
        for listener in self._listeners:
            listener.close()
