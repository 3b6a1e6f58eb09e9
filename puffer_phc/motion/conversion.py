"""What conversions of all formats share: what is left out and why, and jobs for several processes."""

import contextlib
import logging
import multiprocessing
import signal
from concurrent.futures import ProcessPoolExecutor
from typing import Callable, Iterator, List, NamedTuple, Sequence, Tuple, TypeVar

from puffer_phc.errors import MotionFileError
from puffer_phc.motion.file import Clip

logger = logging.getLogger(__name__)

UNREADABLE = "unreadable"
"""The kind of files that are damaged or not what their name says."""


class Dropped(NamedTuple):
    """One file that did not become a clip."""

    name: str
    kind: str
    """unreadable, rejected, needs a scene, not a motion, other data set, not asked for, filtered."""
    reason: str


class Converted(NamedTuple):
    """What a job gives back."""

    clips: List[Clip]
    dropped: List[Dropped]


def failure(name: str, error: Exception) -> Dropped:
    """A file or clip that an error ends: a file that nobody has thought of must not end a conversion of thousands."""
    if isinstance(error, MotionFileError):
        return Dropped(name, UNREADABLE, str(error))
    logger.debug("unexpected error in %s", name, exc_info=error)
    return Dropped(name, UNREADABLE, f"{type(error).__name__}: {error}")


Job = TypeVar("Job")


def share_out(jobs: Sequence[Sequence[Job]], work: Callable[[Sequence[Job]], Converted], processes: int) -> Iterator[Tuple[int, Converted]]:
    """The number of files of each job and what ``work`` made of it, in order, with ``processes`` processes.

    ``work`` is pickled, hence a function of a module or a ``functools.partial`` of one. Whoever stops listening ends the processes.
    """
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield len(job), work(job)
        return
    others = multiprocessing.active_children()
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        with _interrupts_held():
            results = [pool.submit(work, job) for job in jobs]
        try:
            for job, result in zip(jobs, results):
                yield len(job), result.result()
        except BaseException:
            for process in multiprocessing.active_children():
                if process not in others:
                    process.terminate()
            raise


@contextlib.contextmanager
def _interrupts_held() -> Iterator[None]:
    """A time in which Ctrl-C waits; processes that begin in it never hear of it: each would answer with its traceback."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
