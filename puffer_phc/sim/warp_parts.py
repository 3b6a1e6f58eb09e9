"""Other functions in place of parts of MuJoCo Warp, for as long as it is at work for us.

The engine calls its own functions by the names that they have in its modules, so that another may stand there meanwhile. Such functions are
private: each stand-in says which parameters it was written for, and an engine whose function has others is another engine.
"""

import inspect
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, NamedTuple, Tuple

Place = Tuple[Any, str]
"""A module of the engine and a name in it."""


class StandIn(NamedTuple):
    """What is called instead, and the parameters of what it is called instead of."""

    function: Callable[..., Any]
    parameters: Tuple[str, ...]


StandIns = Dict[Place, StandIn]


def unknown_parts(stand_ins: Mapping[Place, StandIn]) -> List[str]:
    """The names for which the installed engine has no function, or one with other parameters."""
    return [place[1] for place, stand_in in stand_ins.items() if _parameters(place) != stand_in.parameters]


@contextmanager
def standing_in(stand_ins: Mapping[Place, StandIn]) -> Iterator[None]:
    """What the engine does in here, and the graphs that are recorded in here, it does with ``stand_ins``."""
    before = {(module, name): getattr(module, name) for module, name in stand_ins}
    try:
        for (module, name), stand_in in stand_ins.items():
            setattr(module, name, stand_in.function)
        yield
    finally:
        for (module, name), function in before.items():
            setattr(module, name, function)


def _parameters(place: Place) -> Tuple[str, ...]:
    function = getattr(*place, None)
    return () if function is None else tuple(inspect.signature(function).parameters)
