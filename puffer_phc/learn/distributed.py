"""The processes that train one policy together: one per GPU under torchrun, or just one."""

import contextlib
import importlib
import os
from datetime import timedelta
from types import TracebackType
from typing import Iterator, List, Optional, Type, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

from puffer_phc.errors import ConfigError, LostProcessError
from puffer_phc.learn.running_norm import Moments
from puffer_phc.resources import TORCHRUN_VARIABLES, num_processes

T = TypeVar("T")

_NCCL_CLEAN_UP_ONLY = "2"

_CALLS_FOR_GPUS = {
    # Where NCCL notices that a process is gone, the sums end and the next one raises; torch's own choice is to abort this process.
    "TORCH_NCCL_ASYNC_ERROR_HANDLING": _NCCL_CLEAN_UP_ONLY,
    # Torch's own launcher of compiled kernels keeps Python's lock, Triton's doesn't. A launch waits where a thousand are ahead of it behind
    # a sum that never ends, and the thread that is to save what was learned then (``rescue``) needs the lock.
    "TORCHINDUCTOR_USE_STATIC_CUDA_LAUNCHER": "0",
}
"""Variables that torch reads, unless the user has set them."""


class World:
    """This process's place among all, and the sums they share. With one process every method returns what it was given.

    What is exchanged raises LostProcessError where a process is gone, as far as the backend notices: gloo does at once, NCCL waits.
    A context that leaves the group at its end: in order, or at once where an error ends it.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, device_type: str = "cpu") -> None:
        self.rank = rank
        self.size = size
        self.local_rank = local_rank
        self._device = torch.device(device_type, local_rank) if device_type == "cuda" else torch.device("cpu")

    @classmethod
    def from_environment(cls, device_type: str, timeout_seconds: float = 600.0) -> "World":
        """Join the group that torchrun announces in the environment: NCCL on CUDA devices, gloo on CPUs; alone without torchrun.

        Raises ConfigError where the environment says that there are several, and not who they are.
        """
        size = num_processes()
        if size == 1:
            return cls()
        missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
        if missing:
            raise ConfigError(
                f"the environment's WORLD_SIZE is {size}, but {', '.join(missing)} are not there: start several processes by torchrun, "
                "or unset WORLD_SIZE for one"
            )
        local_rank = int(os.environ["LOCAL_RANK"])
        if device_type == "cuda":
            torch.cuda.set_device(local_rank)
            for name, value in _CALLS_FOR_GPUS.items():
                os.environ.setdefault(name, value)
        # This module's functions take the group that exists when it is first imported as their default, and torch imports it
        # lazily: imported later it would keep the group, and gloo's threads, alive into the interpreter's end, where a thread
        # that wants the interpreter lock aborts the process.
        importlib.import_module("torch.distributed.nn.functional")
        backend = "nccl" if device_type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout_seconds))
        return cls(dist.get_rank(), size, local_rank, device_type)

    @property
    def is_main(self) -> bool:
        """Whether this process writes, draws and logs."""
        return self.rank == 0

    def sum_(self, tensor: Tensor) -> Tensor:
        """``tensor`` summed over processes, in place."""
        if self.size > 1:
            with _exchange():
                dist.all_reduce(tensor)
        return tensor

    def mean_(self, tensor: Tensor) -> Tensor:
        """``tensor`` averaged over processes, in place."""
        return self.sum_(tensor).div_(self.size) if self.size > 1 else tensor

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is true in some process. Waits for all of them."""
        if self.size == 1:
            return flag
        return bool(self.sum_(torch.tensor(float(flag), device=self._device)).item() > 0)

    def broadcast_(self, tensors: "List[Tensor]") -> None:
        """Overwrite ``tensors`` with the first process's, in place."""
        if self.size > 1:
            with _exchange():
                for tensor in tensors:
                    dist.broadcast(tensor, src=0)

    def combined(self, local: Moments) -> Moments:
        """The moments of all processes' rows together."""
        if self.size == 1:
            return local
        count = self.sum_(local.count.clone())
        mean = self.sum_(local.mean * local.count) / count
        deviation = self.sum_(local.deviation + local.count * (local.mean - mean).square())
        return Moments(count, mean, deviation)

    def gather(self, value: T) -> "List[T]":
        """Every process's ``value`` (picklable), in rank order, on every process."""
        if self.size == 1:
            return [value]
        values: List[T] = [value] * self.size
        with _exchange():
            dist.all_gather_object(values, value)
        return values

    def __enter__(self) -> "World":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    def close(self) -> None:
        """Leave the group; NCCL waits until all do."""
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()

    def abandon(self) -> None:
        """Leave the group at once: the others, who may be in the middle of a sum that needs this process, get an error."""
        if self.size == 1 or not dist.is_initialized():
            return
        if self._device.type == "cpu":
            dist.destroy_process_group()  # gloo waits for nobody
        elif hasattr(dist.distributed_c10d, "_abort_process_group"):
            dist.distributed_c10d._abort_process_group()  # what torch else does at the interpreter's end; older versions only there


@contextlib.contextmanager
def _exchange() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LostProcessError(
            f"another process of this run is gone or out of reach; its own last words, or torchrun's about it, say why ({reason})"
        ) from error
