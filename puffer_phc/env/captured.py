"""CUDA graphs applied from outside: a function that works in place on fixed tensors is recorded once and replayed."""

from typing import Callable, List, Sequence

import torch

_WARM_UP_CALLS = 3
"""Eager calls before the recording, in which compilers and libraries allocate what they need."""


class CapturedCall:
    """A function of no arguments, replayed as one CUDA graph from its fourth call on.

    The function has to read and write tensors whose addresses do not change, and must not wait for the device. Every call, the recorded
    one too, has its effect exactly once. ``generators`` are the random generators that it draws from.
    """

    def __init__(self, function: Callable[[], None], generators: Sequence[torch.Generator] = ()) -> None:
        self._function = function
        self._generators: List[torch.Generator] = list(generators)
        self._graph = None
        self._calls = 0

    def __call__(self) -> None:
        """Run the function once, on the current stream."""
        if self._graph is not None:
            self._graph.replay()
        elif self._calls < _WARM_UP_CALLS:
            self._calls += 1
            self._function()
        else:
            self._graph = self._record()
            self._graph.replay()

    def _record(self) -> torch.cuda.CUDAGraph:
        graph = torch.cuda.CUDAGraph()
        for generator in self._generators:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            self._function()
        return graph
