"""Time in the steady state: warm-up aside, and with the device waited for where the clock is read."""

import time
from typing import Callable, Dict, List

import torch

WARM_UP_CALLS = 5
CALLS_PER_CHUNK = 10
"""Between two looks at the clock, which wait for the device."""
WARM_UP_ITERATIONS = 2
"""Training iterations in which kernels are compiled."""


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds_per_call(function: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Mean time of a call over about ``seconds``."""
    for _ in range(WARM_UP_CALLS):
        function()
    wait(device)
    started, calls = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        for _ in range(CALLS_PER_CHUNK):
            function()
        calls += CALLS_PER_CHUNK
        wait(device)
    return (time.perf_counter() - started) / calls


def seconds_of_a_chunk(function: Callable[[], object]) -> float:
    """Time of ``CALLS_PER_CHUNK`` calls on the processor."""
    started = time.perf_counter()
    for _ in range(CALLS_PER_CHUNK):
        function()
    return time.perf_counter() - started


class TimeIsUpError(Exception):
    """Ends ``Trainer.fit`` from its reporter."""


class SilentReporter:
    """The part of a reporter that measurements have no use for."""

    def on_evaluation(self, step: int, summary: Dict[str, float]) -> None:
        """Nothing is evaluated here."""

    def message(self, text: str) -> None:
        """Nothing to say."""

    def close(self) -> None:
        """Nothing to close."""


class Stopwatch(SilentReporter):
    """A reporter that times training iterations for ``seconds`` and then raises TimeIsUpError."""

    def __init__(self, device: torch.device, seconds: float) -> None:
        self._device, self._seconds = device, seconds
        self._ends: List[float] = []

    def on_iteration(self, step: int, metrics: Dict[str, float]) -> None:
        """Note the time of an iteration's end."""
        wait(self._device)
        self._ends.append(time.perf_counter())
        timed = self._timed()
        if len(timed) > 2 and timed[-1] - timed[0] > self._seconds:
            raise TimeIsUpError

    def seconds_per_iteration(self) -> float:
        """The mean over the iterations that count."""
        timed = self._timed()
        return (timed[-1] - timed[0]) / (len(timed) - 1)

    def _timed(self) -> List[float]:
        """When the warm-up and each iteration after it ended."""
        return self._ends[WARM_UP_ITERATIONS - 1 :]
