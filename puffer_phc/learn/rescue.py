"""What several processes have learned outlasts the loss of one: each keeps the state after the last whole iteration, to save it alone."""

import logging
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple

import torch
from torch import Tensor

from puffer_phc.errors import PhcError
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.host_copy import HostCopier
from puffer_phc.learn.optimizer import is_finite
from puffer_phc.learn.resume import with_tensors
from puffer_phc.learn.run_folder import checkpoint_path, make_latest, save_in_run, writings

logger = logging.getLogger(__name__)

_TURN_SECONDS, _LONGEST_SECONDS = 1.0, 8.0
"""How long each process waits for the ones before it, so that one writes for all, whichever of them is left."""

_ARRIVAL_SECONDS = 2.0
"""How long a state may be on its way to the host. That takes milliseconds where the device works."""
_LOOK_SECONDS = 0.01


class Kept(NamedTuple):
    """A state that nothing changes any more, on the host."""

    iteration: int
    policy: Dict[str, Tensor]
    trainer: Dict[str, Any]
    """Of ``Checkpoint``."""
    has_arrived: Tensor
    """() bool on the host, which becomes true when all of it is there."""


class Rescue:
    """Saves, without asking anybody, what was last kept: once, from any thread, while the main one may be stuck in an exchange.

    ``checkpoint`` makes one of a policy's and a trainer's state. Nothing is asked of the driver then, which may answer nobody while the
    main thread waits in it for an exchange: what the device wrote last is a mark in the host's memory that the rest is there. Where that
    doesn't come, the state before is taken.
    """

    def __init__(self, run_dir: Path, checkpoint: Callable[[Any, Any], Checkpoint], rank: int, keep: int, device: torch.device) -> None:
        self._run_dir, self._checkpoint, self._rank, self._keep = run_dir, checkpoint, rank, keep
        self._earlier = writings(run_dir)
        self._copier = HostCopier(device)
        self._lock = threading.Lock()
        self._states: List[Kept] = []
        self._is_saving = False
        """From then on nothing is kept: it would take the memory of what is written."""
        self.is_over = threading.Event()
        """Set where there is nothing more to wait for from others."""

    def keep(self, iteration: int, policy: Dict[str, Tensor], trainer: Dict[str, Any]) -> None:
        """Copy the state after ``iteration`` to the host, which the device does beside what comes next."""
        with self._lock:
            if self._is_saving:
                return
            self._states = self._states[-1:]  # the other's memory is what the new one gets
        state, has_arrived = self._copier.copy({"policy": policy, "trainer": trainer})
        with self._lock:
            self._states = [*self._states, Kept(iteration, state["policy"], state["trainer"], has_arrived)]

    def let_go(self) -> None:
        """All exchanges are behind: what is to be saved now is the whole state."""
        with self._lock:
            self._states = []
            self.is_over.set()

    def save(self) -> None:
        """Write what was last kept as a checkpoint of the run, unless that is there, and say so. Raises nothing: these are last words."""
        with self._lock:
            states, self._states, self._is_saving = self._states, [], True
            last = next((state for state in reversed(states) if _is_there(state)), None)
            if last is None and states:
                logger.warning("what was learned until iteration %d is lost: the device does not answer", states[-1].iteration)
            if last is not None:
                try:
                    self._write(last)
                except (PhcError, RuntimeError, OSError) as error:
                    logger.warning("what was learned until iteration %d is lost: %s", last.iteration, error)

    def _write(self, kept: Kept) -> None:
        time.sleep(min(self._rank * _TURN_SECONDS, _LONGEST_SECONDS))
        path = checkpoint_path(self._run_dir, kept.iteration)
        if all(other < path for other in self._written()):
            if not (is_finite(kept.policy) and is_finite(kept.trainer["style"])):
                return
            own = (with_tensors(state, Tensor.clone) for state in (kept.policy, kept.trainer))  # files have no use for all that lies beside
            save_in_run(self._run_dir, self._checkpoint(*own), kept.iteration, self._keep)
            logger.warning("'%s' has what was learned until iteration %d; go on with --resume '%s'", path, kept.iteration, self._run_dir)
        make_latest(max(self._written(), default=path))  # another may have written a later one meanwhile, or been lost before it did this

    def _written(self) -> List[Path]:
        """The checkpoints of this training: a run that goes on may have later ones, damaged or left behind."""
        return [path for path, *numbers in writings(self._run_dir) if (path, *numbers) not in self._earlier]


def _is_there(kept: Kept) -> bool:
    """Whether a state has arrived, or does so soon. Looks at memory and asks nobody."""
    last = time.monotonic() + _ARRIVAL_SECONDS
    while not kept.has_arrived and time.monotonic() < last:
        time.sleep(_LOOK_SECONDS)
    return bool(kept.has_arrived)
