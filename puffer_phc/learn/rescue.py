"""What several processes have learned outlasts the loss of one: each keeps the state after the last whole iteration, to save it alone."""

import contextlib
import logging
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional

import torch
from torch import Tensor

from puffer_phc.errors import PhcError
from puffer_phc.learn.checkpoint import Checkpoint
from puffer_phc.learn.resume import with_tensors
from puffer_phc.learn.run_folder import checkpoint_path, save_in_run

logger = logging.getLogger(__name__)

_TURN_SECONDS, _LONGEST_SECONDS = 1.0, 8.0
"""How long each process waits for the ones before it, so that one writes for all, whichever of them is left."""

_ANSWER_SECONDS = 2.0
"""How long the device may take to say that it has written a state. That takes milliseconds where it can."""


class Kept(NamedTuple):
    """A state that nothing changes any more, on the host."""

    iteration: int
    policy: Dict[str, Tensor]
    trainer: Dict[str, Any]
    """Of ``Checkpoint``."""
    copies: Optional[torch.cuda.Event]
    """After which the device has written it; None where it is there."""


class Rescue:
    """Saves, without asking anybody, what was last kept: once, from any thread, while the main one may be stuck in an exchange.

    ``checkpoint`` makes one of a policy's and a trainer's state. Nothing is asked of the device then but whether it has written the last
    state: a driver that stands still, as where the main thread waits in it for an exchange, would not come to anything else, and may not
    even answer. In that case the state before is taken.
    """

    def __init__(self, run_dir: Path, checkpoint: Callable[[Any, Any], Checkpoint], rank: int, keep: int, device: torch.device) -> None:
        self._run_dir, self._checkpoint, self._rank, self._keep = run_dir, checkpoint, rank, keep
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._lock = threading.Lock()
        self._states: List[Kept] = []
        self.is_over = threading.Event()
        """Set where there is nothing more to wait for from others."""

    def keep(self, iteration: int, policy: Dict[str, Tensor], trainer: Dict[str, Any]) -> None:
        """Copy the state after ``iteration`` to the host, which the device does beside what comes next."""
        own_policy, own_trainer = with_tensors(policy, Tensor.clone), with_tensors(trainer, Tensor.clone)
        with self._beside() as copies:
            kept = Kept(iteration, with_tensors(own_policy, self._to_host), with_tensors(own_trainer, self._to_host), copies)
        with self._lock:
            self._states = [*self._states[-1:], kept]

    def let_go(self) -> None:
        """All exchanges are behind: what is to be saved now is the whole state."""
        with self._lock:
            self._states = []
            self.is_over.set()

    def save(self) -> None:
        """Write what was last kept as a checkpoint of the run, unless that is there, and say so. Raises nothing: these are last words."""
        with self._lock:
            states, self._states = self._states, []
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
        if checkpoint_path(self._run_dir, kept.iteration).exists() or not (_is_finite(kept.policy) and _is_finite(kept.trainer["style"])):
            return
        path = save_in_run(self._run_dir, self._checkpoint(kept.policy, kept.trainer), kept.iteration, self._keep)
        logger.warning("'%s' has what was learned until iteration %d; go on with --resume '%s'", path, kept.iteration, self._run_dir)

    @contextlib.contextmanager
    def _beside(self) -> Iterator[Optional[torch.cuda.Event]]:
        """In it, the device works on a stream of its own; yields what is there when that is done."""
        if self._stream is None:
            yield None
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        copies = torch.cuda.Event()
        with torch.cuda.stream(self._stream):
            yield copies
            copies.record(self._stream)

    def _to_host(self, own: Tensor) -> Tensor:
        """``own``, which nobody else has, on the host; where it comes from the device, in locked memory, without waiting."""
        if own.is_cuda and self._stream is not None:
            own.record_stream(self._stream)
        return own.to("cpu", non_blocking=True)


def _is_there(kept: Kept) -> bool:
    """Whether the device has written a state, or does so soon. Asked in a thread that may be left behind: the driver may never answer."""
    if kept.copies is None:
        return True
    answers: List[bool] = []
    thread = threading.Thread(target=_ask, args=(kept.copies, answers), daemon=True)
    thread.start()
    thread.join(_ANSWER_SECONDS)
    return answers == [True]


def _ask(copies: torch.cuda.Event, answers: List[bool]) -> None:
    with contextlib.suppress(RuntimeError):  # of a device that is lost
        copies.synchronize()
        answers.append(True)


def _is_finite(state: Any) -> bool:
    """Whether all tensors in ``state`` (dictionaries of them), on the CPU, are finite."""
    if isinstance(state, dict):
        return all(map(_is_finite, state.values()))
    return not isinstance(state, Tensor) or bool(state.isfinite().all())
