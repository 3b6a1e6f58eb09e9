"""What several processes have learned outlasts the loss of one: each keeps the state after the last whole iteration, to save it alone."""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Callable, ContextManager, Dict, NamedTuple, Optional

import torch
from torch import Tensor

from puffer_phc.errors import PhcError
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.resume import with_tensors
from puffer_phc.learn.run_folder import checkpoint_path, save_in_run

logger = logging.getLogger(__name__)

_TURN_SECONDS, _LONGEST_SECONDS = 1.0, 8.0
"""How long each process waits for the ones before it, so that one writes for all, whichever of them is left."""


class Kept(NamedTuple):
    """A state that nothing changes any more, on the device."""

    iteration: int
    policy: Dict[str, Tensor]
    trainer: Dict[str, Any]
    """Of ``Checkpoint``."""
    is_copied: Optional[torch.cuda.Event]
    """When the device has it; None on a CPU."""


class Rescue:
    """Saves, without asking anybody, what was last kept: once, from any thread, while the main one may be stuck in an exchange.

    ``checkpoint`` makes one of a policy's and a trainer's state. Copies to the host are all that is asked of the device then, on a stream
    of their own: a stuck sum keeps the others waiting, and a kernel's first launch could wait for it, too.
    """

    def __init__(self, run_dir: Path, checkpoint: Callable[[Any, Any], Checkpoint], rank: int, keep: int, device: torch.device) -> None:
        self._run_dir, self._checkpoint, self._rank, self._keep = run_dir, checkpoint, rank, keep
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._lock = threading.Lock()
        self._last: Optional[Kept] = None
        self.is_over = threading.Event()
        """Set where there is nothing more to wait for from others."""

    def keep(self, iteration: int, policy: Dict[str, Tensor], trainer: Dict[str, Any]) -> None:
        """Take copies of the state after ``iteration``. The device need not have done with them, but has to come to it without others."""
        kept = Kept(iteration, with_tensors(policy, Tensor.clone), with_tensors(trainer, Tensor.clone), self._mark())
        with self._lock:
            self._last = kept

    def let_go(self) -> None:
        """All exchanges are behind: what is to be saved now is the whole state."""
        with self._lock:
            self._last = None
            self.is_over.set()

    def save(self) -> None:
        """Write what was last kept as a checkpoint of the run, unless that is there, and say so. Raises nothing: these are last words."""
        with self._lock:
            last, self._last = self._last, None
            if last is not None:
                try:
                    self._write(last)
                except (PhcError, RuntimeError, OSError) as error:
                    logger.warning("what was learned until iteration %d is lost: %s", last.iteration, error)

    def _write(self, kept: Kept) -> None:
        with self._reading(kept):
            policy, trainer = with_tensors(kept.policy, Tensor.cpu), with_tensors(kept.trainer, Tensor.cpu)
        time.sleep(min(self._rank * _TURN_SECONDS, _LONGEST_SECONDS))
        if checkpoint_path(self._run_dir, kept.iteration).exists() or not (_is_finite(policy) and _is_finite(trainer["style"])):
            return
        path = save_in_run(self._run_dir, self._checkpoint(policy, trainer), kept.iteration, self._keep)
        logger.warning("'%s' has what was learned until iteration %d; go on with --resume '%s'", path, kept.iteration, self._run_dir)

    def _mark(self) -> Optional[torch.cuda.Event]:
        if self._stream is None:
            return None
        event = torch.cuda.Event()
        event.record(torch.cuda.current_stream(self._stream.device))
        return event

    def _reading(self, kept: Kept) -> ContextManager[object]:
        if self._stream is None or kept.is_copied is None:
            return contextlib.nullcontext()
        self._stream.wait_event(kept.is_copied)
        return torch.cuda.stream(self._stream)


def _is_finite(state: Any) -> bool:
    """Whether all tensors in ``state`` (dictionaries of them), on the CPU, are finite."""
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not isinstance(state, Tensor) or bool(state.isfinite().all())
