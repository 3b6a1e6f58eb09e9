"""Pure functions fused by ``torch.compile``, and never the reason why a run ends."""

import logging
from typing import Any, Callable

import torch

_LIMIT_ERRORS = ("FailOnRecompileLimitHit", "FailOnCacheLimitHit")
"""What torch raises where a function has been compiled for as many shapes and options as it keeps (8 in a process), by torch's version."""

_logger = logging.getLogger(__name__)


class Fused:
    """``function`` as one graph for each shape that it is called with.

    Torch counts these over all environments of a process. Where it refuses another one, the function runs as it was written from then on:
    slower, and with the same result.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._call: Callable[..., Any] = torch.compile(function, fullgraph=True, dynamic=False)

    def __call__(self, *arguments: Any) -> Any:
        """What ``function`` returns."""
        try:
            return self._call(*arguments)
        except Exception as error:
            if type(error).__name__ not in _LIMIT_ERRORS:
                raise
            _logger.warning("%s has been compiled for too many shapes and goes on uncompiled", self._function.__name__)
            self._call = self._function
            return self._call(*arguments)
