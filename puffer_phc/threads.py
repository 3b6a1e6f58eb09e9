"""How many threads torch's own arithmetic takes."""

import contextlib
from typing import ContextManager, Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Torch on one thread: small tensors are not worth sharing out, and its waiting threads take cores from whoever computes beside it."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def one_thread_on(device: torch.device) -> ContextManager[None]:
    """``one_thread`` where ``device`` is the CPU, whose cores an engine may have; a GPU's arithmetic takes no threads."""
    return one_thread() if device.type == "cpu" else contextlib.nullcontext()
