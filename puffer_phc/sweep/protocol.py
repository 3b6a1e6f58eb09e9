"""What a search for good options looks like to those who run it."""

from typing import Any, Dict, NamedTuple, Protocol, Sequence

Params = Dict[str, Any]
"""Values of the swept options by dotted name."""


class Search(Protocol):
    """Proposes options to try, from what earlier ones brought. Scores are better the higher they are; costs are positive (seconds)."""

    def suggest(self, outstanding: Sequence[Params] = ()) -> Params:
        """What to try next, while the results of ``outstanding`` are still to come."""
        ...

    def observe(self, params: Params, score: float, cost: float, failed: bool = False) -> None:
        """Take in a result; of one that ``failed`` because of its options, score and cost mean nothing."""
        ...


class Observation(NamedTuple):
    """One result."""

    params: Params
    score: float
    """The higher the better."""
    cost: float
    """s, or whatever is to be spent sparingly."""
    failed: bool = False
