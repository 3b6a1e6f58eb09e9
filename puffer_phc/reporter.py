"""What training tells the world, whoever listens."""

from typing import Dict, Protocol


class Reporter(Protocol):
    """A dashboard, a log file, a tracker."""

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Figures of one iteration, after ``step`` environment steps in all."""
        ...

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Figures of one evaluation."""
        ...

    def message(self, text: str) -> None:
        """One line for the person who watches."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...
