"""Ctrl-C and SIGTERM: a training ends after its iteration, and where that never comes, as when another process is lost, all the same."""

import contextlib
import logging
import os
import signal
import socket
import threading
from typing import ContextManager, Iterator, List, Optional, Union

from puffer_phc.command_line import INTERRUPTED, TERMINATED, TerminatedError, told_to_end
from puffer_phc.learn.rescue import Rescue
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resources import num_processes

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 12.0
"""How long one of several processes may take to the end of its iteration. torchrun kills after 30: the rest is for writing."""

_PATIENCE_BEFORE_SECONDS = 2.0
"""How long a process in which nothing was learned yet may take to whatever it tidies up."""

_LAUNCHED = "TORCHELASTIC_RUN_ID"
"""A variable that torchrun sets for the processes that it starts."""

_LOOK_SECONDS = 1.0
"""How often a process that torchrun has started looks whether torchrun is still there."""

_EXIT_CODES = {int(signal.SIGINT): INTERRUPTED, int(signal.SIGTERM): TERMINATED}


def exit_code(came: List[int]) -> int:
    """Of a training that stopped because of the signals that ``came``; one of several may be without any, where another was told."""
    return _EXIT_CODES[came[0]] if came else TERMINATED


class _Nothing:
    """What there is to save before a training begins."""

    def __init__(self) -> None:
        self.is_over = threading.Event()

    def save(self) -> None:
        pass


@contextlib.contextmanager
def ending_when_told() -> Iterator[None]:
    """In it Ctrl-C and SIGTERM end the process, soon even where it waits for others or for a compiler: nothing was learned yet."""

    def end(_number: int, _frame: object) -> None:
        raise TerminatedError

    before = signal.signal(signal.SIGTERM, end)
    try:
        with ending_the_stuck(_Nothing(), _PATIENCE_BEFORE_SECONDS):
            yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def stopping(trainer: Trainer) -> Iterator[List[int]]:
    """Ctrl-C and SIGTERM stop ``trainer`` after its iteration. Yields the list of signals that came.

    A second one ends a single process at once. Several end by themselves, soon; and torchrun may pass on what a terminal has sent to all.
    """
    came: List[int] = []
    is_alone = num_processes() == 1

    def stop(number: int, _frame: object) -> None:
        if came and is_alone:
            raise KeyboardInterrupt
        came.append(number)
        trainer.stop()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    last_resort: ContextManager[None] = contextlib.nullcontext() if is_alone else ending_the_stuck(trainer.rescue, PATIENCE_SECONDS)
    try:
        with last_resort:
            yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_the_stuck(rescue: Union[Rescue, _Nothing], patience: float) -> Iterator[None]:
    """In it, a process that was told to stop and ``patience`` s later still waits for others saves what ``rescue`` last kept, and ends.

    Handlers of signals run in the main thread, between two steps of the interpreter: not while it waits for a sum or a device. A thread
    is told of signals through a socket, without the interpreter.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_if_stuck, args=(reader, rescue, patience), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        rescue.is_over.set()
        writer.close()
        thread.join()
        reader.close()


def _end_if_stuck(signals: socket.socket, rescue: Union[Rescue, _Nothing], patience: float) -> None:
    """Wait for a signal to stop, and then for the training to end; where it doesn't, end the process."""
    code = _code_of_first(signals)
    if code is not None and not rescue.is_over.wait(patience):
        rescue.save()
        if not rescue.is_over.is_set():
            os._exit(told_to_end(code))


def _code_of_first(signals: socket.socket) -> Optional[int]:
    """The exit code of the first signal to stop that comes; None where the training ends before.

    A process whose torchrun is killed tells itself to stop: nobody would end it, and it would train on beside the one that resumes its run.
    """
    launcher = os.getppid() if _LAUNCHED in os.environ else None
    signals.settimeout(_LOOK_SECONDS)
    while True:
        try:
            number = signals.recv(1)
        except socket.timeout:
            if launcher not in (None, os.getppid()):
                logger.warning("torchrun is gone: the training stops")
                os.kill(os.getpid(), signal.SIGTERM)
            continue
        if not number:
            return None
        if number[0] in _EXIT_CODES:
            return _EXIT_CODES[number[0]]
