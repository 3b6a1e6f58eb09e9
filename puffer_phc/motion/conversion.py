"""What conversions of all formats share: what is left out and why, and jobs for several processes."""

import logging
import multiprocessing
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

    ``work`` is pickled, hence a function of a module or a ``functools.partial`` of one.
    """
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield len(job), work(job)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        for job, converted in zip(jobs, pool.map(work, jobs)):
            yield len(job), converted
