"""Functions fused by ``torch.compile``, and never the reason why a run ends."""

import logging
import traceback
from typing import Any, Callable

import torch

_LIMIT_ERRORS = ("FailOnRecompileLimitHit", "FailOnCacheLimitHit")
"""What torch raises where a function has been compiled for as many shapes and options as it keeps (8 in a process), by torch's version."""
_COMPILERS = ("torch._dynamo", "torch._inductor")

_logger = logging.getLogger(__name__)


class Fused:
    """``function``, which is pure or writes the same again where it runs twice, as one graph for each shape that it is called with.

    Torch counts these over all environments of a process. Where it refuses another one, and where its compiler breaks down, the function
    runs as it was written from then on: slower, with the same result, and a warning that says so.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._call: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        """What ``function`` returns."""
        try:
            return self._call(*arguments, **named)
        except Exception as error:
            if not _is_of_a_compiler(error):
                raise
            _logger.warning("%s goes on uncompiled: %s", self._function.__name__, _reason(error))
            self._call = self._function
            return self._call(*arguments, **named)


def _is_of_a_compiler(error: Exception) -> bool:
    """Whether torch's compilers raised the error, or code that they made: what failed can run again."""
    modules = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith(_COMPILERS) for name in (type(error).__module__, *modules[-1:]))


def _reason(error: Exception) -> str:
    if type(error).__name__ in _LIMIT_ERRORS:
        return "it has been compiled for too many shapes"
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
