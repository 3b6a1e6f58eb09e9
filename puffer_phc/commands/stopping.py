"""Ctrl-C and SIGTERM: a training ends after its iteration, and where that never comes, as when another process is lost, all the same."""

import contextlib
import os
import signal
import socket
import threading
from typing import ContextManager, Iterator, List

from puffer_phc.command_line import INTERRUPTED, TERMINATED
from puffer_phc.learn.trainer import Trainer
from puffer_phc.resources import num_processes

PATIENCE_SECONDS = 12.0
"""How long one of several processes may take to the end of its iteration. torchrun kills after 30: the rest is for writing."""

_EXIT_CODES = {int(signal.SIGINT): INTERRUPTED, int(signal.SIGTERM): TERMINATED}


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
    last_resort: ContextManager[None] = contextlib.nullcontext() if is_alone else ending_the_stuck(trainer)
    try:
        with last_resort:
            yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def ending_the_stuck(trainer: Trainer) -> Iterator[None]:
    """In it, a process that was told to stop and waits for others in vain saves what it last kept, and ends.

    Handlers of signals run in the main thread, between two steps of the interpreter: not while it waits for a sum or a device. A thread
    is told of signals through a socket, without the interpreter.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    thread = threading.Thread(target=_end_if_stuck, args=(reader, trainer), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        trainer.rescue.is_over.set()
        writer.close()
        thread.join()
        reader.close()


def _end_if_stuck(signals: socket.socket, trainer: Trainer) -> None:
    """Wait for a signal to stop, and then for the training to end; where it doesn't, end the process."""
    code = None
    while code is None:
        number = signals.recv(1)
        if not number:
            return
        code = _EXIT_CODES.get(number[0])
    rescue = trainer.rescue
    if not rescue.is_over.wait(PATIENCE_SECONDS):
        rescue.save()
        if not rescue.is_over.is_set():
            os._exit(code)
